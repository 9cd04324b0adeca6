"""The steps that ask language models."""

import functools
import inspect
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import replace
from typing import Any, ParamSpec, TypeVar, overload

from stepstream.contract.errors import InvalidInput
from stepstream.contract.outcomes import Outcome
from stepstream.sdk.channels import Channel
from stepstream.sdk.deferred import ask_model, converter_of, with_cost
from stepstream.sdk.function import is_async, name_of
from stepstream.sdk.inference import Conversation, Inference, Question
from stepstream.sdk.publishing import Outlet
from stepstream.sdk.replay.calls import Call
from stepstream.sdk.replay.replay import Replay
from stepstream.sdk.spending import note_usage, usage_in
from stepstream.sdk.steps.bodies import StepBody, body_step, check_body
from stepstream.sdk.steps.captured import bound_arguments, dump_arguments, load_arguments
from stepstream.sdk.steps.step_call import StepCall, plain_value
from stepstream.sdk.steps.waits import StepOptions
from stepstream.sdk.values import PLAIN_JSON, ReturnType, return_type

T = TypeVar("T")
P = ParamSpec("P")


class ModelSteps:
    """`ctx.step.ai`: steps that ask a language model.

    They are steps like `ctx.step.run`, with the same retries, limits and queues, and the run shows what each has used:
    tokens, and their cost if it is known. An attempt settles limits that count units by its tokens, and
    `@app.function(ai_budget=)` ends a run that has used too many.

    Example:
        ```python
        tokens = Limit("tokens", 90_000, "1m", counts="units")
        answer = await ctx.step.options(limit=tokens, units=2_000).ai.infer("answer", model=model, prompt=question)
        ```
    """

    def __init__(self, replay: Replay, options: StepOptions) -> None:
        self._replay = replay
        self._options = options

    @overload
    def infer(
        self,
        id: str,
        *,
        model: Any,
        prompt: str = "",
        messages: Sequence[Any] = (),
        instructions: str = "",
        settings: Mapping[str, Any] | None = None,
        stream: str | Channel[str] = "",
    ) -> StepCall[Inference[str]]: ...
    @overload
    def infer(
        self,
        id: str,
        *,
        model: Any,
        output_type: type[T],
        prompt: str = "",
        messages: Sequence[Any] = (),
        instructions: str = "",
        settings: Mapping[str, Any] | None = None,
        stream: str | Channel[str] = "",
    ) -> StepCall[Inference[T]]: ...
    def infer(
        self,
        id: str,
        *,
        model: Any,
        output_type: Any = str,
        prompt: str = "",
        messages: Sequence[Any] = (),
        instructions: str = "",
        settings: Mapping[str, Any] | None = None,
        stream: str | Channel[str] = "",
    ) -> StepCall[Any]:
        """Ask a model once, and store its answer: an `Inference`. It needs the extra `stepstream[ai]`.

        Args:
            model: A name of Pydantic AI such as `"openai:gpt-5"`, or one of its `Model` objects.
            prompt: What the user asks; it follows the `messages`.
            messages: The conversation so far: `{"role": "user", "content": "…"}`, with the roles `system`, `user` and
                `assistant`, or messages of Pydantic AI.
            instructions: What the model should do with all of it.
            output_type: A pydantic model, a dataclass, or any other type that pydantic converts. An answer that does
                not fit fails the attempt.
            settings: Settings of the model, such as `{"temperature": 0, "max_tokens": 500}`.
            stream: A channel to which the pieces of the text are published while the model writes it.

        Only the step retries: a client that is made from the name of a model makes no retries by itself. Raises
        `StepError`, at once for a request that the provider refuses, and with the code `token-budget`.

        Example:
            ```python
            found = await ctx.step.ai.infer("sort", model="openai:gpt-5", prompt=mail, output_type=Ticket)
            if found.output.urgent:
                ...
            ```
        """
        if not prompt and not messages:
            raise InvalidInput("give prompt= or messages=", f"step {id!r}")
        kind: Any = Inference
        returns = ReturnType(converter_of(kind[output_type]))
        # Fingerprints leave a Conversation out: messages of Pydantic AI have times, which differ in each replay.
        asked = (model, prompt, Conversation(messages), instructions, settings)
        body = functools.partial(self._infer, output_type, stream, *asked)
        name = model if isinstance(model, str) else getattr(model, "model_name", "")
        arguments = {"model": name, "prompt": prompt, "output_type": name_of(output_type)}
        return self.counted(StepBody(id, body, returns, arguments), lambda answer: answer.usage.tokens)

    async def _infer(self, output_type: Any, stream: str | Channel[str], *asked: Any) -> Inference[Any]:
        self._options.spending.check()
        outlet = Outlet(self._replay)
        publish = functools.partial(outlet.publish, stream, shared=False) if stream else None
        model, prompt, messages, instructions, settings = asked
        question = Question(model, prompt, messages.messages, instructions, settings, output_type, publish)
        return await ask_model(question)

    @overload
    def wrap(
        self, id: str, fn: Callable[P, Coroutine[Any, Any, T]], /, *args: P.args, **kwargs: P.kwargs
    ) -> Coroutine[Any, Any, T]: ...
    @overload
    def wrap(self, id: str, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, T]: ...
    def wrap(self, id: str, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Coroutine[Any, Any, Any]:
        """Call a client of a model as a step whose input is stored too, so that a rerun may change it.

        The arguments are JSON, or have the types that `fn` declares for them. They are the result of a step before
        this one, `ID/input`, by the names of the parameters of `fn`: a rerun from this step may replace it. Tokens are
        those of the `usage` of what `fn` returns, which is a result as of `ctx.step.run`. Turn off the retries of the
        client, `AsyncOpenAI(max_retries=0)`, or both multiply.

        Example:
            ```python
            async def complete(prompt: str, temperature: float = 0) -> dict[str, Any]:
                answer = await client.responses.create(model="gpt-5", input=prompt, temperature=temperature)
                return answer.model_dump(mode="json")


            answer = await ctx.step.ai.wrap("complete", complete, question)
            ```
        """
        return _one_after_the_other(*self.wrap_calls(id, fn, args, kwargs))

    def wrap_calls(
        self, id: str, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> tuple[StepCall[Any], StepCall[Any], list[Any]]:
        """Return the two steps of `wrap`, and a list: append the result of the first before the second is awaited."""
        check_body("wrap", id, fn)
        given = bound_arguments(id, fn, args, kwargs)
        arguments = {"callable": name_of(fn), **given}
        # The first step asks no model, so it needs neither a limit nor a queue.
        own = replace(self._options, queue="", limited=False, limits=(), units="")
        store = functools.partial(dump_arguments, id, fn, given)
        captured: list[Any] = []
        ask = functools.partial(self._ask if is_async(fn) else self._ask_in_thread, id, fn, captured)
        return (
            body_step(self._replay, own, StepBody(f"{id}/input", store, PLAIN_JSON, arguments)),
            self.counted(StepBody(id, ask, return_type(fn), arguments), lambda answer: usage_in(answer).tokens),
            captured,
        )

    def _called(self, id: str, fn: Callable[..., Any], captured: Sequence[Any]) -> Any:
        self._options.spending.check()
        args, kwargs = load_arguments(id, fn, captured[0])
        return fn(*args, **kwargs)

    async def _ask(self, id: str, fn: Callable[..., Awaitable[Any]], captured: Sequence[Any]) -> Any:
        return await _noted(self._called(id, fn, captured))

    def _ask_in_thread(self, id: str, fn: Callable[..., Any], captured: Sequence[Any]) -> Any:
        value = self._called(id, fn, captured)
        if inspect.isawaitable(value):
            return _noted(value)
        _note(value)
        return value

    def check_budget(self) -> None:
        """Raise TokenBudgetError in a body if the run has used its budget."""
        self._options.spending.check()

    def body(self, body: StepBody) -> StepCall[Any]:
        """Return a step that asks no model, for an agent that calls its tools."""
        return body_step(self._replay, self._options, body)

    def counted(self, body: StepBody, tokens_of: Callable[[Any], int]) -> StepCall[Any]:
        """Return a step whose tokens count for the budget of the run once the code, or its replay, has the result."""

        def value_of(call: Call, outcome: Outcome) -> Any:
            value = plain_value(call, outcome)
            self._options.spending.add(tokens_of(value))
            return value

        return body_step(self._replay, self._options, body, value_of)


async def _noted(answer: Awaitable[Any]) -> Any:
    value = await answer
    _note(value)
    return value


def _note(answer: Any) -> None:
    usage = usage_in(answer)
    note_usage(with_cost(usage) if usage.model and usage.tokens else usage)


async def _one_after_the_other(first: StepCall[Any], second: StepCall[Any], captured: list[Any]) -> Any:
    try:
        captured.append(await first)
    except BaseException:
        second.close()
        raise
    return await second
