"""Record tables: the docstring of a test has one record per line with its effects, and reads as the specification."""

import inspect
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import wraps

from stepstream.contract.events import EventRecord
from stepstream.contract.functions import FunctionRegistered
from stepstream.contract.history import HistoryEntry, RunBegan, RunEnded
from stepstream.contract.ids import run_routing, shard_of
from stepstream.contract.inbox import CommandsLost, SignalSent, SignalWithStart
from stepstream.contract.limits import DEFAULT_LIMITS, Limits
from stepstream.contract.operators.bulk import (
    BulkCancelRequested,
    BulkChanged,
    BulkItemEnded,
    BulkPageAdded,
    BulkStarted,
)
from stepstream.contract.operators.control import InvokeRequested, RerunRequested, ScopePauseRequested
from stepstream.contract.operators.limit_settings import LimitChangeRequested
from stepstream.contract.operators.limit_views import LimitQuestion, LimitRequested, LimitsRequested
from stepstream.contract.topics import EVENTS, HISTORY, INBOX
from stepstream.engine.state.changes import Changes, Delete, Put, Reply, Send
from stepstream.engine.state.lifecycle import state_of_bulk, state_of_run, state_of_step
from stepstream.engine.state.records import EventReceived, Input, Tick
from stepstream.engine.state.rows import Bulk, OpenStep, Run, Timer, TimerKind
from stepstream.engine.state.tables import BULKS, MEMOS, RUNS, STEPS, TABLES
from stepstream.engine.transition import due_timers, transition
from tests.engine.gate_notation import show_decisions, show_limits
from tests.engine.notation import read_record, show_record
from tests.fakes.tables import Tables

SHARDS = (1, 5)
EXPIRY_TIMERS = {TimerKind.START_EXPIRY, TimerKind.KEPT_EVENTS_EXPIRY, TimerKind.EVENT_NAME_EXPIRY}
# The attribute of a test under which its table and limits are found.
TABLE = "record_table"
Move = tuple[str, str, str, str]
_PREFIXES = {table.row_type.__name__: prefix for prefix, table in TABLES.items()}


@dataclass(frozen=True, slots=True)
class Line:
    """One action of a table: a record at the time `at` (ms), and its effects."""

    at: int
    record: str
    expected: str


def read_table(text: str) -> list[Line]:
    """Return the lines of the table in `text`; a line that only has a last column continues the one above."""
    lines: list[Line] = []
    for row in text.splitlines():
        if " | " not in f"{row} ":
            continue
        at, record, expected = (cell.strip() for cell in f"{row} ".split(" | "))
        if at:
            lines.append(Line(int(at), record, expected))
        else:
            lines[-1] = Line(lines[-1].at, lines[-1].record, f"{lines[-1].expected} {expected}")
    assert lines, "the docstring has no table"
    return lines


