"""Requests that the gateway makes for apps, as the bodies of steps: to any URL, or to a model of an AI provider."""

from collections.abc import Mapping
from urllib.parse import urlencode

from stepstream.contract.codec import NULL, Raw, encode, load_json
from stepstream.contract.errors import InvalidInput
from stepstream.contract.outcomes import ErrorInfo
from stepstream.gateway.runs.transport import Request, Response, Transport, Unreachable
from stepstream.gateway.wire.ops import AiOp, GatewayOp
from stepstream.sdk.errors import ForeignError
from stepstream.sdk.spending import note_usage, usage_in

_SHOWN_CHARACTERS_MAX = 2_000
# How each provider takes its key: in this header, with this in front of it.
_KEY_HEADERS: Mapping[str, tuple[str, str]] = {
    "anthropic": ("X-Api-Key", ""),
    "openai-chat": ("Authorization", "Bearer "),
}
_DEFAULT_KEY_HEADER = ("Authorization", "Bearer ")


async def fetch(op: GatewayOp | AiOp, transport: Transport) -> Raw:
    """Make the request of a step and return its result; raise ForeignError, after which the step is retried."""
    try:
        response = await transport.request(_ai_request(op) if isinstance(op, AiOp) else _request(op))
    except Unreachable as error:
        name = "AIGatewayError" if isinstance(op, AiOp) else "GatewayError"
        raise ForeignError(ErrorInfo(name, str(error), code="unreachable")) from None
    return _ai_result(response) if isinstance(op, AiOp) else _result(response)


def _request(op: GatewayOp) -> Request:
    return Request(op.method, op.url, _named(op.headers), op.body.encode())


def _named(headers: Mapping[str, str]) -> dict[str, str]:
    """Return headers with names such as `X-Api-Key`, once each, as some receivers compare them exactly."""
    return {"-".join(part.capitalize() for part in name.split("-")): value for name, value in headers.items()}


def _result(response: Response) -> Raw:
    """Return what a request led to: any status is a result."""
    headers = {name.lower(): value for name, value in response.headers.items()}
    body = response.body.decode(errors="replace")
    return Raw(encode({"status_code": response.status, "headers": headers, "body": body}))


def _ai_request(op: AiOp) -> Request:
    headers = {"Content-Type": "application/json", **_named(op.headers)}
    if op.format == "gemini":
        url = f"{op.url}{'&' if '?' in op.url else '?'}{urlencode({'key': op.auth_key})}"
        return Request("POST", url, headers, bytes(op.body), follow=False)
    name, prefix = _KEY_HEADERS.get(op.format, _DEFAULT_KEY_HEADER)
    if op.auth_key:
        headers[name] = prefix + op.auth_key
    return Request("POST", op.url, headers, bytes(op.body), follow=False)


def _ai_result(response: Response) -> Raw:
    """Return what a model answered, and note its tokens; raise the provider's error for any status but success."""
    text = response.body.decode(errors="replace")
    try:
        answer = load_json(response.body)
        body = Raw(response.body)
    except InvalidInput:
        answer, body = None, Raw(encode(text))
    if 200 <= response.status < 300:
        note_usage(usage_in(answer))
        return body
    message = f"the provider answered {response.status}: {text[:_SHOWN_CHARACTERS_MAX]}"
    shown = {"name": "AIGatewayError", "message": message, "stack": text[:_SHOWN_CHARACTERS_MAX], "data": body}
    raw = Raw(encode(shown)) if len(response.body) <= _SHOWN_CHARACTERS_MAX else NULL
    raise ForeignError(ErrorInfo("AIGatewayError", message, code="ai-gateway"), raw)
