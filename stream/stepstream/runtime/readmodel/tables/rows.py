"""Rows of runs and steps while a batch of history is folded: what is in the tables, and what the batch changes."""

from collections.abc import Collection, Mapping, Sequence, Set
from dataclasses import dataclass, field
from typing import Any, ClassVar

import msgspec
from msgspec.structs import astuple, replace

from stepstream.contract.codec import EMPTY_OBJECT, NULL, Json, Raw
from stepstream.contract.events import EventRecord
from stepstream.contract.history import RunBegan
from stepstream.contract.kinds import RunStatus, StepStatus
from stepstream.contract.model_usage import NO_USAGE, ModelUsage, added_usage
from stepstream.contract.outcomes import ErrorInfo
from stepstream.runtime.readmodel.dialect import Database
from stepstream.runtime.readmodel.tables.schema import attribute_text, error_text, small_error, text_of

_strings = msgspec.json.Decoder(list[str]).decode
_object = msgspec.json.Decoder(dict[str, Any]).decode


@dataclass(slots=True)
class StepRow:
    """A step as the batch knows it; the table may have more of it from earlier batches."""

    run_id: str
    step: str
    id: str
    kind: str
    status: str
    first_at: int
    seq: int
    attempts: int = 0
    started_at: int = 0
    ended_at: int = 0
    until: int = 0
    detail: str = ""
    output: str | None = None
    error: str | None = None
    seen: int = 0
    own: int = 0
    fingerprint: int = 0
    copied: int = 0
    failures: str = ""
    progress: str | None = None
    heartbeat_at: int = 0
    ended_by: str = ""
    limits: str = ""
    usage: ModelUsage = NO_USAGE

    # Of a step that is known, the first time, the kind and its place stay, and failed attempts are added, as is what
    # each attempt used of a model. An attempt that runs keeps the error of the one before it.
    UPSERT: ClassVar[str] = (
        f"INSERT INTO steps VALUES ({', '.join('?' * 27)}) "
        "ON CONFLICT (run_id, step) DO UPDATE SET status = excluded.status, attempts = excluded.attempts, "
        "started_at = excluded.started_at, "
        "ended_at = excluded.ended_at, until = CASE excluded.until WHEN 0 THEN steps.until ELSE excluded.until END, "
        "output = excluded.output, seen = excluded.seen, own = excluded.own, "
        "error = CASE excluded.status WHEN 'running' THEN steps.error ELSE excluded.error END, "
        "detail = CASE excluded.detail WHEN '' THEN steps.detail ELSE excluded.detail END, "
        "fingerprint = excluded.fingerprint, failures = steps.failures || excluded.failures, "
        "progress = coalesce(excluded.progress, steps.progress), "
        "heartbeat_at = CASE excluded.heartbeat_at WHEN 0 THEN steps.heartbeat_at ELSE excluded.heartbeat_at END, "
        "ended_by = excluded.ended_by, limits = steps.limits || excluded.limits, "
        "model = CASE excluded.model WHEN '' THEN steps.model ELSE excluded.model END, "
        "input_tokens = steps.input_tokens + excluded.input_tokens, "
        "output_tokens = steps.output_tokens + excluded.output_tokens, "
        "cost_nano_usd = steps.cost_nano_usd + excluded.cost_nano_usd"
    )

    def change(self, later: "StepRow") -> None:
        """Apply what happened to the step later, as UPSERT does."""
        self.status, self.attempts, self.started_at = later.status, later.attempts, later.started_at
        self.ended_at, self.until = later.ended_at, later.until or self.until
        self.output, self.seen, self.own = later.output, later.seen, later.own
        self.error = self.error if later.status == StepStatus.RUNNING else later.error
        self.progress = self.progress if later.progress is None else later.progress
        self.heartbeat_at = later.heartbeat_at or self.heartbeat_at
        self.detail, self.fingerprint = later.detail or self.detail, later.fingerprint
        self.failures += later.failures
        self.limits += later.limits
        self.ended_by = later.ended_by
        self.usage = added_usage(self.usage, later.usage)

    def cancel(self, at: int) -> None:
        """Note that the step was cancelled."""
        self.status, self.ended_at = StepStatus.CANCELLED, at

    def values(self) -> Sequence[object]:
        """Return the values of UPSERT."""
        return (
            *(self.run_id, self.step, self.id, self.kind, self.status, self.attempts, self.first_at, self.started_at),
            *(self.ended_at, self.until, self.detail, self.output, self.error, self.seq, self.seen, self.own),
            *(self.fingerprint, self.copied, self.failures, self.progress, self.heartbeat_at, self.ended_by),
            self.limits,
            *astuple(self.usage),
        )


