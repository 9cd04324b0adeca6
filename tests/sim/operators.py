"""An operator who pauses and resumes runs, one or all open ones, functions and queues at random, from a seed.

Virtual time does not advance while a run is paused, so runs must end as they do without the operator. The operator
checks what must hold meanwhile.
"""

import asyncio
import functools
import random
from collections import defaultdict
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Any

from stepstream.contract.codec import Raw
from stepstream.contract.commands import (
    Command,
    ReloadRequested,
    RunLoaded,
    RunResumed,
    RunStarted,
    StepDispatched,
    decode_command,
)
from stepstream.contract.history import RunBegan, RunEnded, RunPaused, RunUnpaused, decode_history_record
from stepstream.contract.limits import BULK_RATE_MAX, DEFAULT_LIMITS
from stepstream.contract.operators.bulk import FAILED, OPEN_BULK_STATES, UNANSWERED, BulkAction
from stepstream.contract.operators.control import Pause, function_scope, queue_scope
from stepstream.contract.topics import COMMANDS, HISTORY
from stepstream.engine.state.rows import Run
from stepstream.engine.state.tables import RUNS, SCOPE_PAUSES, decode_row
from stepstream.runtime.bulk import BulkOptions, start
from stepstream.runtime.callers import AnswerLostError, UnavailableError
from stepstream.runtime.ports import NewRecord, StoredRow
from stepstream.runtime.worker.worker import Worker
from stepstream.sdk.execution import StepResult
from stepstream.sdk.replay.calls import Call
from stepstream.testing import VirtualEngine
from tests.sim.faults import Faults

_PAUSES_MAX = 6
_PASSES_BETWEEN_MAX = 150
_PASSES_PAUSED = (0, 3, 20, 100, 300)
_WORK = RunStarted | RunLoaded | RunResumed | StepDispatched


