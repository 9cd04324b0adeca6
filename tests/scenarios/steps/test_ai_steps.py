"""A step asks a language model once; it keeps the answer, what the answer cost, and the input of a wrapped client."""

from collections.abc import AsyncIterator, Sequence
from typing import Any

import pydantic
import pytest
from pydantic_ai.messages import ModelMessage, ModelResponse, TextPart, ToolCallPart
from pydantic_ai.models.function import AgentInfo, FunctionModel
from pydantic_ai.usage import RequestUsage

from stepstream import App, Context, Event, StepError, ThreadedContext, on
from tests.scenarios.conftest import EngineOf


class Ticket(pydantic.BaseModel):
    """What an answer has."""

    team: str
    urgent: bool


class Scripted:
    """A model that answers with these parts, one after the other, and counts the requests."""

    def __init__(self, *answers: TextPart | ToolCallPart | Exception) -> None:
        self.answers = answers
        self.requests: list[Sequence[ModelMessage]] = []
        self.model = FunctionModel(self.answer, stream_function=self.stream, model_name="scripted")

    def answer(self, messages: list[ModelMessage], _info: AgentInfo) -> ModelResponse:
        """Answer a request."""
        self.requests.append(messages)
        part = self.answers[len(self.requests) - 1]
        if isinstance(part, Exception):
            raise part
        return ModelResponse([part], usage=RequestUsage(input_tokens=100, output_tokens=20))

    async def stream(self, messages: list[ModelMessage], _info: AgentInfo) -> AsyncIterator[str]:
        """Answer a request word by word; an error comes after the words of the first answer."""
        self.requests.append(messages)
        part = self.answers[len(self.requests) - 1]
        assert not isinstance(part, ToolCallPart)
        for word in ["one", "two"] if isinstance(part, Exception) else part.content.split():
            yield f"{word} "
        if isinstance(part, Exception):
            raise part


@pytest.mark.log
async def test_infer_stores_the_answer_and_what_it_used(engine_of: EngineOf) -> None:
    """Text, a value of a type, and a conversation: each request is made once, and steps and run have the tokens."""
    app, scripted = (
        App("ai"),
        Scripted(
            TextPart("hello"),
            ToolCallPart("answer", {"team": "billing", "urgent": True}),
            ToolCallPart("answer", {"value": 3}),
        ),
    )

    @app.function(on("go"))
    async def function(ctx: Context) -> object:
        greeting = await ctx.step.ai.infer("greet", model=scripted.model, prompt="Say hello", instructions="Be short.")
        sorted_ = await ctx.step.ai.infer("sort", model=scripted.model, prompt="My card!", output_type=Ticket)
        talk = [{"role": "system", "content": "Count."}, {"role": "assistant", "content": "two"}]
        count = await ctx.step.ai.infer("count", model=scripted.model, messages=talk, prompt="And?", output_type=int)
        await ctx.step.sleep("nap", "1h")
        return [greeting.output, sorted_.output.team, sorted_.output.urgent, count.output, count.model, greeting.parts]

    async with engine_of(app) as engine:
        await engine.send(Event("go"))
        await engine.advance("1h")
        run = engine.run()
        output: Any = run.output
        assert output[:-1] == ["hello", "billing", True, 3, "scripted"]
        assert output[-1][0].items() >= {"content": "hello", "part_kind": "text"}.items()
        used = [(step.usage.input_tokens, step.usage.output_tokens) for step in run.steps if step.usage]
        assert used == [(100, 20)] * 3
        assert run.usage
        assert (run.usage.model, run.usage.input_tokens, run.usage.output_tokens) == ("scripted", 300, 60)
    assert len(scripted.requests) == 3
    assert [len(request) for request in scripted.requests] == [2, 1, 3]


async def test_unfit_answers_are_asked_for_again(engine_of: EngineOf) -> None:
    """An answer that does not fit fails the attempt, whose tokens count; so does an answer without the value."""
    app, scripted = (
        App("ai"),
        Scripted(
            ToolCallPart("answer", {"team": "billing"}),
            TextPart("billing"),
            ToolCallPart("answer", {"team": "a", "urgent": 0}),
        ),
    )

    @app.function(on("go"), backoff="1s")
    async def function(ctx: Context) -> object:
        found = await ctx.step.ai.infer("sort", model=scripted.model, prompt="My card!", output_type=Ticket)
        return found.output.model_dump()

    async with engine_of(app) as engine:
        await engine.send(Event("go"))
        await engine.advance("10s")
        run = engine.run()
        assert run.output == {"team": "a", "urgent": False}
        (step,) = run.steps
        assert [failure.name for failure in step.failures] == ["UnfitAnswerError"] * 2
        assert step.usage
        assert step.usage.input_tokens == 300


