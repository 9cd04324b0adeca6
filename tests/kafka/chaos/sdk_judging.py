"""The guarantees of an SDK app behind gateways after any number of faults, checked from history and side effects.

Bodies of such an app run at least once: a call that was sent is executed even if its gateway dies. What counts once is
their results.
"""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from stepstream.contract.codec import load_json
from stepstream.contract.history import HistoryEntry, RunBegan, RunEnded, StepEnded
from stepstream.contract.kinds import RunStatus
from stepstream.contract.outcomes import Value
from tests.kafka.chaos.judging import judge_run
from tests.kafka.cluster.history import Runs

WORK, ANSWER = "chaos-work", "chaos-answer"
# The steps with a body that appends a line, by function, and the earlier results that each body has seen.
STEPS: Mapping[str, Mapping[str, Sequence[str]]] = {
    WORK: {"first": (), "left": ("first",), "right": ("first",), "last": ("first", "left", "right")},
    ANSWER: {"answered": ()},
}
# Those of the app that reports its steps while a call is open: the steps between two waits are of one call.
_IN_ORDER = ("first", "second", "third", "left", "right", "fourth", "fifth", "sixth", "last")
REPORTED: Mapping[str, Mapping[str, Sequence[str]]] = {
    WORK: {step: _IN_ORDER[:at] for at, step in enumerate(_IN_ORDER)} | {"right": _IN_ORDER[:3]},
    ANSWER: {"answered": ()},
}
# So many steps of an event may be reported in the first calls of its runs; more are of later calls.
REPORTED_FIRST = 4
_ACKNOWLEDGED = "acknowledged:"
# The figure that must not be 0 after a fault.
EVIDENCE = {
    "engine": "engines killed",
    "engine-in-commit": "transactions aborted",
    "gateway": "gateways killed",
    "app": "app processes killed",
    "broker-killed": "brokers killed",
}


@dataclass(frozen=True, slots=True)
class Effect:
    """The line that a body appended: its token is the result of this attempt."""

    run_id: str
    step: str
    token: str
    seen: tuple[str, ...]


def effects_of(lines: Sequence[str]) -> list[Effect]:
    """Return the effects in some lines."""
    split = [line.split() for line in lines]
    return [Effect(run, step, token, tuple(seen)) for run, step, token, *seen in split if _ACKNOWLEDGED not in step]


def acknowledged(lines: Sequence[str]) -> dict[tuple[str, str], tuple[int, str]]:
    """Return the steps, by run and id, whose report was acknowledged: the number of the first line, and the result."""
    found: dict[tuple[str, str], tuple[int, str]] = {}
    for number, (run_id, step, token) in enumerate(line.split()[:3] for line in lines):
        if step.startswith(_ACKNOWLEDGED):
            found.setdefault((run_id, step.removeprefix(_ACKNOWLEDGED)), (number, token))
    return found


Steps = Mapping[str, Mapping[str, Sequence[str]]]


def judge_all(runs: Runs, lines: Sequence[str], sent: int, steps: Steps = STEPS) -> list[str]:
    """Return the violations of guarantees after all runs have ended; `steps` are those of the app."""
    effects = effects_of(lines)
    return [
        *(line for run_id, entries in runs.items() for line in judge_run(run_id, entries)),
        *judge_starts(runs, sent),
        *(line for run_id, entries in runs.items() for line in judge_outputs(runs, run_id, entries, steps)),
        *judge_effects(runs, effects, steps),
        *judge_acknowledged(runs, lines),
    ]


def judge_evidence(struck: Collection[str], figures: Mapping[str, int]) -> Iterator[str]:
    """Each fault had an effect: a run whose faults broke nothing proves nothing."""
    for fault, name in EVIDENCE.items():
        if fault in struck and not figures[name]:
            yield f"there are 0 {name} after {fault}: this run is no evidence"


def repeated(lines: Sequence[str]) -> int:
    """Return how many bodies ran beyond the first one of their step."""
    ran = Counter((effect.run_id, effect.step) for effect in effects_of(lines))
    return sum(ran.values()) - len(ran)


