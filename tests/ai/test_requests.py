"""A request to a model: its settings, its messages, and which errors the step retries."""

import importlib
import sys
from typing import Any

import pytest
from pydantic_ai.exceptions import (
    ModelHTTPError,
    ModelRateLimitError,
    ModelRequestRejectedError,
    ModelServerError,
    UserError,
)
from pydantic_ai.messages import ModelMessage, ModelRequest, ModelResponse, TextPart, ToolCallPart
from pydantic_ai.models.function import AgentInfo, FunctionModel
from pydantic_ai.usage import RequestUsage

from stepstream.ai.requests import UnfitAnswerError, answer_of, ask, raise_for_step
from stepstream.contract.errors import InvalidInput
from stepstream.sdk.deferred import ask_model
from stepstream.sdk.errors import NonRetriableError, RetryAfterError
from stepstream.sdk.inference import Question

REMEDY = r"pip install 'stepstream\[ai\]'"


def question(model: Any, **options: Any) -> Question:
    """Return a question to a model."""
    given: dict[str, Any] = {"prompt": "?", "messages": (), "instructions": "", "settings": None, "output_type": str}
    return Question(model, publish=None, **{**given, **options})


async def test_a_client_makes_no_retries_by_itself() -> None:
    """Each request has the setting, beside those of the caller, who may set it otherwise."""
    seen: list[Any] = []

    def answer(_messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        seen.append(info.model_settings)
        return ModelResponse([TextPart("yes")])

    await ask(question(FunctionModel(answer), settings={"temperature": 0}))
    await ask(question(FunctionModel(answer), settings={"max_retries": 2}))
    assert seen == [{"max_retries": 0, "temperature": 0}, {"max_retries": 2}]


def http_error(category: Any, status: int) -> ModelHTTPError:
    """Return the error of a provider."""
    return ModelHTTPError.for_category(category, status_code=status, model_name="m")


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (http_error(ModelRequestRejectedError, 401), NonRetriableError),
        (http_error(ModelRequestRejectedError, 400), NonRetriableError),
        (http_error(ModelServerError, 503), ModelHTTPError),
        (ModelRateLimitError("m", "slow", retry_after=7.0), RetryAfterError),
        (UserError("no such model"), NonRetriableError),
        (ImportError("install openai"), NonRetriableError),
    ],
)
def test_errors_say_whether_to_retry(error: Exception, expected: type[Exception]) -> None:
    """A refused request is final, one with a time to wait is repeated then, and any other by the back-off."""
    with pytest.raises(expected) as caught:
        raise_for_step(error)
    if isinstance(caught.value, RetryAfterError):
        assert caught.value.delay_ms(0) == 7_000


async def test_an_unknown_model_is_a_final_error() -> None:
    """Neither a retry nor another worker helps."""
    with pytest.raises(NonRetriableError, match="Unknown model"):
        await ask(question("no-such-provider:model"))


@pytest.mark.parametrize("message", ["text", {"role": "robot", "content": "x"}, {"role": "user", "content": 5}])
async def test_a_wrong_message_is_refused(message: Any) -> None:
    """The error says what messages are."""
    with pytest.raises(InvalidInput, match="is not a message; use"):
        await ask(question("test", messages=[message]))


async def test_messages_of_pydantic_ai_are_passed_on() -> None:
    """They are not converted."""
    seen: list[ModelMessage] = []

    def answer(messages: list[ModelMessage], _info: AgentInfo) -> ModelResponse:
        seen.extend(messages)
        return ModelResponse([TextPart("yes")])

    given = [ModelRequest.user_text_prompt("one"), ModelResponse([TextPart("two")])]
    await ask(question(FunctionModel(answer), messages=given, prompt="three"))
    assert [type(each) for each in seen] == [ModelRequest, ModelResponse, ModelRequest]


@pytest.mark.parametrize("args", ["{", {"value": "many"}, {"other": 1}, "[1]"])
async def test_an_answer_that_does_not_fit_may_be_asked_again(args: Any) -> None:
    """The error is not final."""

    def answer(_messages: list[ModelMessage], _info: AgentInfo) -> ModelResponse:
        return ModelResponse([ToolCallPart("answer", args)])

    with pytest.raises(UnfitAnswerError):
        await ask(question(FunctionModel(answer), output_type=list[int]))


def test_the_cost_is_that_of_the_price_list() -> None:
    """A model whose price is unknown has no cost."""
    usage = RequestUsage(input_tokens=1_000_000, output_tokens=0)
    known = ModelResponse([], usage=usage, model_name="gpt-4o", provider_name="openai")
    found = answer_of(known)
    assert found.cost_usd == 2.5
    assert found.usage.cost_nano_usd == 2_500_000_000
    assert answer_of(ModelResponse([], usage=usage, model_name="my-own")).cost_usd is None


async def test_a_missing_extra_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    """The message says how to install it."""
    for name in [name for name in sys.modules if name.startswith("stepstream.ai")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "pydantic_ai", None)
    with pytest.raises(NonRetriableError, match=REMEDY):
        await ask_model(question("test"))
    with pytest.raises(ModuleNotFoundError, match=REMEDY):
        importlib.import_module("stepstream.ai.pydantic_ai")
