"""The calls of one run: what it is, as a request to its app, and the response, as an answer."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta

from stepstream.contract.codec import NULL, Raw
from stepstream.contract.events import EventRecord
from stepstream.contract.ids import run_hash, run_id_at
from stepstream.contract.limits import ERROR_OBJECT_BYTES_MAX
from stepstream.gateway.runs.defers import Defers
from stepstream.gateway.runs.encoding import encoded
from stepstream.gateway.runs.function import RemoteFunction
from stepstream.gateway.runs.transport import Transport, Unreachable
from stepstream.gateway.wire.answers import Answer, Failed, read_answer
from stepstream.gateway.wire.calls import (
    CALL_BYTES_MAX,
    DISCOVERY,
    VERSION_UNKNOWN,
    CallState,
    call_headers,
    call_parts,
    step_url,
)
from stepstream.gateway.wire.dues import Due
from stepstream.gateway.wire.failures import RemoteError, made_error
from stepstream.gateway.wire.internal_events import event_json
from stepstream.sdk.errors import DelayedForeignError, FinalForeignError, ForeignError
from stepstream.sdk.replay.replay import Snapshot

# Calls of one claim of a run; the next claim numbers its calls from the next multiple of it.
_CALLS_PER_EPOCH = 100_000
_GO, _JAVASCRIPT = ("go:", "inngest-go:"), ("js:", "inngest-js:")


@dataclass(slots=True)
class Caller:
    """Makes the calls of one run under one claim; `version` and `sdk` are those that its app last answered with.

    `defers` are the functions that the code has deferred.
    """

    run_id: str
    epoch: int
    events: Sequence[EventRecord]
    function_of: Callable[[], RemoteFunction]
    transport: Transport
    now_ms: Callable[[], int]
    version: int = VERSION_UNKNOWN
    sdk: str = ""
    generation: int = 0
    defers: Defers = field(default_factory=Defers)
    _open: set[int] = field(default_factory=set)
    _events: list[Raw] = field(default_factory=list)

    @property
    def fingerprint(self) -> int:
        """The version as the engine stores it with each step, so that the next claim knows it; 0 if it is unknown."""
        return max(self.version, 0)

    @property
    def merges(self) -> bool:
        """Whether one call follows all parallel steps, and not one each of them."""
        return self.version >= 2

    @property
    def is_go(self) -> bool:
        """Whether the app uses the SDK for Go."""
        return (self.sdk or self.function_of().sdk).startswith(_GO)

    async def call(self, step: str, attempt: int, memos: Mapping[str, Raw], *, parallel: bool) -> Answer:
        """Call the app and return its answer; a call that cannot be made is a failed attempt.

        A call that is too large has neither events nor memos, if the app can fetch them.
        """
        function = self.function_of()
        state = self._state(function, step, attempt, memos, parallel=parallel)
        built = self._built(state, can_fetch=function.inputs)
        if isinstance(built, Failed):
            return built
        state, body = built
        headers = call_headers(state, function.server_kind)
        self._open.add(state.generation)
        try:
            response = await self.transport.post(step_url(function.endpoint, step), headers, body)
        except Unreachable as error:
            return Failed(made_error(str(error), "unreachable"))
        finally:
            self._open.discard(state.generation)
        answer = read_answer(response.status, response.headers, response.body)
        self.sdk = answer.sdk or self.sdk
        if self.version == VERSION_UNKNOWN and answer.version is not None:
            self.version = answer.version
        return answer

    def _built(self, state: CallState, *, can_fetch: bool) -> tuple[CallState, bytes] | Failed:
        """Return a call and its body, which is built once its size is known."""
        parts = call_parts(state)
        if (size := sum(map(len, parts))) > CALL_BYTES_MAX:
            if self.is_go:
                return _too_large(size)
            if can_fetch:
                state = replace(state, use_api=True)
                parts = call_parts(state)
        return state, b"".join(parts)

    def is_open(self, generation: int | None) -> bool:
        """Return whether the call of this number is open; without a number, whether any is."""
        return bool(self._open) if generation is None else generation in self._open

    def size(self, results: int) -> int:
        """Return about how many bytes a call has with results of so many bytes."""
        size = self._event_bytes + results
        is_sent = size <= CALL_BYTES_MAX or not (self.is_go or self.function_of().inputs)
        return size if is_sent else 0

    async def encode_events(self) -> None:
        """Encode the events of the run, once."""
        if not self._events:
            self._events = await encoded(self._event_bytes, self._encoded_events)

    @property
    def _event_bytes(self) -> int:
        return sum(len(event.data) for event in self.events)

    def events_json(self) -> list[Raw]:
        """Return the events of the run as its app sees them."""
        self._events = self._events or self._encoded_events()
        return self._events

    def _encoded_events(self) -> list[Raw]:
        return [event_json(event, self.function_of().id) for event in self.events]

    def _state(
        self, function: RemoteFunction, step: str, attempt: int, memos: Mapping[str, Raw], *, parallel: bool
    ) -> CallState:
        self.generation += 1
        generation = self.epoch * _CALLS_PER_EPOCH + self.generation
        item = f"{self.run_id}.{len(memos) if step == DISCOVERY else step}"
        return CallState(
            self.run_id,
            function.id,
            self.events_json(),
            dict(memos),
            step,
            attempt,
            function.policy.retries + 1,
            self.version,
            parallel,
            generation,
            run_id_at(self.now_ms(), run_hash(self.run_id, str(generation))),
            item,
            item + function.gateway_url,
            self.defers.known,
            checkpoints=function.checkpoints or not (self.sdk or function.sdk).startswith(_JAVASCRIPT),
        )

    def error(self, error: RemoteError, retry_after: Due | None, *, final: bool) -> ForeignError:
        """Return an error of an app as an exception that says whether and when another attempt follows."""
        raw = _kept(error)
        if final:
            return FinalForeignError(error.info, raw)
        if retry_after is None:
            return ForeignError(error.info, raw)
        after = timedelta(milliseconds=retry_after.retry_delay_ms(self.now_ms()))
        return DelayedForeignError(error.info, raw, after)

    def failure(self, answer: Failed, *, is_last: bool) -> ForeignError:
        """Return the error of a failed call of the code between steps; no attempt follows the last one."""
        if is_last and not answer.final:
            return FinalForeignError(answer.error.info, _kept(answer.error), non_retriable=False)
        return self.error(answer.error, answer.retry_after, final=answer.final)


def _kept(error: RemoteError) -> Raw:
    return error.raw if len(bytes(error.raw)) <= ERROR_OBJECT_BYTES_MAX else NULL


def known_version(snapshot: Snapshot) -> int:
    """Return the version by which the code of a run has asked for its steps, VERSION_UNKNOWN if it has none."""
    found = [each.fingerprint for each in snapshot.memos] + [each.fingerprint for each in snapshot.opened]
    return next(filter(None, found), VERSION_UNKNOWN)


def _too_large(size: int) -> Failed:
    message = f"the call has {size:,} bytes; at most {CALL_BYTES_MAX:,} are sent, and the SDK for Go cannot fetch more"
    return Failed(made_error(message, "call-too-large", name="InngestErrStateOverflowed"), final=True)