class Operator:
    """Pauses a few runs, functions and queues, one after the other; `is_busy` while one may be paused."""

    def __init__(self, seed: int, faults: Faults) -> None:
        self._faults = faults
        self._draw = random.Random(f"operator-{seed}")
        self.is_busy = False
        self.complaints: list[str] = []
        self._operations = 0
        self._paused = set[str]()
        self._functions = dict[str, str]()
        # What each shard has paused.
        self._scopes = defaultdict[int, set[str]](set)

    async def operate(self, world: VirtualEngine, rows: Callable[[], Sequence[bytes]]) -> None:
        """Pause and resume runs; `rows` returns those of the open runs."""
        draw, operator = self._draw, world.engine.operator
        for _ in range(draw.randint(1, _PAUSES_MAX)):
            await _passes(draw.randrange(1, _PASSES_BETWEEN_MAX))
            runs = [row for value in rows() if isinstance(row := decode_row(RUNS.prefix, value), Run)]
            if not runs:
                continue
            run = draw.choice(sorted(runs, key=lambda run: run.run_id))
            # The time of some pauses has come already.
            pause = Pause(world.now_ms if draw.random() < 0.2 else 0, "operator")
            self.is_busy = True
            chosen = draw.random()
            if chosen < 0.4:
                await self._ask(functools.partial(operator.pause, run.run_id, pause))
                await _passes(draw.choice(_PASSES_PAUSED))
                await self._ask(functools.partial(operator.unpause, run.run_id))
            elif chosen < 0.6:
                run_ids = sorted(run.run_id for run in runs)
                await self._act(world, BulkOptions(BulkAction.PAUSE, ids=tuple(run_ids), until=pause.until))
                await _passes(draw.choice(_PASSES_PAUSED))
                await self._act(world, BulkOptions(BulkAction.RESUME, ids=tuple(run_ids)))
            else:
                queues = [queue_scope(app.name, queue) for app in world.engine.apps for queue in app.queues]
                scope = draw.choice([function_scope(run.function), *queues])
                await self._ask(functools.partial(operator.pause_scope, scope, pause))
                await _passes(draw.choice(_PASSES_PAUSED))
                await self._ask(functools.partial(operator.pause_scope, scope, None))
                while any(self._scopes.values()):
                    await _passes(1)
            self.is_busy = False

    async def _act(self, world: VirtualEngine, options: BulkOptions) -> None:
        """Act on runs by a bulk operation, which starts with all of them at once; return when it has ended."""
        self._operations += 1
        options = replace(options, by="operator", rate=BULK_RATE_MAX, operation=f"operator-{self._operations}")
        send, queries = world.engine.operator.bulk, world.index.queries
        await self._ask(functools.partial(start, send, queries, options, options.ids, DEFAULT_LIMITS))
        while (found := await queries.bulk(options.operation)) is None or found.state in OPEN_BULK_STATES:
            await _passes(1)
        outcomes = dict(found.outcomes)
        if sum(outcomes.values()) != found.total or outcomes.keys() & {FAILED, UNANSWERED}:
            self.complaints.append(f"bulk operation {found.operation} is {found}")

    async def _ask(self, request: Callable[[], Awaitable[object]]) -> None:
        """Send a request until it is answered, as its reply may be lost."""
        while True:
            try:
                await request()
                return
            except (TimeoutError, UnavailableError, AnswerLostError):
                await asyncio.sleep(0)

    def committed(self, shard: int, records: Sequence[NewRecord], rows: Sequence[StoredRow]) -> None:
        """Check the records of a transaction, in order: a paused run gets no command to run its code."""
        changed = {key[1:].decode(): value for key, value in rows if key[:1] == SCOPE_PAUSES.prefix}
        # Of a scope that changes in this batch, the order among its records is not known.
        scopes = self._scopes[shard] - changed.keys()
        self._scopes[shard] = scopes | {scope for scope, value in changed.items() if value}
        for record in records:
            if record.topic == HISTORY:
                match decode_history_record(record.value):
                    case RunBegan(run_id=run_id, function=function):
                        self._functions[run_id] = function
                    case RunPaused(run_id=run_id):
                        self._paused.add(run_id)
                    case RunUnpaused(run_id=run_id) | RunEnded(run_id=run_id):
                        self._paused.discard(run_id)
                    case _:
                        pass
            elif record.topic.startswith(COMMANDS):
                command = decode_command(record.value)
                function = function_scope(self._functions.get(command.run_id, ""))
                queue = record.topic.replace(f"{COMMANDS}.", "queue:")
                is_work = isinstance(command, _WORK)
                if is_work and (command.run_id in self._paused or {function, queue} & scopes):
                    self.complaints.append(f"{command.run_id}: got {type(command).__name__} while it was paused")

    def attach(self, worker: Any, commands: Callable[[int, int], Sequence[Command]]) -> None:
        """Check each body that a worker of runs starts; `commands` returns those of a partition before an offset."""
        if isinstance(worker, Worker):
            run = functools.partial(self._run_body, worker, commands, worker._attempts.run)
            worker._attempts.run = run  # type: ignore[method-assign]

    async def _run_body(
        self,
        worker: Worker,
        commands: Callable[[int, int], Sequence[Command]],
        run: Callable[[str, str, Call, Callable[[Raw], object]], Awaitable[StepResult]],
        function: str,
        run_id: str,
        call: Call,
        report: Callable[[Raw], object],
    ) -> StepResult:
        item = worker._items[run_id]
        read = [command for command in commands(item.partition, item.last_offset + 1) if command.run_id == run_id]
        last = next((each for each in reversed(read) if isinstance(each, ReloadRequested | RunLoaded)), None)
        if isinstance(last, ReloadRequested):
            self.complaints.append(f"{run_id}: step {call.id!r} started after the worker had to claim the run")
        try:
            return await run(function, run_id, call, report)
        except asyncio.CancelledError:
            undisturbed = not self._faults.struck and self._faults.rebalances is None
            if undisturbed and worker._items.get(run_id) is not item and run_id not in self._faults.ended:
                self.complaints.append(f"{run_id}: the body of step {call.id!r} was stopped")
            raise


async def _passes(count: int) -> None:
    for _ in range(count):
        await asyncio.sleep(0)
