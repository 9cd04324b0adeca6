"""Errors grouped by function, step and message, in which numbers, ids and quoted texts are replaced."""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import astuple, dataclass, field
from typing import Any

import msgspec

from stepstream.contract.outcomes import ErrorInfo
from stepstream.runtime.readmodel.dialect import ALL, Database

# Groups that were seen least recently are dropped: messages may differ in what is not recognised as a value.
GROUPS_MAX = 5_000
SAMPLES_MAX = 5
MESSAGE_CHARACTERS_MAX = 300
LATEST_CHARACTERS_MAX = 500
_QUOTED = re.compile(r"""'[^']*'|"[^"]*"|`[^`]*`""")
# A word that has a digit and is long, or is all digits after its sign: ULIDs, UUIDs, hashes, addresses.
_WORD = re.compile(r"(?<![A-Za-z0-9])(?:0x[0-9A-Fa-f]+|(?=[A-Za-z_-]*\d)[A-Za-z0-9_-]{8,})(?![A-Za-z0-9])")
_NUMBER = re.compile(r"\d+(?:[.,:]\d+)*")
_COLUMNS = "id, function, step, name, message, failures, runs, first_at, last_at, latest_message, latest_run, samples"
_strings = msgspec.json.Decoder(list[str]).decode


@dataclass(slots=True)
class ErrorGroup:
    """Failures that are alike: of attempts (`failures`), and of the runs that ended with them; times in Unix ms.

    `step` is the id of the step, empty for the code between steps. `message` is what the messages have in common;
    `latest_message` is that of the latest failure, at most LATEST_CHARACTERS_MAX of it, which was in `latest_run`.
    `samples` are the ids of the latest runs.
    """

    id: str
    function: str
    step: str
    name: str
    message: str
    failures: int
    runs: int
    first_at: int
    last_at: int
    latest_message: str
    latest_run: str
    samples: list[str] = field(default_factory=list)


_ORDER = "runs DESC, failures DESC, last_at DESC"


def normalised(message: str) -> str:
    """Return a message without what differs between failures of one cause: `#` is any number, `…` any other value."""
    line = message.strip().partition("\n")[0][: 2 * MESSAGE_CHARACTERS_MAX]
    line = _WORD.sub("…", _QUOTED.sub("'…'", line))
    return _NUMBER.sub("#", line)[:MESSAGE_CHARACTERS_MAX]


def group_of(row: Sequence[Any]) -> ErrorGroup:
    """Return a group from its row."""
    group = ErrorGroup(*row[:-1])
    group.samples = _strings(row[-1])
    return group


def list_groups(db: Database, function: str, since: int, limit: int, offset: int = 0) -> list[ErrorGroup]:
    """Return the groups that were seen since a time (Unix ms), those with the most failed runs first, then failures."""
    where = "last_at >= ? AND (? = '' OR function = ?)"
    query = f"SELECT {_COLUMNS} FROM error_groups WHERE {where} ORDER BY {_ORDER} LIMIT ? OFFSET ?"
    return [group_of(row) for row in db.execute(query, (since, function, function, limit, offset))]


class ErrorGroups:
    """The failures of a batch of history, added to the groups of the table by `write`."""

    def __init__(self) -> None:
        self._added: dict[str, ErrorGroup] = {}

    def add(self, function: str, step: str, error: ErrorInfo, at: int, run_id: str, *, ends_run: bool = False) -> str:
        """Add a failure, and return the id of its group. The end of a run is not another failure of its step."""
        message = normalised(error.message)
        id = hashlib.sha1("\0".join((function, step, error.name, message)).encode(), usedforsecurity=False)
        key = id.hexdigest()[:12]
        if (group := self._added.get(key)) is None:
            group = self._added[key] = ErrorGroup(key, function, step, error.name, message, 0, 0, at, at, "", "")
        group.failures += not (ends_run and step)
        group.runs += ends_run
        if at >= group.last_at:
            group.latest_message, group.latest_run = error.message.strip()[:LATEST_CHARACTERS_MAX], run_id
        group.first_at, group.last_at = min(group.first_at, at), max(group.last_at, at)
        if run_id not in group.samples:
            group.samples = [run_id, *group.samples][:SAMPLES_MAX]
        return key

    def write(self, db: Database) -> None:
        """Add the failures to the table, which the transaction has locked with the sums."""
        for group in self._added.values():
            query = f"SELECT {_COLUMNS} FROM error_groups WHERE id = ?"
            if row := db.execute(query, (group.id,)).fetchone():
                known = group_of(row)
                group.failures += known.failures
                group.runs += known.runs
                if known.last_at > group.last_at:
                    group.latest_message, group.latest_run = known.latest_message, known.latest_run
                group.first_at, group.last_at = min(known.first_at, group.first_at), max(known.last_at, group.last_at)
                group.samples = list(dict.fromkeys((*group.samples, *known.samples)))[:SAMPLES_MAX]
        db.executemany(
            f"INSERT INTO error_groups ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) "
            "ON CONFLICT (id) DO UPDATE SET failures = excluded.failures, runs = excluded.runs, "
            "first_at = excluded.first_at, last_at = excluded.last_at, latest_message = excluded.latest_message, "
            "latest_run = excluded.latest_run, samples = excluded.samples",
            map(_row, self._added.values()),
        )
        if self._added:
            oldest = f"SELECT id FROM error_groups ORDER BY last_at DESC LIMIT {ALL} OFFSET ?"
            db.execute(f"DELETE FROM error_groups WHERE id IN ({oldest})", (GROUPS_MAX,))


def drop_groups(db: Database, seen_before: int) -> int:
    """Delete the groups that were last seen before a time (Unix ms); return how many."""
    return db.execute("DELETE FROM error_groups WHERE last_at < ?", (seen_before,)).rowcount


def _row(group: ErrorGroup) -> Sequence[object]:
    return (*astuple(group)[:-1], msgspec.json.encode(group.samples).decode())
