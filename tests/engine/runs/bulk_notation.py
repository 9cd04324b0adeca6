"""The notation of bulk operations in record tables."""

from stepstream.contract.codec import NULL
from stepstream.contract.commands import Memo
from stepstream.contract.events import EventRecord
from stepstream.contract.kinds import StepKind
from stepstream.contract.operators.bulk import (
    BulkAction,
    BulkCancelRequested,
    BulkChanged,
    BulkItem,
    BulkItemEnded,
    BulkPageAdded,
    BulkStarted,
)
from stepstream.contract.operators.control import Rerun, RerunRequested
from stepstream.contract.outcomes import Value
from stepstream.engine.state.records import Input
from tests.engine.words import RunOf, Words


def read_bulk(words: Words, run_of: RunOf) -> Input:
    """Return a record of a bulk operation; a run of a page is `r1`.

    `a*3` means `a0 a1 a2`. `r1:f` reruns it as a run of function f, and `r1:f:2` with two results.
    """
    verb, operation, reply = words.take(), words.take(), words.text("reply")
    match verb:
        case "start":
            action, upload, rate = BulkAction(words.take()), words.take(), words.number("rate", 100)
            until = words.number("until", 0)
            return BulkStarted(operation, upload, action, rate, "ann", words.text("why"), reply, until)
        case "page":
            upload, first, last = words.take(), int(words.take()), words.has("last")
            runs = [run for word in words.plain for run in _runs(word)]
            items = tuple(_item(operation, *run.split(":"), run_of=run_of) for run in runs)
            words.plain.clear()
            return BulkPageAdded(operation, upload, first, items, last, reply)
        case "ended":
            return BulkItemEnded(operation, int(words.take()), words.take(), words.text("reason"))
        case _:
            assert verb == "cancel", f"{verb!r} is not a record of a bulk operation"
            return BulkCancelRequested(operation, "bob", reply)


def _runs(word: str) -> list[str]:
    name, _, count = word.partition("*")
    return [f"{name}{number}" for number in range(int(count))] if count else [word]


def _item(operation: str, run: str, function: str = "", copied: str = "0", *, run_of: RunOf) -> BulkItem:
    events = (EventRecord("go", id="e1"),)
    memos = tuple(Memo(step, step, StepKind.RUN, Value(NULL)) for step in "abc"[: int(copied)])
    rerun = RerunRequested(operation, function, Rerun(run_of(run)), events, memos) if function else None
    return BulkItem(run_of(run), rerun)


def show_bulk(record: BulkChanged) -> str:
    """Return the state of a bulk operation in words."""
    outcomes = "".join(f" {outcome}={runs}" for outcome, runs in record.outcomes)
    failures = "".join(f" {failure.run_id}:{failure.reason}" for failure in record.failures)
    return f"bulk {record.operation} {record.state} {record.sent}/{record.total}{outcomes}{failures}"
