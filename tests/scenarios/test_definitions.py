"""What is defined or called wrongly is refused at once, by an error that says what to do instead."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from stepstream import App, Context, DefinitionError, Event, StepstreamError, cron, on
from tests.scenarios.conftest import EngineOf


async def nothing(ctx: Context) -> None:
    """Do nothing."""


def twice(app: App) -> None:
    """Define two functions of one id."""
    app.function(id="same")(nothing)
    app.function(id="same")(nothing)


def generator(app: App) -> None:
    """Define a function that yields."""

    def yields(ctx: Context) -> Any:
        yield 1

    app.function()(yields)


def contextless(app: App) -> None:
    """Define a function that takes nothing."""

    async def no_context() -> None:
        """Do nothing."""

    app.function()(no_context)  # type: ignore[arg-type]  # The point.


@pytest.mark.parametrize(
    ("define", "words"),
    [
        (lambda app: app.function(retries=21)(nothing), ["retries=21", "0 to 20"]),
        (lambda app: app.function(retries=-1)(nothing), ["retries=-1", "0 to 20"]),
        (lambda app: app.function(backoff=[])(nothing), ["at least one duration"]),
        (lambda app: app.function(backoff="often")(nothing), ["'often'", "30s"]),
        (lambda app: app.function(*[on(f"e{n}") for n in range(11)])(nothing), ["at most 10 triggers"]),
        (twice, ["'same'", "id="]),
        (generator, ["generator"]),
        (contextless, ["'no-context'", "def no_context(ctx)"]),
        (lambda app: app.function("order.created")(nothing), ['on("event")']),
        (lambda app: app.function(nothing), ["brackets"]),
        (lambda _: on("o", if_="event.data.n >"), ["on('o')", "1:15"]),
        (lambda _: on("o", if_="async.data.n > 1"), ["async"]),
        (lambda _: on("o", if_="event.n > 1"), ["event.data.n meant"]),
        (lambda _: on("x" * 256), ["255"]),
        (lambda _: cron("0 9 * *"), ["5 fields"]),
        (lambda _: cron("61 9 * * *"), ["'61 9 * * *'"]),
        (lambda _: cron("0 9 * * *", tz="Mars/Olympus"), ["Mars/Olympus", "Europe/Berlin"]),
        (lambda _: App("no spaces"), ["letters"]),
    ],
    ids=[
        "retries-21", "retries-negative", "backoff-empty", "backoff-unknown", "11-triggers", "id-twice", "generator",
        "no-context", "trigger-text", "no-brackets", "condition-syntax", "condition-name", "condition-field",
        "event-name", "cron-fields", "cron-range", "cron-zone", "app-name",
    ],
)  # fmt: skip
def test_a_wrong_definition_is_refused(define: Callable[[App], object], words: list[str]) -> None:
    """At most 20 retries and 10 triggers, one function an id; expressions fail with position and reason."""
    with pytest.raises(DefinitionError) as refused:
        define(App("definitions"))
    assert all(word in str(refused.value) for word in words), str(refused.value)


def test_the_most_that_is_allowed_is_fine() -> None:
    """20 retries and 10 triggers are allowed."""
    app = App("definitions")
    app.function(*[on(f"e{n}") for n in range(10)], retries=20)(nothing)
    assert len(app) == 1


async def test_sending_without_an_engine_says_what_to_do() -> None:
    """An app that is connected to nothing says how to run it."""
    with pytest.raises(StepstreamError, match="stepstream dev"):
        await App("definitions").send(Event("go"))


WRONG_CALLS: dict[str, tuple[Callable[[Context], object], list[str]]] = {
    "sleep-367d": (lambda ctx: ctx.step.sleep("s", "367d"), ["'s'", "366 days"]),
    "sleep-until-2100": (lambda ctx: ctx.step.sleep_until("s", "2100-01-01"), ["'s'", "366 days"]),
    "sleep-until-soon": (lambda ctx: ctx.step.sleep_until("s", "soon"), ["'soon'", "ISO 8601"]),
    "sleep-fortnight": (lambda ctx: ctx.step.sleep("s", "1 fortnight"), ["fortnight", "no duration", "2h45m"]),
    "sleep-true": (lambda ctx: ctx.step.sleep("s", True), ["True", "no duration"]),
    "wait-367d": (lambda ctx: ctx.step.wait_for_event("s", event="e", timeout="367d"), ["366 days"]),
    "signal-367d": (lambda ctx: ctx.step.wait_for_signal("s", signal="g", timeout="367d"), ["366 days"]),
    "invoke-367d": (lambda ctx: ctx.step.invoke("s", function="f", timeout="367d"), ["366 days"]),
    "match-and-if": (
        lambda ctx: ctx.step.wait_for_event("s", event="e", timeout=1, match="data.a", if_="true"),
        ["match= or if_=, not both"],
    ),
    "match-syntax": (lambda ctx: ctx.step.wait_for_event("s", event="e", timeout=1, match="data..a"), ["data..a"]),
    "match-field": (
        lambda ctx: ctx.step.wait_for_event("s", event="e", timeout=1, match="order_id"),
        ["step 's'", "is data.order_id meant"],
    ),
    "send-text": (lambda ctx: ctx.step.send_event("s", "e"), ["an Event is wanted", "not a str"]),  # type: ignore[arg-type]
    "send-number": (lambda ctx: ctx.step.send_event("s", 5), ["an Event is wanted", "not a int"]),  # type: ignore[arg-type]
    "send-own": (lambda ctx: ctx.step.send_event("s", Event("stream/mine")), ["stream/"]),
    "send-none": (lambda ctx: ctx.step.send_event("s", []), ["'s'", "at least one event"]),
    "run-result": (lambda ctx: ctx.step.run("s", 5), ["callable itself"]),  # type: ignore[call-overload]  # The point.
    "run-no-id": (lambda ctx: ctx.step.run(int, 5), ["run('int', int, …)"]),  # type: ignore[call-overload]
    "retries-21": (lambda ctx: ctx.step.options(retries=21), ["0 to 20"]),
    "long-id": (lambda ctx: ctx.step.run("x" * 1_025, int), ["1 to 1024 characters"]),
    "no-id": (lambda ctx: ctx.step.run("", int), ["step id ''"]),
}


@pytest.mark.parametrize("name", WRONG_CALLS)
async def test_a_wrong_call_is_refused_where_it_stands(engine_of: EngineOf, name: str) -> None:
    """What cannot be is refused at the call, visible to the code that hit it, and leaves no step behind."""
    app = App("definitions")
    call, words = WRONG_CALLS[name]

    @app.function(on("go"), retries=0)
    async def function(ctx: Context) -> str:
        try:
            step = call(ctx)
            await asyncio.gather(step)  # type: ignore[call-overload]  # Some are refused only when awaited.
        except (StepstreamError, TypeError) as error:
            return str(error)
        return "never"

    async with engine_of(app) as engine:
        await engine.send(Event("go"))
        run = engine.run()
        assert all(word in str(run.output) for word in words), (run.output, run.error)
        assert run.steps == ()


async def test_two_apps_that_share_a_name_or_a_function_are_refused(engine_of: EngineOf) -> None:
    """One engine tells apps and functions apart by their names: the error says which stands twice."""
    one, same, other = App("one"), App("one"), App("other")
    one.function(id="work")(nothing)
    other.function(id="work")(nothing)
    with pytest.raises(DefinitionError, match="two apps are named 'one'"):
        await engine_of(one, same).engine.start()
    with pytest.raises(DefinitionError, match="apps 'one' and 'other' both define the function 'work'"):
        await engine_of(one, other).engine.start()
