"""The SQL tables of the read model, and their JSON columns."""

from typing import Any

from msgspec.structs import replace

from stepstream.contract.codec import NULL, Json, Raw, encode
from stepstream.contract.kinds import StepKind
from stepstream.contract.outcomes import ErrorInfo
from stepstream.runtime.readmodel.tables import timings


def name_of(table: str = "") -> str:
    """Return the expression of what a step waits for without its condition, which steps_waiting has."""
    detail = f"{table}.detail" if table else "detail"
    return f"substr({detail}, 1, instr({detail} || ' ', ' ') - 1)"


def waits_in(table: str = "") -> str:
    """Return the condition of a step that is open, which steps_open has."""
    return f"{table}status IN ('waiting', 'running', 'retrying')"


def rank_of(table: str = "") -> str:
    """Return the expression of what a run with several open steps is said to do: that of the least, as steps_open has.

    Those without a WHEN are steps that a worker has.
    """
    kinds = " ".join(f"WHEN {table}kind = '{kind}' THEN {rank}" for rank, kind in enumerate(_KINDS, 2))
    return f"CASE WHEN {table}status = 'retrying' THEN 1 {kinds} ELSE 0 END"


_KINDS = (StepKind.INVOKE, StepKind.SIGNAL, StepKind.WAIT, StepKind.SLEEP)
# What a run waits for, as runs_by_wait has it.
WAIT_STATE = "json_extract(waits, '$.state')"
# The end of a run id, which runs_by_tail has.
TAIL = "substr(run_id, -6)"
# The bulk operation that started a run, as runs_by_bulk has it.
BULK = "json_extract(rerun, '$.bulk')"
# Increase it with each change of the tables below: tables of another version are rebuilt from history.
VERSION = 25
# Large values that lists do not show are in run_texts, which lists never read. run_events, run_names (of events) and
# run_attributes are indexes: what a run has in them is also in its row, so none of them needs an index by run.
# event_waits has the event that ended each wait, and event_cancels the one that cancelled each run that one did, in the
# order in which they were folded.
# run_sums has the runs that the tables have, and how long the ended ones took; step_sums counts from the beginning.
SCHEMA = f"""
CREATE TABLE IF NOT EXISTS runs (
    run_id TEXT PRIMARY KEY, function TEXT, app TEXT, status TEXT, accepted_at INTEGER, started_at INTEGER,
    ended_at INTEGER, events TEXT, error TEXT, caller TEXT, warnings TEXT, attempt INTEGER, retry_at INTEGER,
    epoch INTEGER, seq INTEGER, origin TEXT, rerun TEXT, attributes TEXT, error_group TEXT, paused TEXT, deadline TEXT,
    waits TEXT, continuation TEXT
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS run_texts (
    run_id TEXT PRIMARY KEY, events TEXT, error TEXT, output TEXT, state TEXT, failures TEXT, limits TEXT
);
CREATE TABLE IF NOT EXISTS run_events (event_id TEXT, run_id TEXT, PRIMARY KEY (event_id, run_id)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS run_names (name TEXT, run_id TEXT, PRIMARY KEY (name, run_id)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS run_attributes (
    value TEXT, name TEXT, run_id TEXT, PRIMARY KEY (value, name, run_id)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS event_waits (
    event_id TEXT, name TEXT, run_id TEXT, step TEXT, at INTEGER, UNIQUE (event_id, run_id, step)
);
CREATE TABLE IF NOT EXISTS event_cancels (event_id TEXT, name TEXT, run_id TEXT, at INTEGER, UNIQUE (run_id));
CREATE TABLE IF NOT EXISTS steps (
    run_id TEXT, step TEXT, id TEXT, kind TEXT, status TEXT, attempts INTEGER, first_at INTEGER, started_at INTEGER,
    ended_at INTEGER, until INTEGER, detail TEXT, output TEXT, error TEXT, seq INTEGER, seen INTEGER, own INTEGER,
    fingerprint INTEGER, copied INTEGER, failures TEXT, progress TEXT, heartbeat_at INTEGER, ended_by TEXT,
    limits TEXT, model TEXT, input_tokens INTEGER, output_tokens INTEGER, cost_nano_usd INTEGER,
    PRIMARY KEY (run_id, step)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS approvals (
    run_id TEXT, step TEXT, request TEXT, PRIMARY KEY (run_id, step)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS run_requests (
    run_id TEXT, step TEXT, form TEXT, PRIMARY KEY (run_id, step)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS run_sums (
    function TEXT, status TEXT, runs INTEGER, total_ms INTEGER, PRIMARY KEY (function, status)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS step_sums (steps INTEGER, retries INTEGER, timeouts INTEGER);
INSERT INTO step_sums SELECT 0, 0, 0 WHERE NOT EXISTS (SELECT 1 FROM step_sums);
CREATE TABLE IF NOT EXISTS error_groups (
    id TEXT PRIMARY KEY, function TEXT, step TEXT, name TEXT, message TEXT, failures INTEGER, runs INTEGER,
    first_at INTEGER, last_at INTEGER, latest_message TEXT, latest_run TEXT, samples TEXT
) WITHOUT ROWID;
{timings.TABLE.strip()}
CREATE TABLE IF NOT EXISTS logs (
    run_id TEXT, at INTEGER, source TEXT, number INTEGER, step TEXT, attempt INTEGER, level TEXT, logger TEXT,
    text TEXT, PRIMARY KEY (run_id, at, source, number)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS log_sums (lines INTEGER);
INSERT INTO log_sums SELECT 0 WHERE NOT EXISTS (SELECT 1 FROM log_sums);
CREATE TABLE IF NOT EXISTS bulk_operations (
    operation TEXT PRIMARY KEY, seq INTEGER, started_at INTEGER, shown TEXT
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS dropped_runs (run_id TEXT PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS positions (
    topic TEXT, topic_id TEXT, partition INTEGER, "offset" INTEGER, PRIMARY KEY (topic, topic_id, partition)
);
CREATE TABLE IF NOT EXISTS origin (value TEXT);
CREATE INDEX IF NOT EXISTS logs_by_time ON logs (at);
CREATE INDEX IF NOT EXISTS event_cancels_by_event ON event_cancels (event_id, run_id);
CREATE INDEX IF NOT EXISTS runs_by_end ON runs (ended_at) WHERE ended_at > 0;
CREATE INDEX IF NOT EXISTS runs_by_function ON runs (function, status, run_id);
CREATE INDEX IF NOT EXISTS runs_by_caller ON runs (caller, run_id) WHERE caller != '';
CREATE INDEX IF NOT EXISTS runs_with_error ON runs (run_id) WHERE error IS NOT NULL;
CREATE INDEX IF NOT EXISTS runs_paused ON runs (run_id) WHERE paused IS NOT NULL;
CREATE INDEX IF NOT EXISTS runs_by_error_group ON runs (error_group, run_id) WHERE error_group IS NOT NULL;
CREATE INDEX IF NOT EXISTS steps_waiting ON steps (kind, {name_of()}, run_id) WHERE status = 'waiting';
CREATE INDEX IF NOT EXISTS steps_open ON steps (run_id, ({rank_of()}), until, step) WHERE {waits_in()};
CREATE INDEX IF NOT EXISTS runs_by_wait ON runs ({WAIT_STATE}, run_id) WHERE waits IS NOT NULL;
CREATE INDEX IF NOT EXISTS runs_by_status ON runs (status, run_id);
CREATE INDEX IF NOT EXISTS runs_by_origin ON runs (origin, run_id) WHERE origin != '';
CREATE INDEX IF NOT EXISTS runs_by_bulk ON runs ({BULK}, run_id) WHERE rerun IS NOT NULL;
CREATE INDEX IF NOT EXISTS runs_by_tail ON runs ({TAIL});
"""


def text_of(value: Any) -> str:
    """Return a value as JSON."""
    return encode(value).decode()


def error_text(error: ErrorInfo, raw: Raw = NULL) -> str:
    """Return an error as JSON, with the error object `raw` of an SDK of another language if there is one."""
    text = text_of(error)
    return text if bytes(raw) == bytes(NULL) else f'{text[:-1]},"raw":{bytes(raw).decode()}}}'


def small_error(error: ErrorInfo | None) -> str | None:
    """Return an error as in lists, without its stack."""
    return text_of(replace(error, stack="")) if error else None


def attribute_text(value: Json) -> str:
    """Return the value of an attribute as filters write it; numbers that are equal have the same text."""
    match value:
        case bool():
            return "true" if value else "false"
        case float() if value.is_integer():
            return str(int(value))
        case _:
            return str(value)
