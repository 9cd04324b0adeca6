"""What holds for limits after any number of faults, checked from history, the log of bodies, and the rows of limits."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import count
from typing import Any

from stepstream.contract.codec import load_json
from stepstream.contract.history import HistoryEntry, RunBegan, RunEnded
from stepstream.contract.ids import time_part
from stepstream.runtime.kafka.client.settings import SESSION_S
from tests.kafka.chaos.limited_app import BATCH_SIZE, RUNS_MAX, SHARED_MAX, STEPS_MAX, THROTTLE_BURST, THROTTLE_NS
from tests.kafka.chaos.load import kind_of
from tests.kafka.cluster.fleet import NEVER_NS, Life
from tests.kafka.cluster.history import Runs

# After a worker was frozen, it may run bodies of runs that have moved until it learns that from the group.
_FROZEN_NS = int(SESSION_S * 1e9)
# A limit with a period counts in milliseconds.
_CLOCK_NS = 2_000_000
_STEPS = {"steps": ["left", "middle", "right"], "shared": ["left", "right"]}
# Why a run of a kind may be skipped.
_SKIPPED = {"single": "skipped", "debounced": "debounced", "batched": "batched"}


@dataclass(frozen=True, slots=True)
class Body:
    """A body that ran from `start` to `end` (monotonic ns), for a value of the key of its limit."""

    function: str
    key: str
    run_id: str
    step: str
    start: int
    end: int = NEVER_NS


@dataclass(frozen=True, slots=True)
class Active:
    """How many steps of a key may run at a time, or how many whole runs, each from its first body to its last."""

    most: int
    whole_runs: bool = False


ACTIVE = {
    "steps": Active(STEPS_MAX),
    "shared": Active(SHARED_MAX),
    "runs": Active(RUNS_MAX, whole_runs=True),
    "single": Active(1, whole_runs=True),
}


def is_limited(entries: Sequence[HistoryEntry]) -> bool:
    """Return whether a run is one of a function with a limit."""
    began = entries[0]
    return isinstance(began, RunBegan) and began.events[0].name.startswith("limited/")


def bodies_of(lines: Sequence[str], lives: Sequence[Life]) -> list[Body]:
    """Return the bodies of a log; one of a worker that was killed or frozen ended at that moment.

    Raise LookupError for a body of no known process.
    """
    ended: list[tuple[str, Body]] = []
    running: dict[tuple[str, ...], Body] = {}
    for line in lines:
        edge, at, pid, *names = line.split()
        of = (pid, *names)
        if edge == "started":
            if of in running:  # The body of an earlier process with the same id.
                ended.append((pid, running.pop(of)))
            function, key, run_id, step = names
            running[of] = Body(function, key, run_id, step, int(at))
        else:
            ended.append((pid, replace(running.pop(of), end=int(at))))
    ended += ((of[0], body) for of, body in running.items())
    by_pid: dict[str, list[Life]] = defaultdict(list)
    for life in lives:
        by_pid[str(life.pid)].append(life)
    return [cut for pid, body in ended for cut in _within(_life_of(body, by_pid[pid]), body)]


def _life_of(body: Body, lives: Sequence[Life]) -> Life:
    for life in lives:
        if life.began_ns <= body.start <= life.ended_ns:
            return life
    raise LookupError(f"{body} ran in no known process")


def _within(life: Life, body: Body) -> Iterator[Body]:
    """Yield a body as long as it counts, and none if it began before its worker knew that it had been frozen."""
    body = replace(body, end=min(body.end, life.ended_ns))
    for since, until in life.frozen:
        if since <= body.start < until + _FROZEN_NS:
            return
        if body.start < since:
            # The permit is that of the run, which another worker has by then.
            body = replace(body, end=min(body.end, since))
    yield body


def interrupted(lines: Sequence[str]) -> int:
    """Return how many bodies of a log have started and not ended, because their worker was killed."""
    edges = Counter(line.partition(" ")[0] for line in lines)
    return edges["started"] - edges["ended"]


def most_active(bodies: Sequence[Body]) -> dict[str, dict[str, int]]:
    """Return how many steps or runs of each function and key were running at the same time, at most."""
    found: dict[str, dict[str, int]] = {function: {} for function in ACTIVE}
    for function, rule in ACTIVE.items():
        spans: dict[str, dict[tuple[str, ...], list[tuple[int, int]]]] = defaultdict(lambda: defaultdict(list))
        for body in bodies:
            if body.function == function:
                holder = (body.run_id,) if rule.whole_runs else (body.run_id, body.step)
                spans[body.key][holder].append((body.start, body.end))
        for key, of_key in spans.items():
            if rule.whole_runs:
                whole = {of: [(min(s for s, _ in each), max(e for _, e in each))] for of, each in of_key.items()}
                found[function][key] = _most(whole)
            else:
                found[function][key] = _most(of_key)
    return found


def _most(spans: Mapping[tuple[str, ...], Sequence[tuple[int, int]]]) -> int:
    """Return how many holders have a span at the same time, at most."""
    edges = [
        edge
        for holder, of_holder in spans.items()
        for start, end in of_holder
        for edge in ((start, 1, holder), (end, -1, holder))
    ]
    open_spans: Counter[tuple[str, ...]] = Counter()
    most = 0
    for _, change, holder in sorted(edges, key=lambda edge: edge[:2]):
        open_spans[holder] += change
        if not open_spans[holder]:
            del open_spans[holder]
        most = max(most, len(open_spans))
    return most


def judge_active(bodies: Sequence[Body]) -> Iterator[str]:
    """At no moment more steps or runs of a key were running than the limit allows."""
    for function, of_function in most_active(bodies).items():
        rule = ACTIVE[function]
        for key, most in of_function.items():
            if most > rule.most:
                what = "runs" if rule.whole_runs else "steps"
                yield f"{most} {what} of {function} with key {key} were running at a time, of {rule.most}"


def limits_reached(bodies: Sequence[Body]) -> int:
    """Return how many functions had as many steps of a key running as their limits allow."""
    return sum(
        max(of_function.values(), default=0) >= ACTIVE[function].most
        for function, of_function in most_active(bodies).items()
        if not ACTIVE[function].whole_runs
    )


def judge_starts(runs: Runs, bodies: Sequence[Body], until_ns: int) -> Iterator[str]:
    """No more runs were requested and started in any time than the throttle allows in it, up to a moment.

    A run may start long after the throttle let it pass, if its engine or worker is away; but it was requested before.
    """
    first: dict[str, int] = {}
    for body in bodies:
        if body.function == "throttled" and body.start < until_ns:
            first[body.run_id] = min(first.get(body.run_id, NEVER_NS), body.start)
    starts = sorted((start, _data(runs[run_id])["at"], run_id) for run_id, start in first.items())
    for since in {requested for _, requested, _ in starts}:
        after = [(start, run_id) for start, requested, run_id in starts if requested >= since]
        for (start, run_id), number in zip(after, count(-THROTTLE_BURST), strict=False):
            if start < since + number * THROTTLE_NS - _CLOCK_NS:
                yield f"{run_id}: the throttle let {number + THROTTLE_BURST + 1} runs start in {start - since} ns"
                break


def judge_limited(runs: Runs, sent: int) -> Iterator[str]:
    """Each event with a limit has one run, which completed, or was skipped if its limit may do so."""
    found: dict[int, list[str]] = defaultdict(list)
    for run_id, entries in runs.items():
        found[_data(entries)["n"]].append(run_id)
    for number in range(sent):
        if len(found[number]) != 1:
            yield f"limited-{number}: {len(found[number])} runs instead of one: {found[number]}"
    yield from (f"limited-{number} was not sent" for number in found.keys() - set(range(sent)))
    for run_id, entries in runs.items():
        number, ended = _data(entries)["n"], entries[-1]
        if not isinstance(ended, RunEnded):
            yield f"{run_id} of {kind_of(number)} has not ended"
        elif not _is_as_expected(ended, number):
            yield f"{run_id} of {ended.function}: {ended.status}, {ended.error or ended.output!r}"
    yield from _judge_batches(runs)
    yield from _judge_latest(runs)


def _is_as_expected(ended: RunEnded, number: int) -> bool:
    kind = kind_of(number)
    if ended.status == "skipped":
        return ended.error is not None and ended.error.code == _SKIPPED.get(kind)
    output = load_json(ended.output)
    expected = {"n": number, "steps": _STEPS.get(kind, ["first", "last"])}
    return ended.function == kind and isinstance(output, dict) and expected.items() <= output.items()


def _judge_batches(runs: Runs) -> Iterator[str]:
    """Each event of a batch is in one run."""
    counted: Counter[int] = Counter()
    for run_id, entries in runs.items():
        if batch := _output(entries).get("batch"):
            counted.update(batch)
            if len(batch) > BATCH_SIZE:
                yield f"{run_id} has a batch of {len(batch)} events, of {BATCH_SIZE}"
    for entries in runs.values():
        number = _data(entries)["n"]
        if kind_of(number) == "batched" and counted[number] != 1:
            yield f"limited-{number} is in {counted[number]} batches"


def _judge_latest(runs: Runs) -> Iterator[str]:
    """At least one run of each key completed; of the debounced runs, the latest."""
    completed: dict[tuple[str, str], list[str]] = defaultdict(list)
    latest: dict[tuple[str, str], str] = {}
    for run_id, entries in runs.items():
        data, ended = _data(entries), entries[-1]
        of = kind_of(data["n"]), data["key"]
        latest[of] = max(latest.get(of, ""), time_part(run_id))
        if isinstance(ended, RunEnded) and ended.status == "completed":
            completed[of].append(time_part(run_id))
    for (kind, key), at in latest.items():
        if not completed[kind, key]:
            yield f"no run of {kind} with key {key} completed"
        elif kind == "debounced" and max(completed[kind, key]) < at:
            yield f"the latest run of {kind} with key {key} was skipped"


def _data(entries: Sequence[HistoryEntry]) -> dict[str, Any]:
    began = entries[0]
    data = load_json(began.events[0].data) if isinstance(began, RunBegan) else None
    return data if isinstance(data, dict) else {"n": -1, "at": 0}


def _output(entries: Sequence[HistoryEntry]) -> dict[str, Any]:
    ended = entries[-1]
    output = load_json(ended.output) if isinstance(ended, RunEnded) else None
    return output if isinstance(output, dict) else {}
