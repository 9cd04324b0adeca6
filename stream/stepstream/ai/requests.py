"""Asks a language model once, by the direct interface of Pydantic AI; `sdk/deferred.py` loads it."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from typing import Any, NoReturn

from stepstream.ai.extras import require

require("pydantic_ai", "Pydantic AI", "ai")

from pydantic_ai import direct
from pydantic_ai.exceptions import ModelAPIError, ModelRequestRejectedError, UserError
from pydantic_ai.messages import (
    ModelMessage,
    ModelRequest,
    ModelResponse,
    PartDeltaEvent,
    PartStartEvent,
    SystemPromptPart,
    TextPart,
    TextPartDelta,
    UserPromptPart,
)
from pydantic_ai.models import ModelRequestParameters, StreamedResponse
from pydantic_ai.settings import ModelSettings
from pydantic_ai.tools import ToolDefinition

from stepstream.contract.codec import Raw, dump_json, load_json
from stepstream.contract.errors import InvalidInput, StepstreamError
from stepstream.sdk.deferred import converter_of, dump_untyped, load_typed, schema_of
from stepstream.sdk.errors import NonRetriableError, RetryAfterError
from stepstream.sdk.inference import Inference, Publish, Question
from stepstream.sdk.spending import note_usage

# The step retries: a client that did so too would multiply the attempts.
_NO_RETRIES = ModelSettings(max_retries=0)
_OUTPUT, _VALUE = "answer", "value"


class UnfitAnswerError(StepstreamError):
    """The answer of a model is not a value of the requested type; another attempt may help."""

    code = "unfit-answer"


async def ask(question: Question) -> Inference[Any]:
    """Return the answer of a model; raise an error that says whether another attempt may help."""
    try:
        response = await _response(question)
    except (UserError, ImportError, ModelAPIError) as error:
        raise_for_step(error)
    answer = answer_of(response)
    note_usage(answer.usage)
    return replace(answer, output=_output(response, question.output_type))


async def _response(question: Question) -> ModelResponse:
    model, messages, publish = question.model, _messages(question), question.publish
    settings, parameters = with_defaults(question.settings), _parameters(question.output_type)
    if publish is None:
        return await direct.model_request(model, messages, model_settings=settings, model_request_parameters=parameters)
    request = direct.model_request_stream(model, messages, model_settings=settings, model_request_parameters=parameters)
    return await published(request, publish)


def with_defaults(settings: Mapping[str, Any] | None) -> ModelSettings:
    """Return the settings of a request: those that the code gives, and no retries by the client without them."""
    given: Any = settings or {}
    return {**_NO_RETRIES, **given}


async def published(request: AbstractAsyncContextManager[StreamedResponse], publish: Publish) -> ModelResponse:
    """Return the response to a request that streams; pass each piece of its text to `publish` as it arrives."""

    async def publish_text(event: Any) -> None:
        if text := text_of(event):
            await publish(text)

    return await streamed(request, publish_text)


async def streamed(
    request: AbstractAsyncContextManager[StreamedResponse], publish: Callable[[Any], Awaitable[None]]
) -> ModelResponse:
    """Return the response to a request that streams; pass each of its events to `publish` as it arrives."""
    async with request as stream:
        async for event in stream:
            await publish(event)
        return stream.get()


def text_of(event: Any) -> str:
    """Return the piece of text that an event of a stream adds, "" if it adds none."""
    match event:
        case PartStartEvent(part=TextPart(content=text)) | PartDeltaEvent(delta=TextPartDelta(content_delta=text)):
            return text
        case _:
            return ""


def raise_for_step(error: Exception) -> NoReturn:
    """Raise an error of a request to a model as one that says to the step whether and when to retry."""
    if isinstance(error, UserError | ImportError | ModelRequestRejectedError):
        raise NonRetriableError(f"{type(error).__name__}: {error}") from error
    if isinstance(error, ModelAPIError) and error.retry_after:
        raise RetryAfterError(f"{type(error).__name__}: {error}", error.retry_after) from error
    raise error


def answer_of(response: ModelResponse) -> Inference[Any]:
    """Return an answer without an output: its parts, tokens and, if the price of the model is known, its cost."""
    usage = response.usage
    return Inference(
        None,
        response.model_name or "",
        _json_parts(response),
        response.finish_reason or "",
        usage.input_tokens,
        usage.output_tokens,
        _cost(response),
    )


def _json_parts(response: ModelResponse) -> list[dict[str, Any]]:
    parts: list[dict[str, Any]] = dump_untyped(response)["parts"]
    return parts


def _cost(response: ModelResponse) -> float | None:
    if not response.model_name:
        return None
    try:
        return float(response.cost().total_price)
    except (LookupError, ValueError):
        return None


def _messages(question: Question) -> list[ModelMessage]:
    """Return what is asked as messages; the instructions belong to the last one."""
    found = [_message(message) for message in question.messages]
    if question.prompt:
        found.append(ModelRequest([UserPromptPart(question.prompt)]))
    if question.instructions:
        found.append(ModelRequest([], instructions=question.instructions))
    return found


def _message(message: Any) -> ModelMessage:
    if isinstance(message, ModelRequest | ModelResponse):
        return message
    role = message.get("role") if isinstance(message, Mapping) else None
    text = message.get("content") if isinstance(message, Mapping) else None
    match role, text:
        case "user", str():
            return ModelRequest([UserPromptPart(text)])
        case "system", str():
            return ModelRequest([SystemPromptPart(text)])
        case "assistant", str():
            return ModelResponse([TextPart(text)])
    expected = '{"role": "user", "content": "…"}, with the role system, user or assistant, or a message of Pydantic AI'
    raise InvalidInput(f"{message!r:.200} is not a message; use {expected}", "messages")


def _parameters(output_type: Any) -> ModelRequestParameters:
    """Return parameters by which the model answers with text, or by the call of a tool that takes the output."""
    if output_type is str:
        return ModelRequestParameters()
    schema = _object_schema(output_type)
    tool = ToolDefinition(name=_OUTPUT, parameters_json_schema=schema, description="Give the answer.")
    return ModelRequestParameters(output_mode="tool", output_tools=[tool], allow_text_output=False)


def _object_schema(output_type: Any) -> dict[str, Any]:
    """Return the schema of an object that is a value of the type, or that has one."""
    schema = schema_of(output_type)
    if _is_object(schema):
        return schema
    inner = {key: part for key, part in schema.items() if key != "$defs"}
    defs = {"$defs": schema["$defs"]} if "$defs" in schema else {}
    return {"type": "object", "properties": {_VALUE: inner}, "required": [_VALUE], **defs}


def _is_object(schema: Mapping[str, Any]) -> bool:
    return schema.get("type") == "object"


def _output(response: ModelResponse, output_type: Any) -> Any:
    if output_type is str:
        return "".join(part.content for part in response.parts if isinstance(part, TextPart))
    calls: Sequence[Any] = [call for call in response.tool_calls if call.tool_name == _OUTPUT]
    if not calls:
        raise UnfitAnswerError(f"the model {response.model_name} answered without a value of {output_type!r}")
    try:
        raw = Raw(calls[0].args_as_json_str().encode())
        if not _is_object(schema_of(output_type)):
            whole = load_json(raw)
            raw = dump_json(whole[_VALUE] if isinstance(whole, dict) and _VALUE in whole else None)
        return load_typed(raw, converter_of(output_type))
    except InvalidInput as error:
        raise UnfitAnswerError(f"the answer of the model {response.model_name} does not fit: {error}") from None
