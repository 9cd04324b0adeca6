"""Apps that several scenarios use."""

from stepstream import App, Context, StepError, on


def signal_app(on_conflict: str) -> App:
    """Make an app whose function waits for one signal and returns its data or the code of the error."""
    app = App("messages")

    @app.function(on("go"))
    async def function(ctx: Context) -> object:
        try:
            return await ctx.step.wait_for_signal(
                "wait",
                signal="approve",
                timeout="1h",
                on_conflict="replace" if on_conflict == "replace" else "fail",
            )
        except StepError as error:
            return error.code

    return app


def waiting_app(**wait: str) -> App:
    """Make an app whose function waits once and returns the data of what came."""
    app = App("waits")

    @app.function(on("start"))
    async def function(ctx: Context) -> object:
        found = await ctx.step.wait_for_event("wait", event="answer", timeout="1d", **wait)
        return found.data if found else None

    return app


def counting_app() -> App:
    """Make an app with one function that returns the data of its event."""
    app = App("starting")

    @app.function(on("go"))
    async def function(ctx: Context) -> object:
        return ctx.event.data

    return app


def failing(app: App, error: Exception, **options: object) -> list[int]:
    """Add a function whose only step always fails; return the list of its attempts."""
    attempts: list[int] = []

    def body() -> None:
        attempts.append(1)
        raise error

    @app.function(on("go"), **options)  # type: ignore[arg-type]  # Options are checked by the function itself.
    async def function(ctx: Context) -> str:
        try:
            await ctx.step.run("step", body)
        except StepError as caught:
            return f"{caught.name}: {caught.message}"
        return "never"

    return attempts
