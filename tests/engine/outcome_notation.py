"""The notation of the outcome of a step and of a run, and of the progress of its body."""

from typing import Any, assert_never

from stepstream.contract.codec import NULL, Raw, load_json
from stepstream.contract.history import RunEnded
from stepstream.contract.outcomes import ErrorInfo, Failure, Outcome, TimedOut, Value
from tests.engine.words import Words


def read_outcome(word: str) -> Outcome:
    """Return the outcome that a word means: `=JSON`, `!ErrorName`, or `~` for a timeout."""
    match word[:1]:
        case "=":
            return Value(Raw(word[1:].encode()))
        case "!":
            return Failure(ErrorInfo(word[1:]))
        case _:
            assert word == "~", f"{word!r} is not an outcome"
            return TimedOut()


def show_outcome(outcome: Outcome) -> str:
    """Return an outcome in the notation of the tables; an event is shown by its name and id."""
    match outcome:
        case Value(data):
            value: Any = load_json(data)
            if isinstance(value, dict) and "events" in value:
                return "=" + ",".join(f"{name}:{event['id']}" for name, event in value["events"].items())
            if isinstance(value, dict) and "name" in value:
                return f"={value['name']}:{value['id']}"
            return f"={bytes(data).decode()}"
        case Failure(error, raw):
            return f"!{error.code or error.name}{'' if raw is NULL else bytes(raw).decode()}"
        case TimedOut():
            return "~"
        case _:
            assert_never(outcome)


def show_end(entry: RunEnded) -> str:
    """Return the end of a run: status, run, outcome, what cancelled it, and its warnings."""
    outcome = Failure(entry.error, entry.raw) if entry.error else Value(entry.output)
    event = f" by {entry.cancelled_by.name}:{entry.cancelled_by.id}" if entry.cancelled_by else ""
    warnings = "".join(f" warned {warning}" for warning in entry.warnings)
    return f"{entry.status} {entry.run_id} {show_outcome(outcome)}{' final' * entry.non_retriable}{event}{warnings}"


def read_progress(words: Words) -> Raw:
    """Return the progress that `progress=JSON` means, null without it."""
    return Raw(words.text("progress").encode() or b"null")


def show_progress(progress: Raw) -> str:
    """Return what a heartbeat said as `at JSON`, nothing if it said nothing."""
    return "" if progress == NULL else f" at {bytes(progress).decode()}"
