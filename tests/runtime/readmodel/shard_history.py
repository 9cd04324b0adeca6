"""The history of a shard, folded as an engine does that reads from the stored position."""

from collections.abc import Sequence

from msgspec.structs import replace

from stepstream.contract.codec import dump_json, encode
from stepstream.contract.events import EventRecord
from stepstream.contract.history import HistoryEntry, RunBegan, RunEnded, StepAttemptFailed, StepEnded
from stepstream.contract.kinds import RunStatus, StepKind
from stepstream.contract.outcomes import ErrorInfo, Failure, Value
from stepstream.contract.topics import HISTORY
from stepstream.runtime.ports import LogRecord
from stepstream.runtime.readmodel.index import RunIndex


def history(shard: int, runs: int) -> list[LogRecord]:
    """Return the history of runs of one shard; every third one fails, and retries before."""
    entries: list[HistoryEntry] = []
    for number in range(runs):
        run, error = f"{shard:02}-{number:04}", ErrorInfo("ValueError", f"order {number} refused")
        began = RunBegan(run, 1, 1_000, f"f{number % 2}", "shop", 1_000, (EventRecord("go", id=f"e-{run}"),))
        entries.append(replace(began, attributes={"order": number}))
        if number % 3:
            entries.append(StepEnded(run, 2, 2_000, "s", "s", StepKind.RUN, Value(dump_json({"n": number}))))
            entries.append(RunEnded(run, 3, 3_000, RunStatus.COMPLETED, f"f{number % 2}"))
        else:
            entries.append(StepAttemptFailed(run, 2, 2_000, "s", "s", 0, error, 9_000))
            entries.append(StepEnded(run, 3, 2_500, "s", "s", StepKind.RUN, Failure(error), 1))
            entries.append(RunEnded(run, 4, 3_000, RunStatus.FAILED, f"f{number % 2}", error=error))
    return [LogRecord(HISTORY, shard, at, b"", encode(entry), (), entry.at) for at, entry in enumerate(entries)]


def folded(index: RunIndex, records: Sequence[LogRecord], size: int = 7) -> None:
    """Fold records in batches, as a process does that reads from the stored position."""
    first = index.position(HISTORY, records[0].partition)
    for at in range(first, len(records), size):
        index.fold(records[at : at + size])
