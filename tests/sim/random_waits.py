"""Random programs of waits, by seed: gathers, cancelled tasks, shields, locks, and gates that another run opens.

The result of a program depends on virtual time only: branches that race start with naps of different lengths.
"""

import asyncio
import itertools
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from stepstream import App, Context, Event, on
from tests.sim.program import Program
from tests.sim.world import World

PREFIX = "waits-"
_GATES = 3
_KINDS = ("run", "nap", "gather", "race", "first", "alone", "cancel", "shield", "lock", "event", "queue", "timeout")
_NESTED = ("run", "nap", "gather", "alone", "cancel", "shield", "timeout")


@dataclass(frozen=True, slots=True)
class Node:
    """A part of a program: its kind, the prefix of its step ids, the minutes of its naps, and the parts inside it."""

    kind: str
    id: str
    minutes: tuple[int, ...] = ()
    parts: tuple["Node", ...] = ()


def make_nodes(seed: int) -> list[Node]:
    """Return the program of a seed."""
    draw = random.Random(seed)
    minutes = iter(draw.sample(range(1, 600), 500))
    kinds = [draw.choice([*_KINDS, "gate"]) for _ in range(draw.randint(3, 6))]
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
    """One run of a program; each method plays the nodes of the kind that it is named after."""

    def __init__(self, program: Program, ctx: Context, gates: list[asyncio.Event]) -> None:
        self._program = program
        self._ctx = ctx
        self._gates = itertools.cycle(gates)

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
        """Run one body."""
        return await self._step(node.id)

    async def nap(self, node: Node) -> Any:
        """Sleep once."""
        return await self._nap(node)

    async def gate(self, node: Node) -> Any:
        """Wait until another run opens a gate, while no step is open, and run a body."""
        await next(self._gates).wait()
        return await self._step(node.id)

    async def gather(self, node: Node) -> Any:
        """Gather other parts and a gather of three naps."""
        naps = asyncio.gather(*(self._nap(node, at) for at in range(3)))
        return await asyncio.gather(naps, *map(self.play, node.parts))

    async def race(self, node: Node) -> Any:
        """Race three branches."""
        return await self._ctx.group.race(*(self._branch(node, at) for at in range(3)))

    async def first(self, node: Node) -> Any:
        """Wait for the first of three branches by asyncio.wait, and cancel the others while other parts continue."""
        tasks = [asyncio.ensure_future(self._branch(node, at)) for at in range(3)]
        done, late = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in late:
            task.cancel()
        return [[task.result() for task in done], [await self.play(part) for part in node.parts]]

    async def alone(self, node: Node) -> Any:
        """Start naps in a TaskGroup, play other parts, and await one of the naps alone."""
        async with asyncio.TaskGroup() as tasks:
            one, *_ = [tasks.create_task(self._nap(node, at)) for at in range(3)]
            found = [await self.play(part) for part in node.parts]
            await one
            return [found, await self._step(f"{node.id}_after")]

    async def cancel(self, node: Node) -> Any:
        """Start naps in a TaskGroup, and cancel the longest after the shortest."""
        lengths = sorted(range(3), key=lambda at: node.minutes[at])
        async with asyncio.TaskGroup() as tasks:
            naps = [tasks.create_task(self._nap(node, at)) for at in lengths]
            await naps[0]
            naps[2].cancel()
        return await self._step(f"{node.id}_after")

    async def shield(self, node: Node) -> Any:
        """Cancel the shield of a branch, and await the branch itself."""
        inner = asyncio.ensure_future(self._branch(node, 0))
        outer = asyncio.shield(inner)
        await self._nap(node, 1)
        outer.cancel()
        return await inner

    async def lock(self, node: Node) -> Any:
        """Gather branches that hold a lock one after the other."""
        lock = asyncio.Lock()

        async def branch(at: int) -> str:
            async with lock:
                return await self._branch(node, at)

        return await asyncio.gather(*map(branch, range(3)))

    async def event(self, node: Node) -> Any:
        """Gather a branch that sets an event and one that waits for it."""
        event = asyncio.Event()

        async def set_event() -> str:
            found = await self._branch(node, 0)
            event.set()
            return found

        async def wait() -> Any:
            await event.wait()
            return await self._step(f"{node.id}_after")

        return await asyncio.gather(wait(), set_event(), self._nap(node, 1))

    async def queue(self, node: Node) -> Any:
        """Gather a branch that puts an item into a queue after each nap, and one that gets them."""
        queue: asyncio.Queue[int] = asyncio.Queue(1)

        async def put() -> None:
            for at in range(3):
                await self._nap(node, at)
                await queue.put(at)

        async def get() -> list[Any]:
            return [await self._step(f"{node.id}_{await queue.get()}") for _ in range(3)]

        return (await asyncio.gather(put(), get()))[1]

    async def timeout(self, node: Node) -> Any:
        """Run a branch within a timeout that never expires."""
        async with asyncio.timeout(1e9):
            return await self._branch(node, 0)


def make_waits(seed: int) -> Program:
    """Return a program in two runs, and the runs that open their gates."""
    app, nodes = App("sim"), make_nodes(seed)
    gates = [asyncio.Event() for _ in range(_GATES)]

    async def script(world: World) -> None:
        await world.send(Event("go"), Event("go"))
        for at in range(_GATES):
            await world.advance("1d")
            await world.send(Event("open", {"gate": at}))
        await world.advance("20d")

    program = Program(app, script, {("waits", "completed"): 2, ("opener", "completed"): _GATES})

    @app.function(on("go"), backoff="5s")
    async def waits(ctx: Context) -> list[Any]:
        play = Waits(program, ctx, gates).play
        return [await play(node) for node in nodes]

    @app.function(on("open"), backoff="5s")
    async def opener(ctx: Context) -> str:
        token = await ctx.step.run("open", program.body, ctx, "open")
        gates[int(ctx.event.data["gate"])].set()
        return token

    return program