@dataclass(slots=True)
class RunRow:
    """A run: its state, and the status (`counted`) under which the sums have it when the batch begins.

    `indexed` are the attributes that their index has then.
    `events` are those with which it began, or which it got later.
    `changed` says that more than its place in history changed, `has_texts` that its error or its output did. `state` is
    the one that the code has set in the batch, None if it has not. `failures` are the attempts of the code that failed
    in the batch, and `limits` those that it passed in the batch.
    """

    run_id: str
    seq: int
    function: str
    status: str
    started_at: int
    ended_at: int = 0
    error: str | None = None
    attempt: int = 0
    retry_at: int = 0
    epoch: int = 1
    error_group: str | None = None
    paused: str | None = None
    deadline: str | None = None
    waits: str | None = None
    continuation: str | None = None
    counted: str = ""
    warnings: list[str] = field(default_factory=list)
    attributes: dict[str, Any] = field(default_factory=dict)
    indexed: dict[str, Any] = field(default_factory=dict)
    began: RunBegan | None = None
    events: tuple[EventRecord, ...] = ()
    changed: bool = False
    has_texts: bool = False
    error_text: str | None = None
    output: str | None = None
    state: str | None = None
    failures: str = ""
    limits: str = ""

    INSERT: ClassVar[str] = f"INSERT INTO runs VALUES ({', '.join('?' * 23)})"
    UPDATE: ClassVar[str] = (
        "UPDATE runs SET status = ?, ended_at = ?, error = ?, warnings = ?, attempt = ?, retry_at = ?, epoch = ?, "
        "seq = ?, attributes = ?, error_group = ?, paused = ?, deadline = ?, waits = ?, continuation = ? "
        "WHERE run_id = ?"
    )

    @classmethod
    def load(cls, db: Database, run_ids: Collection[str]) -> "dict[str, RunRow]":
        """Return those of some runs that the tables have, by id."""
        query = (
            "SELECT run_id, seq, function, status, started_at, ended_at, error, attempt, retry_at, epoch, error_group, "
            "paused, deadline, waits, continuation, status, warnings, attributes FROM runs "
            f"WHERE run_id IN ({', '.join('?' * len(run_ids))})"
        )
        found: dict[str, RunRow] = {}
        for row in db.execute(query, [*run_ids]) if run_ids else ():
            loaded = found[row[0]] = cls(*row[:-2])
            loaded.warnings, loaded.attributes = _strings(row[-2]), _object(row[-1])
            loaded.indexed = loaded.attributes
        return found

    def unindexed(self) -> Set[tuple[str, str, str]]:
        """Return the entries of attributes that their index has and must lose."""
        return self._entries(self.indexed) - self._entries(self.attributes)

    def to_index(self) -> Set[tuple[str, str, str]]:
        """Return the entries of attributes that their index lacks."""
        return self._entries(self.attributes) - self._entries(self.indexed)

    def _entries(self, attributes: Mapping[str, Json]) -> Set[tuple[str, str, str]]:
        return {(attribute_text(value), name, self.run_id) for name, value in attributes.items()}

    def start(self) -> None:
        """Note that its code runs: nothing else in history says when a scheduled run without gates started."""
        if self.status in (RunStatus.SCHEDULED, RunStatus.QUEUED):
            self.status, self.changed = RunStatus.RUNNING, True

    def continue_by(self, run_id: str) -> None:
        """Note the run as which it continued."""
        self.continuation = text_of({**_object(self.continuation or "{}"), "to": run_id})

    def fail(self, error: ErrorInfo, raw: Raw = NULL) -> None:
        """Note its error, and the error object of an SDK if there is one."""
        self.error, self.error_text, self.has_texts = small_error(error), error_text(error, raw), True

    @property
    def small_events(self) -> str:
        """Its events without their data."""
        return text_of([replace(event, data=EMPTY_OBJECT, user=NULL, meta=NULL) for event in self.events])

    def inserted(self) -> Sequence[object]:
        """Return the values of INSERT."""
        began = self.began
        assert began is not None
        rerun = began.rerun
        return (
            *(self.run_id, self.function, began.app, self.status, began.at, self.started_at, self.ended_at),
            *(self.small_events, self.error, began.caller, text_of(self.warnings), self.attempt, self.retry_at),
            *(self.epoch, self.seq, rerun.origin if rerun else "", text_of(rerun) if rerun else None),
            *(text_of(self.attributes), self.error_group, self.paused, self.deadline, self.waits),
            self.continuation,
        )

    def updated(self) -> Sequence[object]:
        """Return the values of UPDATE."""
        return (
            *(self.status, self.ended_at, self.error, text_of(self.warnings), self.attempt, self.retry_at),
            *(self.epoch, self.seq, text_of(self.attributes), self.error_group, self.paused, self.deadline),
            *(self.waits, self.continuation, self.run_id),
        )

    def texts(self) -> Sequence[object]:
        """Return the values of its row in run_texts."""
        return (self.run_id, text_of(self.events), self.error_text, self.output, self.state, self.failures, self.limits)

    def add_to(self, sums: dict[tuple[str, str], list[int]]) -> None:
        """Add to the sums, by function and status, what changed."""
        if self.status != self.counted:
            if self.counted:
                sums[self.function, self.counted][0] -= 1
            added = sums[self.function, self.status]
            added[0] += 1
            if self.ended_at:
                added[1] += max(self.ended_at - self.started_at, 0)
