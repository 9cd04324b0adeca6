"""The timeline of a run as data: rows with segments of time, loops as one row, and the window that is shown."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import zip_longest

from stepstream.contract.kinds import OPEN_STEP_STATUSES, StepKind, StepStatus
from stepstream.runtime.readmodel.views import RunView, StepView, queue_of

# Steps whose ids differ in their numbers only are one row from this many on.
FOLDED_MIN = 5
_NUMBER = re.compile(r"\d+")


class Phase(StrEnum):
    """What a segment of a bar shows."""

    QUEUE = "queue"
    RETRY = "retry"
    RUN = "run"
    WAIT = "wait"
    CHILD = "child"
    FAILED = "failed"


# Of steps without a body.
_PHASES: Mapping[str, Phase] = {
    StepKind.INVOKE: Phase.CHILD,
    StepKind.SLEEP: Phase.WAIT,
    StepKind.WAIT: Phase.WAIT,
    StepKind.SIGNAL: Phase.WAIT,
}


@dataclass(frozen=True, slots=True)
class Segment:
    """A part of a bar (Unix ms)."""

    phase: Phase
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Window:
    """The time that is shown (Unix ms), of a run that lasts from `first` to `last`."""

    first: int
    last: int
    start: int
    end: int

    def position(self, at_ms: int, width: int) -> float:
        """Return where a time is on a bar of this width, within the bar."""
        return round(width * min(max((at_ms - self.start) / max(self.end - self.start, 1), 0), 1), 1)

    def moved(self, share: float, zoom: float) -> tuple[int, int]:
        """Return another window as offsets from the start of the run: moved by a share of itself, and zoomed."""
        length = max(self.end - self.start, 1)
        middle = (self.start + self.end) / 2 + share * length
        half = min(max(length / zoom / 2, 1), max(self.last - self.first, 1) / 2)
        middle = min(max(middle, self.first + half), max(self.last - half, self.first + half))
        return round(middle - half) - self.first, round(middle + half) - self.first


@dataclass(frozen=True, slots=True)
class Fold:
    """Steps whose ids differ in their numbers only; `pattern` has # for each number."""

    pattern: str
    steps: tuple[StepView, ...]

    @property
    def label(self) -> str:
        """The id of the steps, with the first and the last of each number that differs."""
        first, last = (_NUMBER.findall(step.id) for step in (self.steps[0], self.steps[-1]))
        spans = [one if one == other else f"{one}…{other}" for one, other in zip(first, last, strict=True)]
        parts = _NUMBER.split(self.steps[0].id)
        return "".join(part + span for part, span in zip_longest(parts, spans, fillvalue=""))

    @property
    def statuses(self) -> Counter[str]:
        """How many of the steps have each status."""
        return Counter(step.status for step in self.steps)


def rows_of(steps: Sequence[StepView], opened: Iterable[str]) -> list[StepView | Fold]:
    """Return steps in their order; those of a loop as one Fold at the place of its first, unless it is opened."""
    groups: dict[str, list[StepView]] = {}
    for step in steps:
        groups.setdefault(_NUMBER.sub("#", step.id), []).append(step)
    unfolded = set(opened)
    rows: list[StepView | Fold] = []
    for step in steps:
        pattern = _NUMBER.sub("#", step.id)
        members = groups[pattern]
        if len(members) < FOLDED_MIN:
            rows.append(step)
            continue
        if members[0] is step:
            rows.append(Fold(pattern, tuple(members)))
        if pattern in unfolded:
            rows.append(step)
    return rows


def window_of(run: RunView, now_ms: int, query: Mapping[str, str]) -> Window:
    """Return the window of the parameters `from` and `to`, which are offsets from the start of the run (ms)."""
    first = min(run.accepted_at, run.started_at)
    ends = [run.ended_at or now_ms, *(max(step.ended_at, step.first_at) for step in run.steps)]
    last = max(first + 1, *ends)
    start, end = (int(found) if (found := query.get(name, "")).isdecimal() else None for name in ("from", "to"))
    lower = min(first + (start or 0), last - 1)
    upper = min(first + end, last) if end is not None else last
    return Window(first, last, lower, max(upper, lower + 1))


def began_at(step: StepView) -> int:
    """Return when the last attempt of a step began, or its wait, Unix ms."""
    return step.first_at if step.kind in _PHASES else step.started_at or step.first_at


def bar_of(row: StepView | Fold, now_ms: int) -> list[Segment]:
    """Return the segments of a row, in order of time."""
    if isinstance(row, Fold):
        phases = {_PHASES.get(step.kind, Phase.RUN) for step in row.steps}
        phase = phases.pop() if len(phases) == 1 else Phase.RUN
        phase = Phase.FAILED if row.statuses[StepStatus.FAILED] else phase
        starts = min(step.first_at or step.started_at for step in row.steps)
        return [Segment(phase, starts, max(step.ended_at or now_ms for step in row.steps))]
    is_open = row.status in OPEN_STEP_STATUSES
    end = now_ms if is_open else row.ended_at
    if (waits := _PHASES.get(row.kind)) is not None:
        return [Segment(waits, row.first_at, end)]
    return _attempts_of(row, end, is_open=is_open)


def _attempts_of(step: StepView, end: int, *, is_open: bool) -> list[Segment]:
    """Return the attempts of a body, and what it waited for before each of them."""
    segments: list[Segment] = []
    before, last = Phase.QUEUE, step.first_at
    for failed in step.failures:
        started = failed.started_at or failed.at
        segments += [Segment(before, last, started)] if last < started else []
        segments += [Segment(Phase.FAILED, started, failed.at)] if started < failed.at else []
        before, last = Phase.RETRY, failed.at
    if step.attempts > 1 or step.status == StepStatus.RETRYING:
        before = Phase.RETRY
    if is_open and step.status != StepStatus.RUNNING:
        return [*segments, Segment(before, last, end)]
    started = step.started_at or last
    segments += [Segment(before, last, started)] if last < started else []
    return [*segments, Segment(Phase.FAILED if step.status == StepStatus.FAILED else Phase.RUN, started, end)]


def queue_label(step: StepView) -> str:
    """Return what a step waits for or where it runs, as text."""
    queue = queue_of(step.kind, step.detail)
    return f"queue {queue}" if queue else step.detail
