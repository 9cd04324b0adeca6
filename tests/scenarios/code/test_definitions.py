"""A wrong definition or call is refused at once, by an error that says what to do instead."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from stepstream import (
    App,
    Batch,
    CancelOn,
    Concurrency,
    Context,
    Debounce,
    DefinitionError,
    Event,
    Idempotency,
    Limit,
    RateLimit,
    Singleton,
    StepstreamError,
    Throttle,
    Timeouts,
    cron,
    on,
)
from tests.scenarios.conftest import EngineOf


async def nothing(ctx: Context) -> None:
    """Do nothing."""


def differing(app: App) -> None:
    """Define a limit twice with different numbers."""
    app.function(limits=[Limit("a", 2, "1s")], id="first")(nothing)
    app.function(limits=[Limit("a", 3, key="event.id")], id="second")(nothing)


def batched(**options: Any) -> Callable[[App], object]:
    """Return what defines a function with a batch and other options."""
    return lambda app: app.function(batch=Batch(2, "1s"), **options)(nothing)


def gathered(**options: Any) -> Callable[[App], object]:
    """Return what defines a function with a debounce that keeps all events and other options."""
    return lambda app: app.function(debounce=Debounce("1s", keep="all"), **options)(nothing)


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


KEYS = ("event.id", "event.name", "event.ts")
WRONG_DEFINITIONS: dict[str, tuple[Callable[[App], object], list[str]]] = {
    "retries-21": (lambda app: app.function(retries=21)(nothing), ["retries=21", "0 to 20"]),
    "retries-negative": (lambda app: app.function(retries=-1)(nothing), ["retries=-1", "0 to 20"]),
    "backoff-empty": (lambda app: app.function(backoff=[])(nothing), ["at least one duration"]),
    "backoff-unknown": (lambda app: app.function(backoff="often")(nothing), ["'often'", "30s"]),
    "limit-0": (lambda _: Concurrency(0, counts="runs"), ["0 is not a number from 1 to 1,000,000"]),
    "limit-counts": (lambda _: Concurrency(1, counts="all"), ['\'all\' is not "steps", "runs" or "work"']),  # type: ignore[arg-type]
    "limit-on-work": (
        lambda app: app.function(concurrency=[Concurrency(2, counts="runs"), Concurrency(2, counts="work")])(nothing),
        ["no more runs are open than may be executing", "lower it, or remove it"],
    ),
    "limits-on-work": (
        lambda app: app.function(concurrency=[Concurrency(1, counts="work"), Concurrency(2, counts="work")])(nothing),
        ["two limits have the same scope and key"],
    ),
    "3-limits-on-work": (
        lambda app: app.function(
            concurrency=[Concurrency(1, counts="work", key=KEYS[0]), *(Concurrency(1, key=key) for key in KEYS[1:])]
        )(nothing),
        ["at most 2 limits"],
    ),
    "singleton-work": (
        lambda app: app.function(singleton=Singleton("skip"), concurrency=Concurrency(2, counts="work"))(nothing),
        ["concurrency= on work with the same key has no effect"],
    ),
    "limit-key": (lambda _: Concurrency(1, counts="runs", key="event.data."), ["Concurrency", "1:"]),
    "limit-key-number": (lambda _: Concurrency(1, counts="runs", key=5), ["5 is not a CEL expression"]),  # type: ignore[arg-type]
    "limit-key-long": (
        lambda app: app.function(throttle=Throttle(1, "1s", key=f"event.data.a + '{'a' * 2_048}'"))(nothing),
        ["the name of a limit", "at most 2,048 characters"],
    ),
    "limit-scope": (lambda _: Concurrency(1, counts="runs", scope="all"), ["'all' is not one of"]),  # type: ignore[arg-type]
    "limits-alike": (
        lambda app: app.function(concurrency=[Concurrency(1, counts="runs"), Concurrency(2, counts="runs")])(nothing),
        ["two limits have the same scope and key"],
    ),
    "3-limits": (
        lambda app: app.function(concurrency=[Concurrency(1, counts="runs", key=key) for key in KEYS])(nothing),
        ["at most 2 limits"],
    ),
    "limit-number": (lambda app: app.function(concurrency=5)(nothing), ["Concurrency(5"]),  # type: ignore[arg-type]
    "fair-key": (lambda _: Concurrency(1, fair="event.data."), ["Concurrency", "1:"]),
    "fair-text": (lambda _: Throttle(1, "1s", fair=5), ["Throttle: fair", "5 is not a CEL expression"]),  # type: ignore[arg-type]
    "fair-length": (
        lambda app: app.function(throttle=Throttle(1, "1s", fair=f"event.data.a + '{'a' * 2_048}'"))(nothing),
        ["the expressions of a limit have at most 2,048 characters"],
    ),
    "weight-alone": (lambda _: Limit("a", 1, weight=2), ["Limit: weight", "add fair="]),
    "weight-0": (lambda _: Limit("a", 1, fair="event.name", weight=0), ["0 is neither a number from 0.001 to 1,000"]),
    "weight-text": (lambda _: Concurrency(1, fair="event.name", weight="event."), ["Concurrency", "1:"]),
    "throttle-period": (lambda _: Throttle(1, "0s"), ["'0s' is not between 1 ms"]),
    "throttle-burst": (lambda _: Throttle(1, "1s", burst=-1), ["-1 is not a number from 0"]),
    "rate-limit": (lambda _: RateLimit(0, "1s"), ["RateLimit", "0 is not a number from 1"]),
    "rate-limit-period": (lambda _: RateLimit(1, "367d"), ["'367d' is not between 1 ms and 366 days"]),
    "rate-limit-number": (lambda app: app.function(rate_limit=5)(nothing), ["RateLimit(10"]),  # type: ignore[arg-type]
    "named": (lambda _: Limit("open ai", 1), ["Limit", "'open ai' is no name of"]),
    "named-number": (lambda _: Limit("a", 0), ["0 is not a number from 1"]),
    "named-period": (lambda _: Limit("a", 1, "367d"), ["'367d' is not between 1 ms and 366 days"]),
    "named-burst": (lambda _: Limit("a", 1, burst=1), ["a limit without a period has no burst"]),
    "named-key": (lambda _: Limit("a", 1, key="event.data."), ["Limit", "1:"]),
    "named-text": (lambda app: app.function(limits=["a"])(nothing), ['limits=[Limit("openai"']),  # type: ignore[list-item]
    "named-twice": (lambda app: app.function(limits=[Limit("a", 1), Limit("a", 1)])(nothing), ["the same name"]),
    "named-6": (lambda app: app.function(limits=[Limit(name, 1) for name in "abcdef"])(nothing), ["at most 5 limits"]),
    "named-counts": (lambda _: Limit("a", 1, "1s", counts="tokens"), ['\'tokens\' is not "starts" or "units"']),  # type: ignore[arg-type]
    "named-units": (lambda _: Limit("a", 1, counts="units"), ["a limit on units has a period"]),
    "named-units-of-runs": (
        lambda app: app.function(limits=[Limit("a", 1, "1s", counts="units")])(nothing),
        ["limits=: 'a' counts units, and runs use none"],
    ),
    "named-declared": (
        lambda _: App("a", limits=[Limit("a", 1)]).function(limits=[Limit("a", 2)])(nothing),
        ["define it once"],
    ),
    "named-declared-twice": (lambda _: App("a", limits=[Limit("a", 1), Limit("a", 2)]), ["App(limits=)", "same name"]),
    "named-apart": (
        differing,
        [
            "limit 'a' is 2 starts in 1.0 s at /",
            "test_definitions.py:",
            "and 3 open runs by event.id at /",
            "define it once",
        ],
    ),
    "debounce": (lambda _: Debounce("0s"), ["Debounce", "'0s' is not between 1 ms and 366 days"]),
    "debounce-timeout": (lambda _: Debounce("1s", timeout="367d"), ["'367d' is not between 1 ms and 366 days"]),
    "debounce-keep": (lambda _: Debounce("1s", keep="first"), ["keep", "'first' is not one of last, all"]),  # type: ignore[arg-type]
    "debounce-all": (gathered(cancel_on=[CancelOn("a")]), ['Debounce(keep="all") excludes cancel_on=', "remove one"]),
    "debounce-all-batch": (gathered(batch=Batch(2, "1s")), ["batch= excludes debounce="]),
    "debounce-text": (lambda app: app.function(debounce="1s")(nothing), ['Debounce("10s")']),  # type: ignore[arg-type]
    "batch-size": (lambda _: Batch(0, "1s"), ["Batch", "max_size", "0 is not a number from 1 to 1,000"]),
    "batch-many": (lambda _: Batch(1_001, "1s"), ["1001 is not a number from 1 to 1,000"]),
    "batch-timeout": (lambda _: Batch(2, "0s"), ["timeout", "'0s' is not between 1 ms and 366 days"]),
    "batch-key": (lambda _: Batch(2, "1s", key="event."), ["Batch: 1:"]),
    "batch-if": (lambda _: Batch(2, "1s", if_="other.data"), ["Batch", "'other' is unknown here"]),
    "batch-text": (lambda app: app.function(batch=5)(nothing), ['batch=Batch(100, "10s")']),  # type: ignore[arg-type]
    "batch-debounce": (batched(debounce=Debounce("1s")), ["batch= excludes debounce=", "remove one of them"]),
    "batch-singleton": (batched(singleton=Singleton("skip")), ["batch= excludes singleton="]),
    "batch-cancel": (batched(cancel_on=[CancelOn("a")]), ["batch= excludes cancel_on="]),
    "batch-priority": (batched(priority="1"), ["batch= excludes priority="]),
    "priority": (lambda app: app.function(priority="event.", throttle=Throttle(1, "1s"))(nothing), ["priority=: 1:"]),
    "priority-alone": (lambda app: app.function(priority="1")(nothing), ["no run of the function is queued"]),
    "singleton-mode": (lambda _: Singleton("first"), ["'first' is not one of skip, cancel, wait"]),  # type: ignore[arg-type]
    "singleton-key": (lambda _: Singleton("skip", key="event.data."), ["Singleton", "1:"]),
    "singleton-text": (lambda app: app.function(singleton="skip")(nothing), ['Singleton("skip")']),  # type: ignore[arg-type]
    "singleton-limit": (
        lambda app: app.function(
            singleton=Singleton("skip", key="event.id"),
            concurrency=[Concurrency(2, counts="runs", key="event.id"), Concurrency(5, counts="runs", scope="app")],
        )(nothing),
        ["singleton= allows one open run", "remove one of them"],
    ),
    "idempotency-key": (lambda app: app.function(idempotency="event.")(nothing), ["Idempotency", "1:"]),
    "idempotency-empty": (lambda _: Idempotency(""), ["write a CEL expression on event"]),
    "idempotency-period": (lambda _: Idempotency("event.id", period=0), ["0 is not between 1 ms"]),
    "idempotency-number": (lambda app: app.function(idempotency=5)(nothing), ['idempotency="event.data.id"']),  # type: ignore[arg-type]
    "11-triggers": (lambda app: app.function(*[on(f"e{n}") for n in range(11)])(nothing), ["at most 10 triggers"]),
    "id-twice": (twice, ["'same'", "id="]),
    "id-surrogate": (lambda app: app.function(id="\ud800")(nothing), ["printable characters"]),
    "generator": (generator, ["generator"]),
    "no-context": (contextless, ["'no-context'", "def no_context(ctx)"]),
    "trigger-text": (lambda app: app.function("order.created")(nothing), ['on("event")']),  # type: ignore[arg-type]
    "no-parentheses": (lambda app: app.function(nothing), ["parentheses"]),  # type: ignore[arg-type]
    "condition-syntax": (lambda _: on("o", if_="event.data.n >"), ["on('o')", "1:15"]),
    "condition-name": (lambda _: on("o", if_="async.data.n > 1"), ["async"]),
    "condition-field": (lambda _: on("o", if_="event.n > 1"), ["event.data.n meant"]),
    "event-name": (lambda _: on("x" * 256), ["255"]),
    "event-surrogate": (lambda _: on("x\udfff"), ["1 to 255 characters"]),
    "cron-fields": (lambda _: cron("0 9 * *"), ["5 fields"]),
    "cron-range": (lambda _: cron("61 9 * * *"), ["'61 9 * * *'"]),
    "cron-jitter": (lambda _: cron("0 9 * * *", jitter="2h"), ["jitter='2h'", "1 second to 1 hour"]),
    "cron-jitter-text": (lambda _: cron("0 9 * * *", jitter="soon"), ["jitter='soon'"]),
    "cron-zone": (lambda _: cron("0 9 * * *", tz="Mars/Olympus"), ["Mars/Olympus", "Europe/Berlin"]),
    "cancel-wildcard": (lambda _: CancelOn("order.*"), ["CancelOn('order.*')", "wildcards"]),
    "cancel-name": (lambda _: CancelOn(""), ["1 to 255 characters"]),
    "cancel-both": (lambda _: CancelOn("o", match="data.id", if_="true"), ["match= or if_=, not both"]),
    "cancel-path": (lambda _: CancelOn("o", match="data..id"), ["data.user_id"]),
    "cancel-syntax": (lambda _: CancelOn("o", if_="async.data.n >"), ["CancelOn('o')", "1:15"]),
    "cancel-field": (lambda _: CancelOn("o", if_="async.id2 == 1"), ["async.data.id2 meant"]),
    "cancel-timeout": (lambda _: CancelOn("o", timeout="367d"), ["'367d'", "366 days"]),
    "cancel-at-once": (lambda _: CancelOn("o", timeout=0), ["1 ms"]),
    "cancel-duration": (lambda _: CancelOn("o", timeout="soon"), ["'soon'", "30s"]),
    "cancel-6": (lambda app: app.function(cancel_on=[CancelOn(f"e{n}") for n in range(6)])(nothing), ["at most 5"]),
    "cancel-text": (
        lambda app: app.function(cancel_on=["order.cancelled"])(nothing),  # type: ignore[list-item]  # The point.
        ["'nothing'", 'cancel_on=[CancelOn("event")]'],
    ),
    "cancel-alone": (
        lambda app: app.function(cancel_on=CancelOn("o"))(nothing),  # type: ignore[arg-type]  # The point.
        ["write a list"],
    ),
    "timeouts-none": (lambda _: Timeouts(), ["start=, finish= or both"]),
    "timeouts-long": (lambda _: Timeouts(start="367d"), ["Timeouts", "'367d'", "366 days", "start"]),
    "timeouts-zero": (lambda _: Timeouts(finish=0), ["1 ms", "finish"]),
    "timeouts-word": (lambda _: Timeouts(finish="later"), ["'later'", "30s"]),
    "timeouts-text": (
        lambda app: app.function(timeouts="1h")(nothing),  # type: ignore[arg-type]  # The point.
        ["'nothing'", 'Timeouts(finish="1h")'],
    ),
    "app-name": (lambda _: App("no spaces"), ["a to z"]),
}


@pytest.mark.parametrize("name", WRONG_DEFINITIONS)
def test_a_wrong_definition_is_refused(name: str) -> None:
    """A definition out of bounds raises DefinitionError with the value and the remedy; expressions have a position."""
    define, words = WRONG_DEFINITIONS[name]
    with pytest.raises(DefinitionError) as refused:
        define(App("definitions"))
    assert all(word in str(refused.value) for word in words), str(refused.value)


def test_the_maximum_is_allowed() -> None:
    """20 retries and 10 triggers are allowed."""
    app = App("definitions")
    app.function(*[on(f"e{n}") for n in range(10)], retries=20)(nothing)
    assert len(app) == 1


def test_an_app_without_functions_is_true() -> None:
    """`if app:` asks whether there is an app, not whether it has functions."""
    assert len(App("definitions")) == 0
    assert App("definitions")


async def test_sending_without_an_engine_is_refused() -> None:
    """An app that is not connected to an engine says how to run it."""
    with pytest.raises(StepstreamError, match="stepstream dev"):
        await App("definitions").send(Event("go"))


WRONG_CALLS: dict[str, tuple[Callable[[Context], object], list[str]]] = {
    "sleep-367d": (lambda ctx: ctx.step.sleep("s", "367d"), ["'s'", "366 days"]),
    "sleep-fortnight": (lambda ctx: ctx.step.sleep("s", "1 fortnight"), ["fortnight", "not a duration", "2h45m"]),
    "sleep-true": (lambda ctx: ctx.step.sleep("s", True), ["True is not a duration"]),
    "sleep-none": (lambda ctx: ctx.step.sleep("s", None), ["None is not a duration; write"]),  # type: ignore[arg-type]
    "parent-end": (lambda ctx: ctx.step.invoke("i", function="f", on_parent_end="stop"), ["'stop'", '"cancel"']),  # type: ignore[call-overload]
    "until-2100": (lambda ctx: ctx.step.sleep_until("s", "2100-01-01"), ["'s'", "366 days"]),
    "until-soon": (lambda ctx: ctx.step.sleep_until("s", "soon"), ["'soon'", "ISO 8601"]),
    "until-none": (lambda ctx: ctx.step.sleep_until("s", None), ["None is not a point in time"]),  # type: ignore[arg-type]
    "until-seconds": (lambda ctx: ctx.step.sleep_until("s", 1_767_225_600), ["1970-01-21", "Unix seconds by 1,000"]),
    "wait-367d": (lambda ctx: ctx.step.wait_for_event("s", event="e", timeout="367d"), ["366 days"]),
    "signal-367d": (lambda ctx: ctx.step.wait_for_signal("s", signal="g", timeout="367d"), ["366 days"]),
    "signal-surrogate": (
        lambda ctx: ctx.step.wait_for_signal("s", signal="\ud800", timeout=1),
        ["signal: use a string"],
    ),
    "invoke-367d": (lambda ctx: ctx.step.invoke("s", function="f", timeout="367d"), ["366 days"]),
    "invoke-plain": (
        lambda ctx: ctx.step.invoke("s", function=nothing),  # type: ignore[call-overload]  # The point.
        ["step 's'", "@app.function", "not nothing", "step.run"],
    ),
    "invoke-surrogate": (lambda ctx: ctx.step.invoke("s", function="\ud800"), ["function: the string contains a lone"]),
    "match-and-if": (
        lambda ctx: ctx.step.wait_for_event("s", event="e", timeout=1, match="data.a", if_="true"),
        ["match= or if_=, not both"],
    ),
    "match-syntax": (lambda ctx: ctx.step.wait_for_event("s", event="e", timeout=1, match="data..a"), ["data..a"]),
    "match-field": (
        lambda ctx: ctx.step.wait_for_event("s", event="e", timeout=1, match="order_id"),
        ["step 's'", "is data.order_id meant"],
    ),
    "send-text": (lambda ctx: ctx.step.send_event("s", "e"), ['events: use Event("name"', "type str"]),  # type: ignore[arg-type]
    "send-number": (lambda ctx: ctx.step.send_event("s", 5), ['events: use Event("name"', "type int"]),  # type: ignore[arg-type]
    "send-dict": (lambda ctx: ctx.step.send_event("s", {"name": "e"}), ["step 's': events", "type dict"]),  # type: ignore[arg-type]
    "send-dicts": (lambda ctx: ctx.step.send_event("s", [Event("e"), {"name": "e"}]), ["events[1]", "type dict"]),  # type: ignore[list-item]
    "send-own": (lambda ctx: ctx.step.send_event("s", Event("stream/mine")), ["stream/"]),
    "send-none": (lambda ctx: ctx.step.send_event("s", []), ["'s'", "at least one event"]),
    "send-surrogate": (lambda ctx: ctx.step.send_event("s", Event("e", id="\ud800")), ["id: use at most 255"]),
    "event-number": (lambda ctx: ctx.step.send_event("s", Event(5)), ["name: use a string", "type int"]),  # type: ignore[arg-type]
    "event-bytes": (lambda ctx: ctx.step.send_event("s", Event("e", {"x": b""})), ["$.x: ", "a value of type bytes"]),
    "run-result": (lambda ctx: ctx.step.run("s", 5), ["callable itself"]),  # type: ignore[call-overload]  # The point.
    "run-no-id": (lambda ctx: ctx.step.run(int, 5), ["run('int', int, …)"]),  # type: ignore[call-overload]
    "retries-21": (lambda ctx: ctx.step.options(retries=21), ["0 to 20"]),
    "silent-soon": (lambda ctx: ctx.step.options(heartbeat_timeout="soon"), ["heartbeat_timeout=", "30s"]),
    "long-id": (lambda ctx: ctx.step.run("x" * 1_025, int), ["1 to 1024 characters"]),
    "no-id": (lambda ctx: ctx.step.run("", int), ["step id ''"]),
    "surrogate-id": (lambda ctx: ctx.step.run("\ud800", int), ["step id '\\ud800'", "lone surrogate"]),
}


@pytest.mark.parametrize("name", WRONG_CALLS)
async def test_a_wrong_call_is_refused_at_the_call(engine_of: EngineOf, name: str) -> None:
    """A call that cannot work raises in the code that made it, with the remedy, and leaves no step behind."""
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


async def test_apps_that_share_a_name_or_a_function_are_refused(engine_of: EngineOf) -> None:
    """One engine identifies apps and functions by their names: the error has the one that is used twice."""
    one, same, other = App("one"), App("one"), App("other")
    one.function(id="work")(nothing)
    other.function(id="work")(nothing)
    with pytest.raises(DefinitionError, match="two apps are named 'one'"):
        async with engine_of(one, same):
            pass
    with pytest.raises(DefinitionError, match="apps 'one' and 'other' both define the function 'work'"):
        async with engine_of(one, other):
            pass
