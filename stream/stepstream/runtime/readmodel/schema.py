"""The SQL tables of the read model, and their JSON columns."""

from typing import Any

from msgspec.structs import replace

from stepstream.contract.codec import encode
from stepstream.contract.outcomes import ErrorInfo

# Increase it with each change of the tables below: tables of another version are rebuilt from history.
VERSION = 3
# Large values that lists do not show are in run_texts, which lists never read.
SCHEMA = f"""
CREATE TABLE IF NOT EXISTS runs (
    run_id TEXT PRIMARY KEY, function TEXT, app TEXT, status TEXT, accepted_at INTEGER, started_at INTEGER,
    ended_at INTEGER, events TEXT, error TEXT, caller TEXT, warnings TEXT, attempt INTEGER, retry_at INTEGER,
    epoch INTEGER, seq INTEGER, origin TEXT, rerun TEXT
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS run_texts (run_id TEXT PRIMARY KEY, events TEXT, error TEXT, output TEXT);
CREATE TABLE IF NOT EXISTS run_events (event_id TEXT, run_id TEXT, PRIMARY KEY (event_id, run_id)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS steps (
    run_id TEXT, step TEXT, id TEXT, kind TEXT, status TEXT, attempts INTEGER, first_at INTEGER, started_at INTEGER,
    ended_at INTEGER, until INTEGER, detail TEXT, output TEXT, error TEXT, seq INTEGER, seen INTEGER, own INTEGER,
    fingerprint INTEGER, copied INTEGER, PRIMARY KEY (run_id, step)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS dropped_runs (run_id TEXT PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS positions (topic TEXT, partition INTEGER, offset INTEGER, PRIMARY KEY (topic, partition));
CREATE TABLE IF NOT EXISTS origin (value TEXT);
CREATE INDEX IF NOT EXISTS run_events_by_run ON run_events (run_id);
CREATE INDEX IF NOT EXISTS runs_by_end ON runs (ended_at) WHERE ended_at > 0;
CREATE INDEX IF NOT EXISTS runs_by_function ON runs (function, run_id);
CREATE INDEX IF NOT EXISTS runs_by_status ON runs (status, run_id);
CREATE INDEX IF NOT EXISTS runs_by_origin ON runs (origin, run_id) WHERE origin != '';
CREATE INDEX IF NOT EXISTS runs_by_tail ON runs (substr(run_id, -6));
PRAGMA user_version = {VERSION};
"""


def text_of(value: Any) -> str:
    """Return a value as JSON."""
    return encode(value).decode()


def small_error(error: ErrorInfo | None) -> str | None:
    """Return an error as in lists, without its stack."""
    return text_of(replace(error, stack="")) if error else None
