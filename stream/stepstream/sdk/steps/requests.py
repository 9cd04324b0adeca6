"""A request that a run has taken, and the reply that its sender waits for."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Generic, TypeVar

import msgspec

from stepstream.contract.codec import dump_json
from stepstream.contract.errors import InvalidInput
from stepstream.contract.limits import REQUEST_FORM_BYTES_MAX, REQUEST_NAME_CHARACTERS_MAX
from stepstream.contract.operators.run_requests import (
    AcceptedRequest,
    RunRequest,
    decode_request,
    reply_step_id,
)
from stepstream.contract.outcomes import ErrorInfo, Outcome, Value
from stepstream.sdk.deferred import bounded_schema, converter_of
from stepstream.sdk.errors import StepError, StepUsageError
from stepstream.sdk.function import RetryPolicy
from stepstream.sdk.replay.calls import RUN, Call
from stepstream.sdk.replay.replay import Replay
from stepstream.sdk.steps.step_call import StepCall, loaded_value, plain_value
from stepstream.sdk.values import PLAIN_JSON, ReturnType, to_json

M = TypeVar("M")
Reply = Callable[[str, Any], StepCall[None]]


class Request(Generic[M]):
    """A request that `wait_for_request` has returned.

    Attributes:
        data: What its sender asks, as the type `schema`.
        id: What identifies it in its run: the idempotency key of its sender, or a random one.
        by: Who sent it, if known.
        at: When it was sent.
    """

    def __init__(self, request: RunRequest, data: M, reply: Reply) -> None:
        self.data = data
        self.id = request.id
        self.by = request.by
        self.at = datetime.fromtimestamp(request.at / 1_000, UTC)
        self._reply: Reply | None = reply

    def reply(self, value: Any = None) -> StepCall[None]:
        """Reply to the sender, as a step: JSON, a pydantic model or a dataclass, at most 4 MiB.

        A request has one reply: a second one raises `StepUsageError`. A run that ends without a reply ends the request.
        """
        if self._reply is None:
            raise StepUsageError(f"request {self.id!r} has a reply already; wait for the next request")
        call = self._reply(self.id, value)
        self._reply = None
        return call

    def __repr__(self) -> str:
        return f"Request({self.id!r}, {self.data!r})"


class ThreadedRequest(Generic[M]):
    """A request of a plain function: like `Request`, with a `reply` that blocks."""

    def __init__(self, request: Request[M], wait: Callable[[StepCall[None]], None]) -> None:
        self.data, self.id, self.by, self.at = request.data, request.id, request.by, request.at
        self._request = request
        self._wait = wait

    def reply(self, value: Any = None) -> None:
        """Reply to the sender; see `Request.reply`."""
        self._wait(self._request.reply(value))

    def __repr__(self) -> str:
        return f"Threaded{self._request!r}"


def accepted_request(id: str, schema: Any) -> AcceptedRequest:
    """Return what a step accepts; raise InvalidInput for a long id, or StepUsageError for a type without a schema."""
    if len(id) > REQUEST_NAME_CHARACTERS_MAX:
        raise InvalidInput(f"the name of a request has at most {REQUEST_NAME_CHARACTERS_MAX} characters", "id")
    if schema is None:
        return AcceptedRequest()
    try:
        return AcceptedRequest(bounded_schema(schema, REQUEST_FORM_BYTES_MAX))
    except ValueError as error:
        raise StepUsageError(f"step {id!r}: schema={schema!r}: {error}") from None


def request_value(schema: Any, reply: Reply) -> Callable[[Call, Outcome], Any]:
    """Return how the outcome of the step becomes a Request, with data of the type `schema`."""

    def value_of(call: Call, outcome: Outcome) -> Request[Any] | None:
        if not isinstance(outcome, Value):
            plain_value(call, outcome)
            return None
        try:
            request = decode_request(outcome.data)
        except msgspec.ValidationError as error:
            reason = f"the signal is not a request: {error}; send it by POST /v1/runs/{{run_id}}/requests/{call.id}"
            raise StepError(call.id, ErrorInfo("RequestError", reason, "", "invalid-request")) from None
        returns = PLAIN_JSON if schema is None else ReturnType(converter_of(schema))
        return Request(request, loaded_value(call, request.data, returns), reply)

    return value_of


def replies(replay: Replay, name: str, policy: RetryPolicy) -> Reply:
    """Return a function that replies to a request of this name by its id: a step whose result is the reply."""

    def reply(request_id: str, value: Any) -> StepCall[None]:
        plain, id = to_json(value), reply_step_id(name, request_id)
        dump_json(plain, f"reply of step {name!r}")

        async def body() -> Any:
            return plain

        return StepCall(
            replay,
            id,
            lambda step: Call(step, id, RUN, body=body, policy=policy),
            _no_value,
            {"reply": plain},
        )

    return reply


def _no_value(call: Call, outcome: Outcome) -> None:
    plain_value(call, outcome)
