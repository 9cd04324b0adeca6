"""JSON values; pydantic models and dataclasses both ways when the callable declares its return type."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self

import pydantic
import pytest

from stepstream import App, Context, Event, StepError, on
from tests.scenarios.conftest import EngineOf


class Order(pydantic.BaseModel):
    """A pydantic model as a step's result."""

    total: int
    tags: list[str] = []

    @classmethod
    def of(cls, total: int) -> Self:
        """Make an order."""
        return cls(total=total)

    def doubled(self) -> Self:
        """Make an order of twice the total."""
        return self.model_copy(update={"total": 2 * self.total})


class GiftOrder(Order):
    """A subclass with its own field."""

    message: str = "congratulations"


@dataclass
class Parcel:
    """A dataclass as a step's result."""

    weight: float


@dataclass
class LabelledParcel(Parcel):
    """A subclass with its own field."""

    label: str


class Packer:
    """A callable object; the annotations of its class say nothing of its results."""

    weight: float = 1.5

    def __call__(self) -> Parcel:
        """Pack."""
        return Parcel(self.weight)


def odd_parameter(order: "Missing | None" = None) -> Order:  # type: ignore[name-defined]  # noqa: F821 - the point
    """Declare a model, and a parameter whose annotation cannot be resolved at run time."""
    return Order(total=4)


def odd_result(order: Any) -> "Missing":  # type: ignore[name-defined]  # noqa: F821 - as if imported under TYPE_CHECKING
    """Declare a type that cannot be resolved at run time."""
    return order


def local_class() -> Callable[[], Any]:
    """Return a callable whose return annotation is text that names a class of the function around it."""

    @dataclass
    class Local:
        weight: int

    def make() -> "Local":
        return Local(5)

    return make


def base_model(order: Order) -> Order:
    """Declare a model that has subclasses."""
    return order


def base_models(order: Any) -> dict[str, list[Parcel | None]]:
    """Declare a dataclass that has subclasses, deep inside."""
    return {"a": [None, order]}


async def test_models_and_dataclasses_go_both_ways(engine_of: EngineOf) -> None:
    """A callable that declares its return type gets it back as that type, live and replayed."""
    app = App("types")

    def make_order() -> Order:
        return Order(total=3, tags=["a"])

    async def make_parcel(order: Order) -> list[Parcel]:
        return [Parcel(order.total / 2)]

    @app.function(on("go"))
    async def function(ctx: Context) -> Order:
        order = await ctx.step.run("order", make_order)
        (parcel,) = await ctx.step.run("parcel", make_parcel, order)
        await ctx.step.sleep("nap", "1m")
        return Order(total=order.total * 2, tags=[*order.tags, str(parcel.weight)])

    async with engine_of(app) as engine:
        await engine.send(Event("go"))
        await engine.advance("1m")
        assert engine.run().output == {"total": 6, "tags": ["a", "1.5"]}


Bodies = dict[str, tuple[Callable[[Context], Any], str]]
KNOWN: Bodies = {
    "local class": (lambda ctx: ctx.step.run("x", local_class()), "Local(weight=5)"),
    "unresolvable parameter": (lambda ctx: ctx.step.run("x", odd_parameter), "total=4"),
    "model class": (lambda ctx: ctx.step.run("x", Order, total=6), "total=6"),
    "dataclass": (lambda ctx: ctx.step.run("x", Parcel, 2.5), "Parcel(weight=2.5)"),
    "Self of a class method": (lambda ctx: ctx.step.run("x", Order.of, 7), "total=7"),
    "Self of a method": (lambda ctx: ctx.step.run("x", Order(total=4).doubled), "total=8"),
    "callable object": (lambda ctx: ctx.step.run("x", Packer()), "Parcel(weight=1.5)"),
    "plain values": (lambda ctx: ctx.step.run("x", odd_result, {"total": 5}), "{'total': 5}"),
    "base class": (lambda ctx: ctx.step.run("x", base_model, Order(total=9)), "total=9"),
}
REFUSED: Bodies = {
    "unresolvable": (lambda ctx: ctx.step.run("x", odd_result, Order(total=1)), "name 'Missing' is not defined"),
    "bytes by an unresolvable name": (lambda ctx: ctx.step.run("x", odd_result, (b"",)), "cannot be resolved"),
    "lambda": (lambda ctx: ctx.step.run("x", lambda: Order(total=1)), "Order, and its callable declares no such type"),
    "lambda, dataclass": (lambda ctx: ctx.step.run("x", lambda: Parcel(1)), "not a lambda"),
    "subclass": (lambda ctx: ctx.step.run("x", base_model, GiftOrder(total=1)), "would be lost: $.message"),
    "inner subclass": (lambda ctx: ctx.step.run("x", base_models, LabelledParcel(1, "a")), "lost: $.a[1].label"),
}


def typed_app(body: Callable[[Context], Any]) -> App:
    """Make an app whose function returns how its one typed result looks after a nap, or the error."""
    app = App("types")

    @app.function(on("go"), retries=0)
    async def function(ctx: Context) -> str:
        try:
            found = await body(ctx)
        except StepError as error:
            found = f"{error.code}: {error.message}"
        await ctx.step.sleep("nap", "1m")
        return str(found)

    return app


@pytest.mark.parametrize("name", KNOWN)
async def test_a_declared_type_is_kept(engine_of: EngineOf, name: str) -> None:
    """A result has the type that type checkers see, wherever that type can be found at run time."""
    body, expected = KNOWN[name]
    async with engine_of(typed_app(body)) as engine:
        await engine.send(Event("go"))
        await engine.advance("1m")
        assert expected in str(engine.run().output)


@pytest.mark.parametrize("name", REFUSED)
async def test_a_result_that_would_lose_its_type_is_refused(engine_of: EngineOf, name: str) -> None:
    """A result that would come back as another type, or with less in it, fails the step at once with the remedy."""
    body, expected = REFUSED[name]
    async with engine_of(typed_app(body)) as engine:
        await engine.send(Event("go"))
        await engine.advance("1m")
        output = str(engine.run().output)
        assert output.startswith("not-json: ")
        assert expected in output


async def test_an_output_needs_no_declared_type(engine_of: EngineOf) -> None:
    """An output is read as JSON, so a function may return a model without an annotation."""
    app = App("types")

    @app.function(on("go"))
    async def function(ctx: Context):  # type: ignore[no-untyped-def]
        return Order(total=1)

    async with engine_of(app) as engine:
        await engine.send(Event("go"))
        assert engine.run().output == {"total": 1, "tags": []}
