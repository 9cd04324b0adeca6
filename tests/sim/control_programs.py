"""The programs of the simulation in which an operator controls runs."""

from collections.abc import Callable

from stepstream import App, Context, Event, NonRetriableError, on
from tests.sim.program import Program
from tests.sim.world import World


def reruns() -> Program:
    """A run fails in its second step, and is repeated from there by a request that is sent twice."""
    app = App("sim")

    async def script(world: World) -> None:
        await world.send(Event("go"))
        (run,) = world.runs("reruns")
        for _ in range(2):
            await world.rerun(run.run_id, from_failure=True, request_id="once")
        await world.advance("5m")

    program = Program(app, script, {("reruns", "failed"): 1, ("reruns", "completed"): 1})
    first_run: list[str] = []

    async def fails_in_first_run(ctx: Context) -> str:
        first_run.append(ctx.run_id)
        if ctx.run_id == first_run[0]:
            raise NonRetriableError("broken")
        return await program.body(ctx, "second")

    @app.function(on("go"), backoff="5s")
    async def reruns(ctx: Context) -> list[str]:
        first = await ctx.step.run("first", program.body, ctx, "first")
        second = await ctx.step.run("second", fails_in_first_run, ctx)
        return [first, second, await ctx.step.run("third", program.body, ctx, "third")]

    return program


CONTROL_PROGRAMS: dict[str, Callable[[], Program]] = {"reruns": reruns}