def judge_starts(runs: Runs, sent: int) -> Iterator[str]:
    """Each accepted event has one run of each function, and nothing else ran."""
    found: dict[tuple[str, int], list[str]] = defaultdict(list)
    for run_id, entries in runs.items():
        found[_function_of(entries), _number_of(entries)].append(run_id)
    expected = {(function, number) for function in STEPS for number in range(sent)}
    yield from (f"{runs_of} of {key} were not requested" for key, runs_of in found.items() if key not in expected)
    for function, number in sorted(expected):
        if len(found[function, number]) != 1:
            yield f"go-{number}: {len(found[function, number])} runs of {function}: {found[function, number]}"


def judge_outputs(runs: Runs, run_id: str, entries: Sequence[HistoryEntry], steps: Steps) -> Iterator[str]:
    """A run returns the results that are stored, and what woke it was sent by the run that it called."""
    ended, results = entries[-1], _results_of(entries)
    if not isinstance(ended, RunEnded) or ended.status is not RunStatus.COMPLETED:
        yield f"{run_id}: ended as {getattr(ended, 'status', None)}: {getattr(ended, 'error', None)}"
        return
    function, number = _function_of(entries), _number_of(entries)
    expected: object = results.get("answered")
    if function == WORK:
        by = [other for other, each in runs.items() if (_function_of(each), _number_of(each)) == (ANSWER, number)]
        echo = {"n": number, "by": "".join(by)}
        expected = {"n": number, "steps": [results.get(step) for step in steps[WORK]], "echo": echo}
    if load_json(ended.output) != expected:
        yield f"{run_id}: returned {load_json(ended.output)} instead of {expected}"


def judge_effects(runs: Runs, effects: Sequence[Effect], steps: Steps) -> Iterator[str]:
    """Each result is that of a body which ran, and each body saw the results that are stored."""
    tokens = {(effect.run_id, effect.step, effect.token) for effect in effects}
    results = {run_id: _results_of(entries) for run_id, entries in runs.items()}
    for run_id, entries in runs.items():
        for step in steps.get(_function_of(entries), ()):
            if (run_id, step, results[run_id].get(step)) not in tokens:
                yield f"{run_id}: the result {results[run_id].get(step)} of {step} is of no body"
    for effect in effects:
        seen = steps[ANSWER if effect.step == "answered" else WORK][effect.step]
        stored = tuple(results.get(effect.run_id, {}).get(step) for step in seen)
        if effect.seen != stored:
            yield f"{effect.run_id}: {effect.step} saw {effect.seen} instead of {stored}"


def judge_acknowledged(runs: Runs, lines: Sequence[str]) -> Iterator[str]:
    """A step whose report was acknowledged has that result, and its body does not run again."""
    known = acknowledged(lines)
    results = {run_id: _results_of(entries) for run_id, entries in runs.items()}
    for (run_id, step), (_, token) in known.items():
        if (stored := results.get(run_id, {}).get(step)) != token:
            yield f"{run_id}: the result {token} of {step} was acknowledged, and {stored} is stored"
    for number, line in enumerate(lines):
        run_id, step = line.split()[:2]
        if number > known.get((run_id, step), (len(lines), ""))[0]:
            yield f"{run_id}: {step} ran again after its report was acknowledged"


def _function_of(entries: Sequence[HistoryEntry]) -> str:
    return entries[0].function if isinstance(entries[0], RunBegan) else ""


def _number_of(entries: Sequence[HistoryEntry]) -> int:
    data = load_json(entries[0].events[0].data) if isinstance(entries[0], RunBegan) else None
    number = data.get("n") if isinstance(data, dict) else None
    return number if isinstance(number, int) else -1


def _results_of(entries: Sequence[HistoryEntry]) -> dict[str, object]:
    """Return the results of the steps with bodies, by id."""
    ended = (each for each in entries if isinstance(each, StepEnded) and isinstance(each.outcome, Value))
    return {each.id: load_json(each.outcome.data) for each in ended if isinstance(each.outcome, Value)}
