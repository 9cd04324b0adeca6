"""The routes by which apps register: their own request, and the one that lets the gateway ask them."""

import json
import logging
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from stepstream.api.bodies import BodyBudget, OverloadedError
from stepstream.contract.errors import Conflict, InvalidInput, StepstreamError, TooLarge
from stepstream.gateway.rest.replies import iso
from stepstream.gateway.sync.app_client import DEPLOY, REGISTER_PATH, AppClient, Register, SyncError
from stepstream.gateway.sync.registry import AppRegistry, Synced
from stepstream.gateway.sync.signing_keys import EXPECTED_KIND, SERVER_KIND, SigningKeys
from stepstream.gateway.wire.calls import app_uuid
from stepstream.gateway.wire.registration import (
    REGISTRATION_BYTES_MAX,
    AppRegistration,
    named_in,
    read_registration,
    without_query,
)
from stepstream.runtime.recurrence import Recurrence

logger = logging.getLogger(__name__)
_NO_KEY = "the signing key is wrong; set INNGEST_SIGNING_KEY of the app to STEPSTREAM_SIGNING_KEY of this server"


class Refused(StepstreamError):
    """A request that is not allowed, with the status of its answer."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


@dataclass(frozen=True, slots=True)
class Access:
    """Whose requests are answered.

    `foreign` returns why a request must not come from where it does, empty if it may; `knows_api_key` returns whether
    it has the API key.
    """

    keys: SigningKeys
    foreign: Callable[[Mapping[str, str]], str]
    knows_api_key: Callable[[Mapping[str, str]], bool]

    def check_app(self, headers: Mapping[str, str]) -> None:
        """Raise Refused unless a request comes from an app."""
        self._check_origin(headers)
        if not self.keys.accept(headers):
            raise Refused(401, _NO_KEY)

    def check_operator(self, headers: Mapping[str, str]) -> None:
        """Raise Refused unless a request comes from an operator."""
        self._check_origin(headers)
        if not self.knows_api_key(headers):
            raise Refused(401, "send the API key as `Authorization: Bearer KEY`")

    def _check_origin(self, headers: Mapping[str, str]) -> None:
        if reason := self.foreign(headers):
            raise Refused(403, reason)


def sync_routes(
    client: AppClient, register: Register, access: Access, bodies: BodyBudget, registry: AppRegistry
) -> APIRouter:
    """Return `POST /fn/register`, which SDKs call, and for operators `POST /v1/apps/sync` and `GET /v1/apps`.

    Their bodies count among all `bodies` of the process.
    """
    kind, refusals = access.keys.kind, Recurrence()

    async def accept(request: Request) -> Response:
        deploy = request.query_params.get(DEPLOY, "")
        try:
            access.check_app(request.headers)
            async with bodies.body(request, REGISTRATION_BYTES_MAX) as body:
                if answer := await client.passed_on(deploy, request.headers, body):
                    return Response(answer[1], answer[0], {SERVER_KIND: kind}, "application/json")
                app = _registration(request, body, kind, registry)
            synced = await register(app)
        except StepstreamError as error:
            client.arrived(deploy, error)
            _log_refusal(error, refusals)
            return _failure(error, kind)
        client.arrived(deploy, synced)
        return _registered(synced, kind)

    async def ask(request: Request) -> Response:
        try:
            access.check_operator(request.headers)
            async with bodies.body(request, REGISTRATION_BYTES_MAX) as body:
                url = _url(body)
            synced = await client.sync(url)
        except StepstreamError as error:
            return _problem(error)
        return JSONResponse({"app": synced.app, "functions": synced.functions, "modified": synced.modified})

    async def list_apps(request: Request) -> Response:
        try:
            access.check_operator(request.headers)
        except StepstreamError as error:
            return _problem(error)
        return JSONResponse({"apps": apps_json(registry)})

    return APIRouter(
        routes=[
            Route(REGISTER_PATH, accept, methods=["POST"]),
            Route("/v1/apps/sync", ask, methods=["POST"]),
            Route("/v1/apps", list_apps, methods=["GET"]),
        ]
    )


def _log_refusal(error: StepstreamError, refusals: Recurrence) -> None:
    # Not all SDKs show the answer to their registration.
    if (more := refusals.occurs(str(error))) is not None:
        logger.info("a registration is refused: %s%s", error, more)


def _registered(synced: Synced, kind: str) -> Response:
    app_id = app_uuid(synced.app)
    found = {"ok": True, "modified": synced.modified, "sync_id": str(uuid.uuid4()), "app_id": app_id}
    return JSONResponse(found, headers={SERVER_KIND: kind})


def _registration(request: Request, body: bytes, kind: str, registry: AppRegistry) -> AppRegistration:
    """Return the app that a request registers; raise a StepstreamError, which is noted, if it is refused."""
    try:
        _check_kind(request.headers.get(EXPECTED_KIND, kind), kind)
        return read_registration(body)
    except StepstreamError as error:
        app, url = named_in(body)
        if app or url:
            registry.failures.failed(error, app, url)
        raise


def apps_json(registry: AppRegistry) -> list[dict[str, Any]]:
    """Return the apps of GET /v1/apps, those that have failed to register included."""
    live = {app: [each for each in functions if not each.retired] for app, functions in registry.apps().items()}
    failures = {each.app or each.url: each for each in registry.failures.all()}
    found = []
    for app in sorted({*failures, *(app for app, functions in live.items() if functions)}):
        functions, failure = live.get(app, []), failures.get(app)
        first = functions[0] if functions else None
        url = without_query(first.endpoint) if first else failure.url if failure else ""
        error, failed_at = (failure.error, iso(failure.at_ms)) if failure else ("", None)
        sdk, count = first.sdk if first else "", len(functions)
        found.append({"app": app, "url": url, "sdk": sdk, "functions": count, "error": error, "failed_at": failed_at})
    return found


def _check_kind(expected: str, kind: str) -> None:
    if expected != kind:
        remedy = "unset INNGEST_DEV of the app" if expected == "dev" else "set INNGEST_DEV=1 for the app"
        raise InvalidInput(f"the app expects a server of the kind {expected!r}, this one is {kind!r}; {remedy}")


def _url(body: bytes) -> str:
    try:
        url = json.loads(body)["url"]
    except (ValueError, KeyError, TypeError):
        url = None
    if not isinstance(url, str):
        raise InvalidInput('send {"url": "http://…/api/inngest"}', "body")
    return url


def _problem(error: StepstreamError) -> Response:
    """Return the answer in the form of our API."""
    found = {"code": error.code, "message": str(error), "field": getattr(error, "field", "")}
    return JSONResponse({"error": found}, _status(error))


def _failure(error: StepstreamError, kind: str) -> Response:
    """Return the answer in the form that SDKs read."""
    status = _status(error)
    return JSONResponse({"error": str(error), "status": status}, status, {SERVER_KIND: kind})


def _status(error: StepstreamError) -> int:
    match error:
        case Refused(status=status):
            return status
        case TooLarge():
            return 413
        case OverloadedError():
            return 503
        case InvalidInput() | Conflict() | SyncError():
            return 400
    return 500