@dataclass
class World:
    """Shards in memory that fold the records of a table; records between them are applied at once, in order."""

    shards: int
    limits: Limits = DEFAULT_LIMITS
    names: dict[str, str] = field(default_factory=dict)
    counts: Counter[tuple[str, ...]] = field(default_factory=Counter)
    emitted: list[EventRecord] = field(default_factory=list)
    seqs: Counter[str] = field(default_factory=Counter)
    positions: int = 0
    moves: set[Move] = field(default_factory=set)
    decisions: list[str] = field(default_factory=list)
    is_losing: bool = False

    def __post_init__(self) -> None:
        """Start with empty tables."""
        self.tables = [Tables() for _ in range(self.shards)]

    def play(self, line: Line) -> list[str]:
        """Apply the records of a line as one batch, in order; return in words what left the engine.

        `decisions` says what history has of limits since the last `decisions`. `lose ticks` fires the timers that are
        due, and loses what they send to shards.
        """
        verb, _, rest = line.record.partition(" ")
        match verb:
            case "rows":
                return [str(self.count_rows(rest))]
            case "count":
                return [str(self.counts[tuple(rest.split())])]
            case "decisions":
                decisions, self.decisions = self.decisions, []
                return [self.named(words) for words in decisions]
            case "emitted":
                events, self.emitted = self.emitted, []
                return self.take([EventReceived(event, event.id, event.ts, own=True) for event in events], line.at)
            case "lose":
                self.is_losing = True
                words = self.take(self.ticks(line.at), line.at)
                self.is_losing = False
                return words
        records: list[Input] = []
        for text in line.record.split(" & "):
            self.positions += 1
            if text == "tick":
                records += self.ticks(line.at)
                continue
            records.append(read_record(text, line.at, f"p{self.positions}", self.run_of))
        return self.take(records, line.at)

    def ticks(self, now: int) -> list[Input]:
        """Return a tick for each timer that is due."""
        return [Tick(key) for tables in self.tables for key, _ in due_timers(tables, now)]

    def run_of(self, name: str) -> str:
        """Return the run id of a name like `r1`, the first run that began; an unknown name is returned as it is."""
        return next((run_id for run_id, known in self.names.items() if known == name), name)

    def homes(self, record: Input) -> list[int]:
        """Return the shards at which a record from outside arrives."""
        match record:
            case Tick() | FunctionRegistered() | CommandsLost() | LimitsRequested():
                return list(range(self.shards))
            case EventReceived():
                return [self.positions % self.shards]
            case RerunRequested() | InvokeRequested():
                return [shard_of(record.routing_key, self.shards)]
            case BulkStarted() | BulkPageAdded() | BulkItemEnded() | BulkCancelRequested():
                return [shard_of(record.operation, self.shards)]
            case LimitRequested() | LimitChangeRequested():
                return [shard_of(record.gate, self.shards)]
            case ScopePauseRequested():
                return [shard_of(record.scope, self.shards)]
            case SignalSent() | SignalWithStart():
                return [shard_of(record.signal, self.shards)]
            case _:
                return [shard_of(run_routing(getattr(record, "run_id", "")), self.shards)]

    def take(self, records: list[Input], now: int) -> list[str]:
        """Fold a batch and then all that it sends to shards; return in words what left the engine."""
        queue = [(record, shard) for record in records for shard in self.homes(record)]
        words: list[str] = []
        answers: list[str] = []
        while queue:
            value, at = queue.pop(0)
            changes = transition(self.tables[at], value, now, shard=at, shards=self.shards, limits=self.limits)
            states = self._states(at, changes)
            self.tables[at].apply(changes)
            self._note_moves(type(value).__name__, states, self._states(at, changes))
            self.counts.update(changes.counts)
            self.counts.update((sample.name,) for sample in changes.samples)
            for change in changes.changes:
                if isinstance(change, Reply) and isinstance(value, LimitQuestion):
                    answers.append(change.status)
                elif isinstance(change, Reply):
                    words.append(f"reply {change.to} {change.status}")
                elif isinstance(change, Send) and change.topic == INBOX:
                    if not self.is_losing:
                        queue.append((change.record, change.partition))  # type: ignore[arg-type]
                elif isinstance(change, Send):
                    words.append(self.leave(change, at))
        # A reply may name a run that begins after it.
        return [self.named(word) for word in [*words, *show_limits(answers)]]

    def leave(self, change: Send, shard: int) -> str:
        """Check what leaves the engine and return it in words."""
        record = change.record
        # An added partition of a topic must not change where the records of a run are.
        assert change.partition == (-1 if change.topic == EVENTS else shard), change
        if isinstance(record, RunBegan):
            self.names.setdefault(record.run_id, f"r{len(self.names) + 1}")
        if change.topic == HISTORY and isinstance(record, HistoryEntry):
            self.seqs[record.run_id] += 1
            assert record.seq == self.seqs[record.run_id], f"history has a gap at {record}"
            self.decisions += show_decisions(record)
        if isinstance(record, BulkChanged):
            self.seqs[record.operation] += 1
            assert record.seq == self.seqs[record.operation], f"history has a gap at {record}"
        if isinstance(record, RunEnded):
            self.check_gone(record.run_id)
        if change.topic == EVENTS and isinstance(record, EventRecord):
            self.emitted.append(record)
        return self.named(show_record(record))

    def named(self, text: str) -> str:
        """Return a text with the names of runs in place of their ids."""
        for run_id, name in self.names.items():
            text = text.replace(run_id, name)
        return text

    def _states(self, at: int, changes: Changes) -> dict[tuple[str, bytes, bytes], str]:
        """Return the states of the runs and steps that a transition touches, as they are in the tables now."""
        tables = self.tables[at]
        states: dict[tuple[str, bytes, bytes], str] = {}
        for change in changes.changes:
            if isinstance(change, Put | Delete) and change.key.table == RUNS.prefix:
                run = tables.get(change.key)
                states["run", change.key.part, b""] = state_of_run(run if isinstance(run, Run) else None)
            elif isinstance(change, Put | Delete) and change.key.table == BULKS.prefix:
                bulk = tables.get(change.key)
                states["bulk", change.key.part, b""] = state_of_bulk(bulk if isinstance(bulk, Bulk) else None)
            elif isinstance(change, Put | Delete) and change.key.table in (STEPS.prefix, MEMOS.prefix):
                _, part, sort = change.key
                opened = tables.get(STEPS.key(part, sort))
                state = state_of_step(opened if isinstance(opened, OpenStep) else None)
                states["step", part, sort] = "kept" if tables.get(MEMOS.key(part, sort)) else state
        return states

    def _note_moves(
        self, record: str, before: dict[tuple[str, bytes, bytes], str], after: dict[tuple[str, bytes, bytes], str]
    ) -> None:
        for of, state in before.items():
            kind, part, _ = of
            # The end of a run removes its steps in any state.
            if kind == "run" or after.get(("run", part, b"")) != "absent":
                self.moves.add((kind, state, record, after[of]))

    def check_gone(self, run_id: str) -> None:
        """Check that a run that ended has left no row at its own shard, and no timer."""
        tables = self.tables[shard_of(run_routing(run_id), self.shards)]
        for key in tables.rows:
            row = tables.get(key)
            left = key.part.startswith(run_id.encode()) or (isinstance(row, Timer) and row.owner == run_id)
            assert not left, f"{run_id} left {key}"

    def count_rows(self, name: str) -> int:
        """Return how many rows of a type there are in all shards; timers of expiries do not count."""
        rows = [(key, tables.get(key)) for tables in self.tables for key in tables.rows if key.table == _PREFIXES[name]]
        return sum(not (isinstance(row, Timer) and row.kind in EXPIRY_TIMERS) for _, row in rows)


def fold(lines: list[Line], shards: int, limits: Limits) -> World:
    """Fold a table and compare the effects of each line; with several shards their order is free."""
    world = World(shards, limits)
    for line in lines:
        words = world.play(line)
        expected = [word.strip() for word in line.expected.split(";") if word.strip() not in ("", "-")]
        if shards > 1:
            words.sort()
            expected.sort()
        assert words == expected, f"{line.at} {line.record}: {'; '.join(words) or '-'}"
    return world


def table(limits: Limits = DEFAULT_LIMITS) -> Callable[[Callable[[], None]], Callable[[], None]]:
    """Make a test of a function whose docstring states a behaviour and shows it by a record table."""

    def decorate(test: Callable[[], None]) -> Callable[[], None]:
        lines = read_table(inspect.getdoc(test) or "")

        @wraps(test)
        def folded() -> None:
            for shards in SHARDS:
                fold(lines, shards, limits)

        folded.__dict__[TABLE] = (lines, limits)
        return folded

    return decorate
