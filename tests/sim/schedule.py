"""One schedule: a program under planned faults, and what must hold afterwards."""

import logging
from collections import Counter, defaultdict
from dataclasses import dataclass, field

from stepstream.contract.history import HistoryEntry, RunBegan, RunEnded, StepEnded, StepPlanned
from stepstream.contract.outcomes import TimedOut
from stepstream.engine.rows import FUNCTION, NAME, START, TIMER, TRIGGER
from stepstream.runtime.journal import MemoryJournal
from stepstream.testing import VirtualEngine
from tests.sim.faults import Faults, wrap_port
from tests.sim.programs import PROGRAMS

_LASTING = {FUNCTION, NAME, START, TRIGGER}


@dataclass(slots=True)
class Outcome:
    """How a schedule ended: outputs by function, what broke, and how many calls and crashes there were."""

    results: dict[str, list[str]]
    broken: list[str]
    faults: Faults
    effects: Counter[tuple[str, str]] = field(default_factory=Counter)


async def run_schedule(name: str, faults: Faults, *, shards: int = 1, live_cache: bool = True) -> Outcome:
    """Run a program under faults and check the invariants."""
    logging.disable(logging.CRITICAL)
    program = PROGRAMS[name]()
    engine = VirtualEngine(
        program.app,
        shards=shards,
        live_cache=live_cache,
        wrap=lambda port_name, port: wrap_port(faults, port_name, port),
    )
    program.history = engine.history
    async with engine:
        await program.script(engine)
        runs = engine.runs()
        stores = [engine.engine.store_of(shard) for shard in range(shards)]
        rows = [key for store in stores for key in store.rows]
        letters = isinstance(engine.journal, MemoryJournal) and engine.journal.end("dead-letters", 0)
    results: dict[str, list[str]] = defaultdict(list)
    for run in runs:
        message = run.error.get("message") if isinstance(run.error, dict) else ""
        results[run.function].append(f"{run.status} {run.output} {message}")
    broken = [*check_history(engine.history), *check_rows(rows), *program.repeated]
    if letters:
        broken.append(f"{letters} dead letters")
    return Outcome({key: sorted(values) for key, values in results.items()}, broken, faults, program.effects)


def check_history(history: list[HistoryEntry]) -> list[str]:
    """Return what is wrong with the history of all runs."""
    broken: list[str] = []
    by_run: dict[str, list[HistoryEntry]] = defaultdict(list)
    for entry in history:
        by_run[entry.run_id].append(entry)
    for run_id, entries in by_run.items():
        if [entry.seq for entry in entries] != list(range(1, len(entries) + 1)):
            broken.append(f"{run_id}: history has gaps or repeats: {[entry.seq for entry in entries]}")
        ends = sum(isinstance(entry, RunEnded) for entry in entries)
        if not isinstance(entries[0], RunBegan) or ends != 1:
            broken.append(f"{run_id}: begins with {type(entries[0]).__name__} and has {ends} ends")
        planned = {entry.step: entry for entry in entries if isinstance(entry, StepPlanned)}
        ended = Counter(entry.step for entry in entries if isinstance(entry, StepEnded))
        broken += [f"{run_id}: step {step} has {count} results" for step, count in ended.items() if count > 1]
        for entry in entries:
            plan = planned.get(entry.step) if isinstance(entry, StepEnded) else None
            timed = isinstance(entry, StepEnded) and (entry.kind == "sleep" or isinstance(entry.outcome, TimedOut))
            if plan and timed and entry.at < plan.until:
                broken.append(f"{run_id}: {plan.id} fired {plan.until - entry.at} ms early")
    return broken


def check_rows(keys: list[bytes]) -> list[str]:
    """Return the rows that ended runs have left behind."""
    left = [key for key in keys if key[:1] not in _LASTING and not _is_memory_of_start(key)]
    return [f"a row is left: {key!r}" for key in left]


def _is_memory_of_start(key: bytes) -> bool:
    # A start by a chosen id is remembered for a day by a timer of its own, whose owner is the hash of a run id.
    return key[:1] == TIMER and key[9:].index(b"\x00") == 16
