"""What must be true of the orders of an on-call trial once all have ended."""

import itertools
from collections import defaultdict
from collections.abc import Iterator, Sequence

from stepstream.contract.codec import load_json
from stepstream.contract.history import HistoryEntry, RunBegan, RunEnded
from tests.kafka.chaos.judging import judge_effects, judge_run
from tests.kafka.cluster.history import Runs
from tests.kafka.oncall.traffic import FUNCTION, Traffic

CRON = "close-books"
MINUTE_MS = 60_000


def judge(runs: Runs, traffic: Traffic, effects: Sequence[str], *, workers_died: bool) -> list[str]:
    """Return the violations of guarantees: each accepted order has one run, which ended as it must, with its effect."""
    return [
        *traffic.unexpected,
        *(
            line
            for run_id, entries in runs.items()
            if not _is_open_cron(entries)
            for line in judge_run(run_id, entries)
        ),
        *judge_orders(runs, traffic),
        *judge_crons(runs),
        *judge_effects(runs, effects, workers_died=workers_died),
    ]


def _is_open_cron(entries: Sequence[HistoryEntry]) -> bool:
    """Return whether this is a run of the cron trigger that began just before the end of the trial."""
    return _is_cron(entries) and not isinstance(entries[-1], RunEnded)


def _is_cron(entries: Sequence[HistoryEntry]) -> bool:
    return isinstance(entries[0], RunBegan) and entries[0].function == CRON


def judge_crons(runs: Runs) -> Iterator[str]:
    """The cron trigger has started a run for each minute, or each second one if an engine was away in between."""
    minutes = sorted(entries[0].at // MINUTE_MS for entries in runs.values() if _is_cron(entries))
    for earlier, later in itertools.pairwise(minutes):
        if later - earlier > 2:
            yield f"no run of {CRON} began for {later - earlier} minutes"


def judge_orders(runs: Runs, traffic: Traffic) -> Iterator[str]:
    """Each order has one run, which completed with the payment of the order, or without one if it was never paid."""
    found: dict[int, list[str]] = defaultdict(list)
    for run_id, entries in runs.items():
        if _is_cron(entries):
            continue
        began, ended = entries[0], entries[-1]
        if not isinstance(began, RunBegan) or began.function != FUNCTION or not isinstance(ended, RunEnded):
            yield f"{run_id}: {began} to {ended}"
            continue
        data = load_json(began.events[0].data)
        number = data["n"] if isinstance(data, dict) else None
        assert isinstance(number, int), data
        found[number].append(run_id)
        expected = {"n": number, "paid": traffic.paid(number)}
        if ended.status != "completed" or load_json(ended.output) != expected:
            yield f"{run_id}: order {number} {ended.status} with {bytes(ended.output)!r} instead of {expected}"
    yield from (
        f"order {number} has {len(found[number])} runs instead of one: {found[number]}"
        for number in sorted(found.keys() | set(range(traffic.orders)))
        if len(found[number]) != 1
    )
