"""The program of the simulation in which bodies send heartbeats, and fall silent."""

import asyncio
from collections.abc import Callable

from stepstream import App, Context, Event, on
from tests.sim.program import Program
from tests.sim.world import World

# In virtual time, in which a pass of the loop takes 0.1 ms: no other attempt is silent for so long.
_SILENT_S = 0.05


def heartbeats() -> Program:
    """Bodies of the app and of a queue report their progress: each falls silent, fails, and continues."""
    app = App("sim", queues=["gpu"])

    async def script(world: World) -> None:
        await world.send(Event("copy"))
        await world.advance("5m")

    program = Program(app, script, {("copy", "completed"): 1})

    @app.function(on("copy"), backoff="5s")
    async def copy(ctx: Context) -> list[str]:
        own = ctx.step.options(heartbeat_timeout=_SILENT_S)
        beat = program.body_with_heartbeats
        both = (own.run("own", beat, ctx, "own"), own.options(queue="gpu").run("queued", beat, ctx, "queued"))
        return list(await asyncio.gather(*both))

    return program


HEARTBEAT_PROGRAMS: dict[str, Callable[[], Program]] = {"heartbeats": heartbeats}
