"""A program of the simulation: an app, its script, and how its runs must end."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from stepstream import App, Context
from stepstream.contract.limits import DEFAULT_LIMITS, Limits
from tests.sim.world import World

# A body takes some passes of the loop, so that records of a dead worker may arrive while it runs.
BODY_PASSES = 8


@dataclass(slots=True)
class Program:
    """An app and its script. `ends` counts the runs that must end, by function and status.

    `is_applied` returns whether a step of a run has a committed result, and `progress_of` what its body has reported.
    `repeated` reports bodies that started although there was a result, or with another progress, or beside too many
    others. After `expiry` the last row that expires is gone. `epoch_of` returns the epoch of an open run, 0 if it has
    ended, and `check_permits` what is wrong with the permits of runs at any time; `pieces` are the bodies and pieces of
    code that are executing, each with the key of their limit, their run and its epoch.
    """

    app: App
    script: Callable[[World], Awaitable[None]]
    ends: dict[tuple[str, str], int]
    ran: Counter[tuple[str, str]] = field(default_factory=Counter)
    repeated: list[str] = field(default_factory=list)
    is_applied: Callable[[str, str], bool] = lambda _run_id, _step: False
    progress_of: Callable[[str, str], object] | None = None
    limits: Limits = DEFAULT_LIMITS
    body_passes: int = BODY_PASSES
    failed: set[tuple[str, str]] = field(default_factory=set)
    expiry: str = "2h"
    epoch_of: Callable[[str], int] = lambda _run_id: 0
    check_permits: Callable[[], Iterable[str]] = tuple
    pieces: dict[object, tuple[str, str, int]] = field(default_factory=dict)

    @contextmanager
    def piece(self, ctx: Context, key: str, most: int) -> Iterator[None]:
        """Count a body, or code between two, and report it if more than so many of its key are executing.

        Those of a worker that lost their run do not count: a frozen one may not know it yet.
        """
        mark, run_id = object(), ctx.run_id
        self.pieces[mark] = key, run_id, ctx._replay.epoch
        running = [run for of, run, epoch in self.pieces.values() if of == key and self.epoch_of(run) == epoch]
        self.repeated += self.check_permits()
        if len(running) > most:
            self.repeated.append(f"{run_id}: {len(running)} pieces of {key!r} are executing, and its limit is {most}")
        try:
            yield
        finally:
            del self.pieces[mark]

    async def body(self, ctx: Context, step: str) -> str:
        """Run the body of a step, and return a token of its name and of how often it has run."""
        if self.is_applied(ctx.run_id, step):
            self.repeated.append(f"{ctx.run_id}: step {step!r} ran after its result was applied")
        self.ran[ctx.run_id, step] += 1
        for _ in range(self.body_passes):
            await asyncio.sleep(0)
        return f"{step}#{self.ran[ctx.run_id, step]}"

    async def body_that_fails_once(self, ctx: Context, step: str) -> str:
        """Run the body of a step, and fail the first time in each run."""
        result = await self.body(ctx, step)
        if (ctx.run_id, step) not in self.failed:
            self.failed.add((ctx.run_id, step))
            raise ValueError("once")
        return result

    async def body_with_heartbeats(self, ctx: Context, step: str) -> str:
        """Run the body of a step in three attempts: one falls silent, one fails, and the last one continues.

        Each says in a heartbeat how far it is, and finds what the one before has said.
        """
        if self.progress_of and ctx.progress != (known := self.progress_of(ctx.run_id, step)):
            self.repeated.append(f"{ctx.run_id}: step {step!r} began at {ctx.progress}, and has reported {known}")
        match ctx.progress:
            case None:
                ctx.heartbeat(1)
                await asyncio.Event().wait()
            case 1:
                ctx.heartbeat(2)
                raise ValueError("once")
        ctx.heartbeat(3)
        return await self.body(ctx, step)
