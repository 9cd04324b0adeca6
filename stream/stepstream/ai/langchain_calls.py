"""How a step stores a response or the result of a tool of LangChain, and counts the tokens of models."""

from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any
from uuid import UUID

from stepstream.ai.extras import require

require("langchain", "LangChain", "langchain")

from langchain.agents.middleware import ModelResponse
from langchain.agents.structured_output import (
    AutoStrategy,
    OutputToolBinding,
    ProviderStrategy,
    ProviderStrategyBinding,
    ToolStrategy,
)
from langchain_core.callbacks import AsyncCallbackHandler
from langchain_core.messages import AIMessage, BaseMessage, message_to_dict, messages_from_dict
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, LLMResult
from langchain_core.tracers.context import register_configure_hook
from langgraph.types import Command

from stepstream.ai.prices import cost_nano_usd
from stepstream.contract.model_usage import NO_USAGE, ModelUsage, added_usage
from stepstream.sdk.deferred import dump_any
from stepstream.sdk.errors import StepUsageError
from stepstream.sdk.inference import Publish
from stepstream.sdk.spending import note_usage


class ModelCalls(AsyncCallbackHandler):
    """Adds up what the requests of a body to models used."""

    # LangChain logs the errors of other handlers: a message that could not be published would be missing.
    raise_error = True

    def __init__(self) -> None:
        self.usage = NO_USAGE

    async def on_chat_model_start(self, *_: Any, **__: Any) -> None:
        """Do nothing; without it, LangChain would render the messages as one text."""

    async def on_llm_end(self, response: LLMResult, **_: Any) -> None:
        """Add the tokens of a request."""
        for generation in (each for group in response.generations for each in group):
            if isinstance(generation, ChatGeneration) and isinstance(generation.message, AIMessage):
                self.usage = added_usage(self.usage, _usage_of(generation.message))


class PublishedCalls(ModelCalls):
    """Publishes the text that a model writes, too; models stream for a handler that could tap what they stream."""

    def __init__(self, publish: Publish) -> None:
        super().__init__()
        self._publish = publish

    async def on_llm_new_token(self, token: Any, *, chunk: Any = None, **_: Any) -> None:
        """Publish a piece of text."""
        text = str(chunk.message.text if isinstance(chunk, ChatGenerationChunk) else token)
        if text:
            await self._publish(text)

    def tap_output_aiter(self, _run_id: UUID, output: AsyncIterator[Any]) -> AsyncIterator[Any]:
        """Leave what a model streams as it is."""
        return output

    def tap_output_iter(self, _run_id: UUID, output: Iterator[Any]) -> Iterator[Any]:
        """Leave what a model streams as it is."""
        return output


# LangChain calls the handler of the context in every request to a model, also in those of agents inside of a tool.
_calls: ContextVar[ModelCalls | None] = ContextVar("stepstream_model_calls", default=None)
register_configure_hook(_calls, inheritable=True)


@contextmanager
def counted_calls(publish: Publish | None = None) -> Iterator[ModelCalls]:
    """Count what a body uses of models, also if it fails."""
    calls = PublishedCalls(publish) if publish else ModelCalls()
    token = _calls.set(calls)
    try:
        yield calls
    finally:
        _calls.reset(token)
        if calls.usage.tokens:
            note_usage(calls.usage)


def model_name(model: Any) -> str:
    """Return the name under which the provider knows a model, "" if it is unknown."""
    return str(getattr(model, "model_name", "") or getattr(model, "model", ""))


def _usage_of(message: AIMessage) -> ModelUsage:
    used = message.usage_metadata
    if used is None:
        return NO_USAGE
    read, written = used["input_tokens"], used["output_tokens"]
    details = used.get("input_token_details", {})
    cached = details.get("cache_read", 0), details.get("cache_creation", 0)
    name = str(message.response_metadata.get("model_name", ""))
    return ModelUsage(name, read, written, cost_nano_usd(name, read, written, *cached))


def stored_response(response: ModelResponse[Any]) -> dict[str, Any]:
    """Return a response as JSON; its structured response is part of the messages."""
    messages = [_stored(message) for message in response.result]
    return {"messages": messages, "structured": response.structured_response is not None}


def response_of(stored: Mapping[str, Any], expected: Any) -> ModelResponse[Any]:
    """Return a stored response, with its structured response by the format that the agent expects."""
    messages = messages_from_dict(stored["messages"])
    return ModelResponse(messages, _structured(messages, expected) if stored["structured"] else None)


def _structured(messages: Sequence[BaseMessage], expected: Any) -> Any:
    """Return the value that the model gave by the call of a tool, or as its text."""
    answer = next(message for message in messages if isinstance(message, AIMessage))
    # With an AutoStrategy, the model decides which of both it is.
    schema = expected.schema
    tools = expected if isinstance(expected, ToolStrategy) else ToolStrategy(schema)
    bindings = {spec.name: OutputToolBinding.from_schema_spec(spec) for spec in tools.schema_specs}
    for call in answer.tool_calls:
        if call["name"] in bindings:
            return bindings[call["name"]].parse(call["args"])
    provided = ProviderStrategy(schema) if isinstance(expected, AutoStrategy) else expected
    return ProviderStrategyBinding.from_schema_spec(provided.schema_spec).parse(answer)


def stored_result(tool: str, result: Any) -> dict[str, Any]:
    """Return the result of a call of a tool as JSON; raise StepUsageError for one that steers the agent."""
    if isinstance(result, list):
        return {"several": [stored_result(tool, each) for each in result]}
    if isinstance(result, BaseMessage):
        return {"message": _stored(result)}
    update = result.update
    if not isinstance(update, dict) or result != Command(update=update):
        raise StepUsageError(f"tool {tool!r} steers the agent by a Command, which a step cannot: inline=[{tool!r}]")
    return {"update": {key: _stored_value(value) for key, value in update.items()}}


def result_of(stored: Mapping[str, Any]) -> Any:
    """Return a stored result of a call of a tool."""
    match stored:
        case {"several": results}:
            return [result_of(each) for each in results]
        case {"update": update}:
            return Command(update={key: _value_of(value) for key, value in update.items()})
        case _:
            return messages_from_dict([stored["message"]])[0]


def _stored_value(value: Any) -> dict[str, Any]:
    if isinstance(value, list) and all(isinstance(each, BaseMessage) for each in value):
        return {"messages": [_stored(each) for each in value]}
    return {"value": dump_any(value)}


def _value_of(stored: Mapping[str, Any]) -> Any:
    return messages_from_dict(stored["messages"]) if "messages" in stored else stored["value"]


def _stored(message: BaseMessage) -> Any:
    return dump_any(message_to_dict(message))
