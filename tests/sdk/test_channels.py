"""Typed channels: what they publish is validated, and their names have fields."""

from dataclasses import dataclass
from typing import Any

import pydantic
import pytest

from stepstream import App, Channel, Context, DefinitionError, Event, ThreadedContext, on
from stepstream.contract.codec import Raw
from stepstream.contract.errors import InvalidInput, NotJson
from stepstream.testing import VirtualEngine


class Progress(pydantic.BaseModel):
    """What a job has done."""

    done: int
    total: int = 3


@dataclass
class Order:
    """An order of a customer."""

    id: int


PROGRESS = Channel("progress", Progress)
ORDERS = Channel("orders/{customer}", Order, shared=True)


async def test_code_publishes_and_tests_read_typed_messages() -> None:
    """Bodies, the code between steps and steps publish on typed channels, and what does not fit fails the code."""
    app = App("typed")

    @app.function(on("go"))
    async def work(ctx: Context) -> None:
        async def body() -> None:
            await ctx.publish(PROGRESS, Progress(done=1))

        await ctx.step.run("body", body)
        await ctx.publish(PROGRESS, Progress(done=2))
        await ctx.step.publish("order", ORDERS.of(customer=7), Order(4711))
        wrong: Any = {"done": "many"}
        with pytest.raises(NotJson, match="data on channel 'progress' does not fit its declared type"):
            await ctx.publish(PROGRESS, wrong)
        with pytest.raises(NotJson, match="does not fit"):
            ctx.step.publish("wrong", PROGRESS, wrong)

    @app.function(on("go"))
    def plain(ctx: ThreadedContext) -> None:
        ctx.publish(PROGRESS, Progress(done=3))
        ctx.step.publish("order", ORDERS.of(customer="8"), Order(1))

    async with VirtualEngine(app) as engine:
        await engine.send(Event("go"))
        runs = {run.function: run for run in engine.runs()}
        assert {run.status for run in runs.values()} == {"completed"}
        assert await engine.stream(runs["work"].run_id, PROGRESS) == [Progress(done=1), Progress(done=2)]
        assert await engine.stream(runs["work"].run_id, "progress") == [
            {"done": 1, "total": 3},
            {"done": 2, "total": 3},
        ]
        assert await engine.stream(runs["plain"].run_id, PROGRESS) == [Progress(done=3)]
        assert await engine.shared_stream(ORDERS.of(customer=7)) == [Order(4711)]
        assert await engine.shared_stream("orders/8") == [{"id": 1}]


async def test_a_channel_is_used_as_it_was_declared() -> None:
    """A name without its values, and another statement of who shares the channel, are refused."""
    app = App("misused")
    shared: dict[str, Any] = {"shared": True}

    @app.function(on("go"))
    async def misuse(ctx: Context) -> None:
        with pytest.raises(InvalidInput, match=r"'orders/{customer}' lacks values; use channel.of\(customer=…\)"):
            await ctx.publish(ORDERS, Order(1))
        with pytest.raises(InvalidInput, match="a Channel states by itself whether it is shared"):
            await ctx.publish(PROGRESS, Progress(done=1), **shared)

    async with VirtualEngine(app) as engine:
        await engine.send(Event("go"))
        assert engine.run().status == "completed"
        with pytest.raises(InvalidInput, match="'progress' belongs to a run"):
            await engine.shared_stream(PROGRESS)
        with pytest.raises(InvalidInput, match="'orders/7' is shared"):
            await engine.stream(engine.run().run_id, ORDERS.of(customer=7))


def test_the_fields_of_a_name_are_filled() -> None:
    """Each has a value, which cannot make the name of another channel."""
    both = Channel("a/{x}/{y}/{x}", int)
    assert both.of(x=1, y="z").name == "a/1/z/1"
    for values, reason in (
        ({"x": 1}, "has the fields x, y, not x"),
        ({"x": 1, "y": 2, "z": 3}, "has the fields x, y, not x, y, z"),
        ({"x": "", "y": 2}, "x: '' is empty"),
        ({"x": "1/2", "y": 2}, "x: '1/2' is empty, or has one of the characters"),
        ({"x": 1, "y": "{x}"}, "y: '{x}' is empty, or has"),
        ({"x": "v" * 200, "y": 2}, "1 to 256 characters"),
    ):
        with pytest.raises(InvalidInput) as caught:
            both.of(**values)
        assert reason in str(caught.value)
    with pytest.raises(InvalidInput, match="has the fields none, not x"):
        PROGRESS.of(x=1)


@pytest.mark.parametrize("name", ["", "x" * 257, "a{", "a}", "{}", "{a b}", "{{a}}"])
def test_wrong_names_are_refused(name: str) -> None:
    """A brace is the beginning or the end of a field."""
    with pytest.raises(InvalidInput):
        Channel(name, int)


def test_a_type_that_cannot_be_converted_is_refused() -> None:
    """The definition fails, and not the first message."""

    class Opaque: ...

    with pytest.raises(DefinitionError, match="channel 'x' has a type that pydantic cannot convert"):
        Channel("x", Opaque)


def test_a_message_that_does_not_fit_is_named() -> None:
    """The error has the channel and the field."""
    with pytest.raises(InvalidInput, match=r"data on channel 'progress': 1 validation error(.|\n)*done"):
        PROGRESS.load(Raw(b"{}"))
