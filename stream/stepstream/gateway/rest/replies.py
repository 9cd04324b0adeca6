"""Answers in the form of the SDKs: error objects, envelopes, and the kind of the server in each answer."""

import http
from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import HTTPException, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException as AnyHttpException

from stepstream.contract.errors import Conflict, InvalidInput, StepstreamError, TooLarge
from stepstream.gateway.wire.internal_events import utc_text
from stepstream.runtime.readmodel.queries import QueryTooSlow

KIND_HEADER = "X-Inngest-Server-Kind"


def iso(at_ms: int) -> str | None:
    """Return a time (Unix ms) as the SDKs parse it; None for 0, which is unknown."""
    return utc_text(at_ms) if at_ms else None


def enveloped(data: Any, now_ms: int) -> dict[str, Any]:
    """Return the body of a successful answer of /v1."""
    return {"data": data, "metadata": {"fetched_at": iso(now_ms), "cached_until": None}}


def error_reply(error: Exception) -> JSONResponse:
    """Return an error as the SDKs parse it: `error` is a text, and `status` a number."""
    status, code = _status_of(error)
    body = {"error": _text_of(error), "status": status, "data": None} | ({"code": code} if code else {})
    return JSONResponse(body, status, getattr(error, "headers", None))


def _text_of(error: Exception) -> str:
    match error:
        case AnyHttpException():
            return str(error.detail)
        case StepstreamError():
            return str(error)
        case RequestValidationError():
            first = error.errors()[0]
            return f"{'.'.join(map(str, first['loc'][1:]))}: {first['msg']}"
        case _:
            return "the server failed to process this request; see its log"


def _status_of(error: Exception) -> tuple[int, str]:
    match error:
        case AnyHttpException():
            return error.status_code, ""
        case TooLarge():
            return 413, error.code
        case QueryTooSlow() | InvalidInput():
            return 400, error.code
        case Conflict():
            return 409, error.code
        case StepstreamError():
            return 503, error.code
        case RequestValidationError():
            return 400, InvalidInput.code
        case _:
            return 500, "internal"


def not_found(what: str) -> HTTPException:
    """Return the error for something that does not exist."""
    return HTTPException(http.HTTPStatus.NOT_FOUND, f"there is no {what}")


def unsupported(what: str) -> HTTPException:
    """Return the error for something that this server does not do."""
    return HTTPException(http.HTTPStatus.NOT_IMPLEMENTED, f"stepstream does not support {what}")


def route_class(kind: str) -> type[APIRoute]:
    """Return the class of the routes of a server of this kind: their errors and headers are those of the SDKs."""

    class SdkRoute(APIRoute):
        def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
            handle = super().get_route_handler()

            async def answer(request: Request) -> Response:
                try:
                    response: Response = await handle(request)
                except (AnyHttpException, RequestValidationError, StepstreamError) as error:
                    response = error_reply(error)
                response.headers[KIND_HEADER] = kind
                return response

            return answer

    return SdkRoute
