"""Requests to models share a limit in tokens, and settle it by what they used."""

from pydantic_ai.messages import ModelMessage, ModelResponse, TextPart
from pydantic_ai.models.function import AgentInfo, FunctionModel
from pydantic_ai.usage import RequestUsage

from stepstream import App, Context, Event, Limit, on
from tests.scenarios.conftest import EngineOf


async def test_a_request_settles_the_limit_by_its_tokens(engine_of: EngineOf) -> None:
    """The estimate is 10 tokens a request, so that all would start at once; after the first, 120 were used of 60."""
    tokens = Limit("tokens", 60, "1m", counts="units")
    app, starts = App("ai", limits=[tokens]), list[int]()

    def answer(_messages: list[ModelMessage], _info: AgentInfo) -> ModelResponse:
        starts.append(engine.now_ms)
        return ModelResponse([TextPart("yes")], usage=RequestUsage(input_tokens=100, output_tokens=20))

    @app.function(on("go"))
    async def function(ctx: Context) -> None:
        limited = ctx.step.options(limit=tokens, units=10)
        for number in range(2):
            await limited.ai.infer(f"ask {number}", model=FunctionModel(answer), prompt="?")

    async with engine_of(app) as engine:
        await engine.send(Event("go"))
        await engine.advance("10m")
        assert engine.run().status == "completed"
    assert len(starts) == 2
    assert starts[1] - starts[0] >= 60_000
