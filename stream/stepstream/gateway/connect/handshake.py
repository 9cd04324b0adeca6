"""The handshake with a worker: who it is, which apps it serves, and why it is refused."""

from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass

from aiohttp import WSMsgType, web

from stepstream.contract.codec import load_json
from stepstream.contract.errors import Conflict, InvalidInput, StepstreamError
from stepstream.gateway.connect import frames_pb2 as pb
from stepstream.gateway.connect.frames import frame, read
from stepstream.gateway.connect.session_tokens import SessionTokens
from stepstream.gateway.connect.worker_call import ConnectTimes
from stepstream.gateway.connect.worker_connection import ConnectedApp
from stepstream.gateway.sync.registry import PartlyRefused
from stepstream.gateway.wire.calls import CONNECT_URL
from stepstream.gateway.wire.registration import AppRegistration, engine_app_name, read_functions

APPS_MAX = 10
REFUSED, FAILED = 1008, 1011
_INSTANCE_CHARACTERS_MAX = 200
# How registrations over HTTP name the languages.
_LANGUAGES = {"typescript": "js"}


class Hangup(Exception):
    """The connection must be closed with this code, and with the message as its reason."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code


@dataclass(frozen=True, slots=True)
class Greeted:
    """A worker: its first message, its SDK such as `py:v0.5.19`, and its apps by their names in the engine."""

    said: pb.WorkerConnectRequestData
    sdk: str
    apps: Mapping[str, ConnectedApp]


@dataclass(frozen=True, slots=True)
class Handshake:
    """Greets workers: checks their `tokens`, and has their apps registered; `notice` receives what is wrong.

    `failed` is called with the reason, the app and its URL if its functions cannot be read.
    """

    tokens: SessionTokens
    register: Callable[[AppRegistration], Awaitable[object]]
    notice: Callable[[str], None]
    failed: Callable[[StepstreamError, str, str], None]
    times: ConnectTimes

    async def identify(self, ws: web.WebSocketResponse) -> pb.WorkerConnectRequestData:
        """Return what the worker at the other end says of itself; raise Hangup for one without valid tokens."""
        await ws.send_bytes(frame(pb.GATEWAY_HELLO))
        said = await self._first_message(ws)
        if not said.instance_id or not said.apps:
            raise Hangup(REFUSED, "connect_worker_hello_invalid_payload")
        if not self.tokens.accept(said.connection_id, said.auth_data):
            raise Hangup(REFUSED, "connect_authentication_failed")
        if len(said.apps) > APPS_MAX:
            raise Hangup(REFUSED, "connect_too_many_apps_per_connection")
        said.instance_id = said.instance_id[:_INSTANCE_CHARACTERS_MAX]
        return said

    async def welcome(self, ws: web.WebSocketResponse, said: pb.WorkerConnectRequestData) -> Greeted:
        """Register the apps of a worker, and return it; raise Hangup if it is refused."""
        sdk = _sdk(said)
        apps = [await self._registered(app, sdk) for app in said.apps]
        ready = pb.GatewayConnectionReadyData(
            heartbeat_interval=_duration(self.times.heartbeat_s), extend_lease_interval=_duration(self.times.extend_s)
        )
        await ws.send_bytes(frame(pb.GATEWAY_CONNECTION_READY, ready))
        return Greeted(said, sdk, dict(apps))

    async def _first_message(self, ws: web.WebSocketResponse) -> pb.WorkerConnectRequestData:
        message = await ws.receive()
        if message.type is not WSMsgType.BINARY:
            raise Hangup(REFUSED, "connect_worker_hello_invalid_payload")
        try:
            found = read(pb.ConnectMessage, message.data)
            if found.kind != pb.WORKER_CONNECT:
                raise Hangup(REFUSED, "connect_worker_hello_invalid_msg")
            return read(pb.WorkerConnectRequestData, found.payload)
        except InvalidInput:
            raise Hangup(REFUSED, "connect_worker_hello_invalid_payload") from None

    async def _registered(self, app: pb.AppConfiguration, sdk: str) -> tuple[str, ConnectedApp]:
        """Register an app; functions that cannot run here stay as they were, as with apps that are called over HTTP."""
        try:
            found = self._read(app, sdk)
            with suppress(PartlyRefused):
                await self.register(found)
        except (InvalidInput, Conflict) as error:
            raise self._refusal(app, error, REFUSED, "connect_invalid_function_config") from None
        except StepstreamError as error:
            raise self._refusal(app, error, FAILED, "connect_internal_error") from None
        if found.refused:
            self.notice(f"app {found.name}: {found.refusal}")
        served = {each.id for each in found.functions} | {each.id for each in found.refused}
        return found.topic_name, ConnectedApp(found.name, found.version, frozenset(served))

    def _read(self, app: pb.AppConfiguration, sdk: str) -> AppRegistration:
        try:
            functions = load_json(app.functions, field="functions")
            if not isinstance(functions, list):
                raise InvalidInput("use a JSON array", "functions")
            return read_functions(app.app_name, sdk, app.app_version, functions)
        except InvalidInput as error:
            if app.app_name.strip():
                self.failed(error, engine_app_name(app.app_name), CONNECT_URL)
            raise

    def _refusal(self, app: pb.AppConfiguration, error: Exception, code: int, reason: str) -> Hangup:
        self.notice(f"a worker of app {app.app_name} is refused: {error}")
        return Hangup(code, reason)


def _sdk(said: pb.WorkerConnectRequestData) -> str:
    language = _LANGUAGES.get(said.sdk_language, said.sdk_language)
    return f"{language}:v{said.sdk_version.removeprefix('v')}"


def _duration(seconds: float) -> str:
    return f"{seconds:g}s"
