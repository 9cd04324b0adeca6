"""Models of the OpenAI Agents SDK whose requests are steps, and how a step stores a response."""

import functools
import json
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

from stepstream.ai.extras import require

require("agents", "The OpenAI Agents SDK", "openai-agents")

from agents import ModelProvider, Usage
from agents.exceptions import ModelBehaviorError, UserError
from agents.items import ModelResponse, TResponseOutputItem, TResponseStreamEvent
from agents.models.interface import Model
from openai import APIError, OpenAIError
from openai.types.responses import Response, ResponseCompletedEvent, ResponseIncompleteEvent, ResponseTextDeltaEvent

from stepstream.ai.failures import raise_for_status
from stepstream.ai.prices import cost_nano_usd
from stepstream.contract.model_usage import ModelUsage
from stepstream.sdk.deferred import converter_of, dump_any
from stepstream.sdk.errors import NonRetriableError, StepUsageError
from stepstream.sdk.inference import Publish
from stepstream.sdk.replay.tasks import current_body
from stepstream.sdk.spending import note_usage
from stepstream.sdk.steps.bodies import StepBody
from stepstream.sdk.steps.step import Step
from stepstream.sdk.values import PLAIN_JSON


@dataclass(slots=True)
class RequestSteps:
    """The steps of the requests of an agent, which are numbered: an agent makes one after the other.

    `publish` gets the pieces of the text while the model writes it.
    """

    name: str
    step: Step
    publish: Publish | None
    made: int = 0

    def next_id(self) -> str:
        """Return the id of the next request."""
        self.made += 1
        return f"{self.name}/model {self.made}"


class DurableProvider(ModelProvider):
    """Finds the models of another provider, and makes their requests steps."""

    def __init__(self, provider: ModelProvider, steps: RequestSteps) -> None:
        self._provider = provider
        self._steps = steps

    def get_model(self, model_name: str | None) -> Model:
        """Return a model; its client is made by the first request that is not stored."""
        return DurableModel(functools.partial(self._provider.get_model, model_name), model_name or "", self._steps)


def durable_model(model: Model, steps: RequestSteps) -> Model:
    """Return a model whose requests are steps."""
    return DurableModel(lambda: model, str(getattr(model, "model", "")), steps)


@dataclass(frozen=True, slots=True)
class _Request:
    """A request to a model: one object, because the tools of an agent differ in each replay."""

    args: tuple[Any, ...]
    options: Mapping[str, Any]


class DurableModel(Model):
    """A model whose requests are steps; in the body of a step, as in that of a tool, they are made at once."""

    def __init__(self, find: Callable[[], Model], name: str, steps: RequestSteps) -> None:
        self._find = find
        self._name = name
        self._steps = steps

    async def get_response(self, *args: Any, **options: Any) -> ModelResponse:
        """Return the stored response, or ask the model."""
        if current_body.get() is not None:
            return await self._find().get_response(*args, **options)
        steps = self._steps
        body = functools.partial(self._ask, _Request(args, options))
        asked = StepBody(steps.next_id(), body, PLAIN_JSON, {"model": self._name})
        return _loaded(await steps.step.ai.counted(asked, lambda stored: int(stored["usage"]["total_tokens"])))

    def stream_response(self, *args: Any, **options: Any) -> AsyncIterator[TResponseStreamEvent]:
        """Stream a response in the body of a step; refuse to do so elsewhere, where it would be no step."""
        if current_body.get() is None:
            raise StepUsageError("the response of a durable agent is stored when it is complete: use Durable(ctx).run")
        return self._find().stream_response(*args, **options)

    async def _ask(self, request: _Request) -> dict[str, Any]:
        self._steps.step.ai.check_budget()
        try:
            response = await self._response(self._find(), request)
        except (UserError, ImportError, OpenAIError) as error:
            raise_for_step(error)
        note_usage(_usage_as_noted(self._name, response.usage))
        return _stored(response)

    async def _response(self, model: Model, request: _Request) -> ModelResponse:
        publish = self._steps.publish
        if publish is None:
            return await model.get_response(*request.args, **request.options)
        async for event in model.stream_response(*request.args, **request.options):
            match event:
                case ResponseTextDeltaEvent(delta=text):
                    await publish(text)
                case ResponseCompletedEvent(response=response) | ResponseIncompleteEvent(response=response):
                    return ModelResponse(response.output, _usage_of(response), response.id)
        raise ModelBehaviorError(f"the model {self._name} ended its stream without a response")


def raise_for_step(error: Exception) -> NoReturn:
    """Raise an error of a request to a model as one that says to the step whether and when to retry."""
    if isinstance(error, APIError):
        raise_for_status(error)
    # An OpenAIError of another kind is a wrong use of the client, such as without a key.
    raise NonRetriableError(f"{type(error).__name__}: {error}") from error


def _usage_as_noted(model: str, usage: Usage) -> ModelUsage:
    read, written, cached = usage.input_tokens, usage.output_tokens, usage.input_tokens_details.cached_tokens
    return ModelUsage(model, read, written, cost_nano_usd(model, read, written, cached))


def _usage_of(response: Response) -> Usage:
    used = response.usage
    if used is None:
        return Usage(requests=1)
    return Usage(
        requests=1,
        input_tokens=used.input_tokens,
        output_tokens=used.output_tokens,
        total_tokens=used.total_tokens,
        input_tokens_details=used.input_tokens_details,
        output_tokens_details=used.output_tokens_details,
    )


def _stored(response: ModelResponse) -> dict[str, Any]:
    """Return a response as JSON; items have what the model set, under the names that its API has."""
    return {
        "output": [
            item if isinstance(item, dict) else item.model_dump(mode="json", by_alias=True, exclude_unset=True)
            for item in response.output
        ],
        "usage": dump_any(response.usage),
        "response_id": response.response_id,
    }


def _loaded(stored: dict[str, Any]) -> ModelResponse:
    output = converter_of(list[TResponseOutputItem]).validate_json(json.dumps(stored["output"]).encode())
    usage = converter_of(Usage).validate_json(json.dumps(stored["usage"]).encode())
    return ModelResponse(output, usage, stored["response_id"])
