"""What must hold on a real cluster after any number of kills: read from history, the topics and the side effects."""

from collections import Counter, defaultdict
from pathlib import Path

from stepstream.contract.history import HistoryEntry, RunBegan, RunEnded, StepEnded, StepPlanned, decode_history
from stepstream.contract.topics import DEAD_LETTERS, HISTORY
from stepstream.runtime.kafka import Cluster, Reader

_READ_MS = 1_000


async def read_all(cluster: Cluster, topic: str, *, committed: bool = True) -> list[bytes]:
    """Return the values of all records of a topic, the aborted ones too when `committed` is false."""
    places = [(topic, partition) for partition in range((await cluster.topics())[topic])]
    reader = await cluster.reader(committed=committed)
    try:
        reader.assign(places)
        reader.seek(dict.fromkeys(places, 0))
        return [value for at in places for value in await _rest(reader, places, at)]
    finally:
        await reader.close()


async def _rest(reader: Reader, places: list[tuple[str, int]], first: tuple[str, int]) -> list[bytes]:
    if first != places[0]:
        return []
    ends = await reader.ends(places)
    found: list[bytes] = []
    while any([await reader.position(at) < ends[at] for at in places]):
        found += [record.value for record in await reader.read(5_000, _READ_MS)]
    return found


async def aborted_records(cluster: Cluster, topics: tuple[str, ...]) -> int:
    """Return how many records of some topics belong to transactions that were aborted."""
    total = 0
    for topic in topics:
        total += len(await read_all(cluster, topic, committed=False)) - len(await read_all(cluster, topic))
    return total


async def history_of(cluster: Cluster) -> dict[str, list[HistoryEntry]]:
    """Return the history of each run, in the order of the log."""
    by_run: dict[str, list[HistoryEntry]] = defaultdict(list)
    for value in await read_all(cluster, HISTORY):
        entry = decode_history(value)
        by_run[entry.run_id].append(entry)
    return by_run


async def judge(cluster: Cluster, wanted: dict[str, list[str]], effects: Path, worker_kills: int) -> list[str]:
    """Return what is wrong. `wanted` is what must have completed: event id to the output's parts."""
    by_run = await history_of(cluster)
    broken: list[str] = []
    outputs: dict[str, list[bytes]] = defaultdict(list)
    ended_at: dict[tuple[str, str], int] = {}
    for run_id, entries in by_run.items():
        broken += _judge_run(run_id, entries)
        for entry in entries:
            if isinstance(entry, StepEnded):
                ended_at[run_id, entry.id] = entry.at
        began, ended = entries[0], entries[-1]
        if isinstance(began, RunBegan) and isinstance(ended, RunEnded):
            outputs[began.events[0].id].append(bytes(ended.output))
    for event_id, parts in wanted.items():
        found = outputs.get(event_id, [])
        expected = ("[" + ",".join(f'"{part}"' for part in parts) + "]").encode()
        if found != [expected]:
            broken.append(f"{event_id}: {found} instead of one {expected!r}")
    broken += _judge_effects(effects, ended_at, worker_kills)
    if letters := await read_all(cluster, DEAD_LETTERS):
        broken.append(f"{len(letters)} dead letters")
    return broken


def _judge_run(run_id: str, entries: list[HistoryEntry]) -> list[str]:
    broken: list[str] = []
    numbers = [entry.seq for entry in entries]
    if numbers != list(range(1, len(numbers) + 1)):
        broken.append(f"{run_id}: history has gaps or repeats: {numbers}")
    if sum(isinstance(entry, RunEnded) for entry in entries) != 1 or not isinstance(entries[-1], RunEnded):
        broken.append(f"{run_id}: does not end once: {[type(entry).__name__ for entry in entries]}")
    results = Counter(entry.step for entry in entries if isinstance(entry, StepEnded))
    broken += [f"{run_id}: step {step} has {count} results" for step, count in results.items() if count > 1]
    due = {entry.step: entry.until for entry in entries if isinstance(entry, StepPlanned)}
    for entry in entries:
        # A sleep that was over when its plan came has no entry of its own.
        if isinstance(entry, StepEnded) and entry.kind == "sleep" and entry.at < due.get(entry.step, 0):
            broken.append(f"{run_id}: {entry.id} ended early")
    return broken


def _judge_effects(effects: Path, ended_at: dict[tuple[str, str], int], worker_kills: int) -> list[str]:
    broken: list[str] = []
    ran: Counter[tuple[str, str]] = Counter()
    for line in effects.read_text().splitlines():
        run_id, step, at = line.split()
        ran[run_id, step] += 1
        if int(at) > ended_at.get((run_id, step), 2**62):
            broken.append(f"{run_id}: {step} ran after its result was applied")
    extra = sum(count - 1 for count in ran.values())
    missing = [
        f"{run_id}: {step} has no effect"
        for run_id, step in ended_at
        if (run_id, step) not in ran and step not in NO_BODY
    ]
    if worker_kills == 0 and extra:
        broken.append(f"{extra} bodies ran again although no worker died")
    return broken + missing


NO_BODY = {"nap", "echo", "call"}
