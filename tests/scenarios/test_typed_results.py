"""JSON values; pydantic models and dataclasses both ways when the callable says its return type."""

from dataclasses import dataclass

import pydantic

from stepstream import App, Context, Event, on
from tests.scenarios.conftest import EngineOf


class Order(pydantic.BaseModel):
    """A pydantic model as a step's result."""

    total: int
    tags: list[str] = []


@dataclass
class Parcel:
    """A dataclass as a step's result."""

    weight: float


async def test_models_and_dataclasses_go_both_ways(engine_of: EngineOf) -> None:
    """A callable that says its return type gets it back as that type, live and replayed."""
    app = App("limits")

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
