"""Many runs in a read model at once: copies of one run, which SQLite makes much faster than history is folded."""

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

from stepstream.contract.ids import run_hash, run_id_at

_APART_MS = 20


def copy_run(path: Path, run_id: str, count: int, at_ms: int, attribute: str) -> None:
    """Copy all rows of a run `count` times: copy N is N from the end before `at_ms`, and its `attribute` is "N"."""
    with closing(sqlite3.connect(path)) as db:
        db.executescript("PRAGMA synchronous = OFF; CREATE TEMP TABLE copies (copy INTEGER PRIMARY KEY, copy_id TEXT)")
        ids = (
            (number, run_id_at(at_ms - (count - number) * _APART_MS, run_hash("copies", str(number))))
            for number in range(1, count + 1)
        )
        db.executemany("INSERT INTO copies VALUES (?, ?)", ids)
        with _without_indexes(db):
            for (table,) in db.execute("SELECT name FROM main.sqlite_master WHERE type = 'table'").fetchall():
                columns = [str(name) for _, name, *_ in db.execute(f"PRAGMA table_info({table})")]
                if "run_id" in columns:
                    values = ", ".join(_values(columns, count, attribute))
                    made = f"SELECT {values} FROM copies CROSS JOIN {table} WHERE run_id = ?"  # noqa: S608 - of names
                    db.execute(f"INSERT INTO {table} {made}", (run_id,))
            (function, status) = db.execute("SELECT function, status FROM runs WHERE run_id = ?", (run_id,)).fetchone()
            sums = "UPDATE run_sums SET runs = runs + ? WHERE function = ? AND status = ?"
            db.execute(sums, (count, function, status))
        db.commit()


def _values(columns: Sequence[str], count: int, attribute: str) -> Iterator[str]:
    """Yield the expression of each column of a copy."""
    for column in columns:
        match column:
            case "run_id":
                yield "copy_id"
            case "event_id":
                yield "event_id || '-' || copy"
            case "events":
                yield "json_set(events, '$[0].id', json_extract(events, '$[0].id') || '-' || copy)"
            case "attributes":
                yield f"json_set(attributes, '$.{attribute}', CAST(copy AS TEXT))"
            case "value":
                yield f"CASE name WHEN '{attribute}' THEN CAST(copy AS TEXT) ELSE value END"
            case _ if column.endswith("_at"):
                yield f"iif({column} > 0, {column} - ({count} - copy) * {_APART_MS}, 0)"
            case _:
                yield column


@contextmanager
def _without_indexes(db: sqlite3.Connection) -> Iterator[None]:
    """Build the indexes again after the block, which is faster than to add each row to them."""
    query = "SELECT name, sql FROM main.sqlite_master WHERE type = 'index' AND sql IS NOT NULL"
    indexes = db.execute(query).fetchall()
    for name, _ in indexes:
        db.execute(f"DROP INDEX {name}")
    yield
    for _, sql in indexes:
        db.execute(sql)
