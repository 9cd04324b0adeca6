"""Random programs of waits: gathers, tasks that are cancelled, shields, locks and what another run gives, by seed.

What one of them returns depends on no order but that of virtual time: where branches race, each begins with a nap of a
length of its own.
"""

import asyncio
import itertools
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from stepstream import App, Context, Event, on
from tests.sim.programs import Program
from tests.sim.world import World

PREFIX = "waits-"
_TURNS = 3
_KINDS = ("run", "nap", "gather", "race", "first", "alone", "cancel", "shield", "lock", "event", "queue", "timeout")
_NESTED = ("run", "nap", "gather", "alone", "cancel", "shield", "timeout")


@dataclass(frozen=True, slots=True)
class Node:
    """A part of a program: its kind, the name of its steps, lengths of naps in minutes, and what is within it."""

    kind: str
    id: str
    minutes: tuple[int, ...] = ()
    parts: tuple["Node", ...] = ()


def make_nodes(seed: int) -> list[Node]:
    """Return the program of a seed."""
    draw = random.Random(seed)
    minutes = iter(draw.sample(range(1, 600), 500))
    kinds = [draw.choice([*_KINDS, "turn"]) for _ in range(draw.randint(3, 6))]
    return [_node(draw, minutes, kind, str(at), 0) for at, kind in enumerate(kinds)]


def _node(draw: random.Random, minutes: Any, kind: str, id: str, depth: int) -> Node:
    lengths = tuple(itertools.islice(minutes, 3))
    parts: list[Node] = []
    if kind in ("gather", "alone", "first") and depth < 2:
        parts = [
            _node(draw, minutes, draw.choice(_NESTED), f"{id}_{at}p", depth + 1) for at in range(draw.randint(1, 3))
        ]
    return Node(kind, id, lengths, tuple(parts))


class Waits:
    """One run of a program; each method plays the node that it is named after."""

    def __init__(self, program: Program, ctx: Context, turns: list[asyncio.Event]) -> None:
        self._program = program
        self._ctx = ctx
        self._turns = itertools.cycle(turns)

    async def play(self, node: Node) -> Any:
        """Play a node."""
        part: Callable[[Node], Awaitable[Any]] = getattr(self, node.kind)
        return await part(node)

    def _step(self, id: str) -> Any:
        return self._ctx.step.run(id, self._program.body, self._ctx, id)

    def _nap(self, node: Node, at: int = 0) -> Any:
        return self._ctx.step.sleep(f"{node.id}_nap_{at}", node.minutes[at] * 60)

    async def _branch(self, node: Node, at: int) -> str:
        await self._nap(node, at)
        return str(await self._step(f"{node.id}_{at}"))

    async def run(self, node: Node) -> Any:
        """One body."""
        return await self._step(node.id)

    async def nap(self, node: Node) -> Any:
        """One nap."""
        return await self._nap(node)

    async def turn(self, node: Node) -> Any:
        """What another run gives, while no step is open; then a body."""
        await next(self._turns).wait()
        return await self._step(node.id)

    async def gather(self, node: Node) -> Any:
        """Parts side by side, beside three naps that are a group."""
        naps = asyncio.gather(*(self._nap(node, at) for at in range(3)))
        return await asyncio.gather(naps, *map(self.play, node.parts))

    async def race(self, node: Node) -> Any:
        """The first of three naps."""
        return await self._ctx.group.race(*(self._branch(node, at) for at in range(3)))

    async def first(self, node: Node) -> Any:
        """The first of three branches by asyncio.wait; the others are cancelled while a part goes on."""
        tasks = [asyncio.ensure_future(self._branch(node, at)) for at in range(3)]
        done, late = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in late:
            task.cancel()
        return [[task.result() for task in done], [await self.play(part) for part in node.parts]]

    async def alone(self, node: Node) -> Any:
        """A TaskGroup of naps, one of which somebody waits for by itself after parts of another kind."""
        async with asyncio.TaskGroup() as tasks:
            one, *_ = [tasks.create_task(self._nap(node, at)) for at in range(3)]
            found = [await self.play(part) for part in node.parts]
            await one
            return [found, await self._step(f"{node.id}_after")]

    async def cancel(self, node: Node) -> Any:
        """A TaskGroup whose longest nap is cancelled after the shortest."""
        lengths = sorted(range(3), key=lambda at: node.minutes[at])
        async with asyncio.TaskGroup() as tasks:
            naps = [tasks.create_task(self._nap(node, at)) for at in lengths]
            await naps[0]
            naps[2].cancel()
        return await self._step(f"{node.id}_after")

    async def shield(self, node: Node) -> Any:
        """A nap whose shield is cancelled, and which is waited for all the same."""
        inner = asyncio.ensure_future(self._branch(node, 0))
        outer = asyncio.shield(inner)
        await self._nap(node, 1)
        outer.cancel()
        return await inner

    async def lock(self, node: Node) -> Any:
        """Branches that take turns, each with a nap and a body of its own."""
        lock = asyncio.Lock()

        async def branch(at: int) -> str:
            async with lock:
                return await self._branch(node, at)

        return await asyncio.gather(*map(branch, range(3)))

    async def event(self, node: Node) -> Any:
        """A branch that waits for another one."""
        given = asyncio.Event()

        async def give() -> str:
            found = await self._branch(node, 0)
            given.set()
            return found

        async def take() -> Any:
            await given.wait()
            return await self._step(f"{node.id}_taken")

        return await asyncio.gather(take(), give(), self._nap(node, 1))

    async def queue(self, node: Node) -> Any:
        """A branch that hands the results of its naps to another one."""
        queue: asyncio.Queue[int] = asyncio.Queue(1)

        async def put() -> None:
            for at in range(3):
                await self._nap(node, at)
                await queue.put(at)

        async def get() -> list[Any]:
            return [await self._step(f"{node.id}_{await queue.get()}") for _ in range(3)]

        return (await asyncio.gather(put(), get()))[1]

    async def timeout(self, node: Node) -> Any:
        """Steps within a time that is never over."""
        async with asyncio.timeout(1e9):
            return await self._branch(node, 0)


def make_waits(seed: int) -> Program:
    """Return a program in two runs, and the runs that give them what they wait for."""
    app, nodes = App("sim"), make_nodes(seed)
    turns = [asyncio.Event() for _ in range(_TURNS)]

    async def script(world: World) -> None:
        await world.send(Event("go"), Event("go"))
        for at in range(_TURNS):
            await world.advance("1d")
            await world.send(Event("give", {"turn": at}))
        await world.advance("20d")

    program = Program(app, script, {("waits", "completed"): 2, ("giver", "completed"): _TURNS})

    @app.function(on("go"), backoff="5s")
    async def waits(ctx: Context) -> list[Any]:
        play = Waits(program, ctx, turns).play
        return [await play(node) for node in nodes]

    @app.function(on("give"), backoff="5s")
    async def giver(ctx: Context) -> str:
        given = await ctx.step.run("give", program.body, ctx, "give")
        turns[int(ctx.event.data["turn"])].set()
        return given

    return program
