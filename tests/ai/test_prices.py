"""What tokens cost: by the list of prices, for known models, where the package is installed."""

import sys
from typing import Any

import pytest

from stepstream import App, Context, Event, on
from stepstream.ai.prices import cost_nano_usd
from stepstream.runtime.readmodel.usage import UsageView
from stepstream.testing import VirtualEngine


def test_prices_are_those_of_the_model() -> None:
    """A cached token costs less, and the price of an unknown model is unknown."""
    known = cost_nano_usd("gpt-5", 1_000, 100)
    assert known > cost_nano_usd("gpt-5", 1_000, 100, cache_read=900) > 0
    assert cost_nano_usd("scripted", 1_000, 100) == cost_nano_usd("", 1_000, 100) == 0


async def usage_of_wrap() -> UsageView | None:
    """Return what a run used whose only step wraps a client."""
    app = App("ai")

    def complete(prompt: str) -> dict[str, Any]:
        return {"text": prompt, "model": "gpt-5", "usage": {"input_tokens": 1_000, "output_tokens": 100}}

    @app.function(on("go"))
    async def function(ctx: Context) -> None:
        await ctx.step.ai.wrap("complete", complete, "hi")

    async with VirtualEngine(app) as engine:
        await engine.send(Event("go"))
        return engine.run().usage


async def test_a_wrapped_client_has_the_price_of_its_model() -> None:
    """It follows from the answer."""
    usage = await usage_of_wrap()
    assert usage
    assert usage.cost_usd == cost_nano_usd("gpt-5", 1_000, 100) / 1e9


async def test_a_wrapped_client_needs_no_list_of_prices(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without it, the step has its tokens."""
    monkeypatch.delitem(sys.modules, "stepstream.ai.prices", raising=False)
    monkeypatch.setitem(sys.modules, "genai_prices", None)
    usage = await usage_of_wrap()
    assert usage
    assert (usage.cost_usd, usage.input_tokens) == (0, 1_000)