async def test_text_is_streamed_while_it_is_written(engine_of: EngineOf) -> None:
    """Clients get the pieces of the text, and drop those of an attempt that failed."""
    app, scripted = App("ai"), Scripted(ConnectionError("cut"), TextPart("the answer is 42"))

    @app.function(on("go"), backoff="1s")
    async def function(ctx: Context) -> str:
        found = await ctx.step.ai.infer("answer", model=scripted.model, prompt="?", stream="tokens")
        return found.output

    async with engine_of(app) as engine:
        await engine.send(Event("go"))
        await engine.advance("5s")
        run = engine.run()
        assert run.output == "the answer is 42 "
        assert await engine.stream(run.run_id, "tokens") == ["the ", "answer ", "is ", "42 "]


class Client:
    """A client of a model, as packages of providers have it."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, int]] = []

    async def complete(self, prompt: str, *, words: int = 5) -> dict[str, Any]:
        """Answer with as many tokens as words."""
        self.asked.append((prompt, words))
        return {"text": prompt.upper(), "model": "big", "usage": {"prompt_tokens": 2, "completion_tokens": words}}


@pytest.mark.log
async def test_a_rerun_changes_the_input_of_a_wrapped_client(engine_of: EngineOf) -> None:
    """The input is the result of a step before, by the names of the parameters; a rerun replaces it."""
    app, client = App("ai"), Client()

    @app.function(on("go"))
    async def function(ctx: Context) -> object:
        answer = await ctx.step.ai.wrap("complete", client.complete, ctx.event.data["prompt"], words=7)
        await ctx.step.sleep("nap", "1m")
        return answer["text"]

    async with engine_of(app) as engine:
        await engine.send(Event("go", {"prompt": "hi"}))
        await engine.advance("1m")
        first = engine.run()
        assert first.output == "HI"
        steps = {step.id: step for step in first.steps}
        assert steps["complete/input"].output == {"prompt": "hi", "words": 7}
        assert steps["complete"].usage
        assert (steps["complete"].usage.model, steps["complete"].usage.output_tokens) == ("big", 7)
        edited = {"complete/input": {"prompt": "hello", "words": 1}}
        again = await engine.rerun(first.run_id, from_step="complete", results=edited)
        await engine.advance("1m")
        by_id = {run.run_id: run for run in engine.runs()}
        assert by_id[again].output == "HELLO"
        usage = by_id[again].usage
        assert usage
        assert usage.output_tokens == 1
    assert client.asked == [("hi", 7), ("hello", 1)]


async def test_plain_functions_ask_models(engine_of: EngineOf) -> None:
    """In a plain function both steps block; a plain callable runs in a thread, with a model for its argument."""
    app, scripted, seen = App("ai"), Scripted(TextPart("yes")), list[Ticket]()

    @app.function(on("go"))
    def function(ctx: ThreadedContext) -> object:
        def triage(ticket: Ticket) -> dict[str, Any]:
            seen.append(ticket)
            return {"usage": {"input_tokens": 1, "output_tokens": 2}}

        answer = ctx.step.ai.infer("ask", model=scripted.model, prompt="?")
        ctx.step.ai.wrap("triage", triage, Ticket(team="a", urgent=True))
        ctx.step.sleep("nap", "1m")
        return answer.output

    async with engine_of(app) as engine:
        await engine.send(Event("go"))
        await engine.advance("1m")
        run = engine.run()
        assert run.output == "yes"
        assert run.usage
        assert (run.usage.model, run.usage.output_tokens) == ("", 22)
    assert seen == [Ticket(team="a", urgent=True)]


async def test_a_run_ends_when_its_budget_is_used(engine_of: EngineOf) -> None:
    """A request beyond the budget is not made: the step fails at once, in a replay too."""
    app, scripted = App("ai"), Scripted(*[TextPart("more")] * 5)

    @app.function(on("go"), ai_budget=200)
    async def function(ctx: Context) -> object:
        try:
            for number in range(5):
                await ctx.step.ai.infer(f"ask {number}", model=scripted.model, prompt="?")
                await ctx.step.sleep(f"nap {number}", "1m")
        except StepError as error:
            return [error.code, error.message]
        return None

    async with engine_of(app) as engine:
        await engine.send(Event("go"))
        await engine.advance("5m")
        assert engine.run().output == [
            "token-budget",
            "the run has used 240 tokens of ai_budget=200; raise ai_budget= of function 'function', or ask for less",
        ]
    assert len(scripted.requests) == 2
