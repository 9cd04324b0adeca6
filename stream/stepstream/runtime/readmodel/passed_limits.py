"""The limits that a run or the attempts of a step passed, as a column: JSON objects, each with a comma after it."""

from dataclasses import dataclass

import msgspec

from stepstream.contract.codec import encode
from stepstream.contract.gates import PassedGate
from stepstream.contract.history import RunAdmitted, RunEnded, StepAttemptFailed, StepCancelled, StepEnded
from stepstream.contract.limits import RETRIES_MAX
from stepstream.contract.text.wording import counted, length_text


@dataclass(frozen=True, slots=True)
class PassedLimit:
    """A limit that was passed: its name, and the value of its `key`; at once, or after `waited_ms` in the queue.

    Its `place` in the queue is counted from 1, 0 if it passed at once. A body of a limit that counts units asked for so
    many `units`, and has said what it `used`; None if it did not, or for other limits.
    """

    limit: str
    key: str = ""
    waited_ms: int = 0
    place: int = 0
    units: int | None = None
    used: int | None = None


@dataclass(frozen=True, slots=True)
class LimitDecision:
    """What was decided at a time (`at`, Unix ms): a run `passed` its limits, or returned its permits while it waits.

    One of a step is that of an `attempt` (from 0), which returned its permits at that time. `returned` says whether the
    permits were returned.
    """

    at: int
    passed: tuple[PassedLimit, ...] = ()
    returned: bool = False
    attempt: int = 0


_decisions = msgspec.json.Decoder(tuple[LimitDecision, ...]).decode


def passed_text(entry: RunAdmitted | RunEnded | StepAttemptFailed | StepEnded | StepCancelled) -> str:
    """Return what the column gets for an entry: nothing without limits, and of a step nothing beyond RETRIES_MAX."""
    attempt = entry.attempt if isinstance(entry, StepAttemptFailed | StepEnded) else 0
    if not entry.passed or attempt > RETRIES_MAX:
        return ""
    passed = tuple(map(_passed, entry.passed))
    return _text(LimitDecision(entry.at, passed, not isinstance(entry, RunAdmitted), attempt))


def parked_text(parked_at: int) -> str:
    """Return what the column gets for a run that has returned its permits while it waits, nothing if it has not."""
    return _text(LimitDecision(parked_at, returned=True)) if parked_at else ""


def _text(decision: LimitDecision) -> str:
    return f"{encode(decision).decode()},"


def _passed(gate: PassedGate) -> PassedLimit:
    return PassedLimit(gate.name, gate.value, gate.waited_ms, gate.place, gate.units, gate.used)


def read_decisions(text: str) -> tuple[LimitDecision, ...]:
    """Return the decisions of a column, in order of time."""
    return _decisions(f"[{text.removesuffix(',')}]")


def passed_sentence(passed: PassedLimit) -> str:
    """Return a limit that was passed in words, such as `openai: place 3, waited 2.5 s`."""
    of = f"{passed.limit} of {passed.key}" if passed.key else passed.limit
    waited = f"place {passed.place:,}, waited {length_text(passed.waited_ms)}" if passed.place else "at once"
    units = "" if passed.units is None else f", asked for {counted(passed.units, 'unit')}"
    used = "" if passed.used is None else f", used {passed.used:,}"
    return f"{of}: {waited}{units}{used}"
