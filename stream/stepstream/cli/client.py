"""Requests to the HTTP API of an engine, with an error that says what to do when there is no usable answer.

The standard library's client is used because it loads in a tenth of the time of others, which every command would pay.
"""

import http
import http.client
import json
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from stepstream import __version__
from stepstream.cli.terminal.console import EXIT_FAILED, EXIT_UNREACHABLE, EXIT_USAGE, fail
from stepstream.contract.errors import StepstreamError
from stepstream.contract.text.names import CLIENT_NAME
from stepstream.contract.text.printable import printable

TIMEOUT_S = 30.0
_BY_URL = "--url or STEPSTREAM_URL"


class InvalidRequest(StepstreamError):
    """The address, the key or another text cannot be part of a request."""

    code = "invalid-request"


class NoAnswer(StepstreamError):
    """No server answers, or one that is not stepstream."""

    code = "no-answer"


class Refused(StepstreamError):
    """The engine answers with an error."""

    code = "refused"


@dataclass(frozen=True, slots=True)
class EngineClient:
    """A client of the engine at an address, whose `http://` may be missing; the key is only ever sent as a header."""

    url: str
    api_key: str = field(default="", repr=False)

    def request(
        self,
        method: str,
        *path: str,
        expect: str,
        unsure: str = "",
        query: Mapping[str, str | int] | None = None,
        body: Any = None,
    ) -> Any:
        """Return the engine's answer, an object with the field `expect`; the parts of the path may be any text.

        `unsure` is added to the error if the request may have taken effect although no answer came.
        """
        try:
            url = self._url(path, query)
            data = None if body is None else json.dumps(body, ensure_ascii=False).encode()
            status, answer = _exchange(method, url, self._headers(), data)
        except UnicodeEncodeError as error:
            raise InvalidRequest(f"an argument is not valid UTF-8 ({error.reason})") from None
        except (http.client.InvalidURL, ValueError) as error:
            reason = f"{self.url!r} is not an address: {error}; give {_BY_URL} as http://HOST:PORT"
            raise InvalidRequest(reason) from None
        except (OSError, http.client.HTTPException) as error:
            raise NoAnswer(f"no answer from {self.url} {_reason(error, unsure)}") from None
        return self._body(status, answer, expect, is_event=path[0] == "e")

    def _url(self, path: tuple[str, ...], query: Mapping[str, str | int] | None) -> str:
        address = self.url if "://" in self.url else f"http://{self.url}"
        parts = urlsplit(address)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("the scheme must be http or https, and a host must follow")
        quoted = "/".join(quote(part, safe="") for part in path)
        return f"{address.rstrip('/')}/{quoted}{f'?{urlencode(query)}' if query else ''}"

    def _headers(self) -> dict[str, str]:
        # A key that was read from a file ends with a line feed, which the engine strips as well.
        key = self.api_key.rstrip("\r\n")
        found = {"Content-Type": "application/json", "User-Agent": f"{CLIENT_NAME}/{__version__}"}
        if not key:
            return found
        if not key.isascii() or not key.isprintable() or " " in key:
            raise InvalidRequest("--api-key or STEPSTREAM_API_KEY: use ASCII without spaces and line feeds")
        return {**found, "Authorization": f"Bearer {key}"}

    def _body(self, status: int, answer: bytes, expect: str, *, is_event: bool) -> Any:
        try:
            body = json.loads(answer)
            if status >= http.HTTPStatus.BAD_REQUEST:
                message = printable(body["error"]["message"])
                if status == http.HTTPStatus.UNAUTHORIZED:
                    remedy = "--key or STEPSTREAM_EVENT_KEY" if is_event else "--api-key or STEPSTREAM_API_KEY"
                    message = f"{self.url}: {message}; pass it with {remedy}"
                raise Refused(message)
            if expect not in body:
                raise KeyError(expect)
        except (ValueError, KeyError, TypeError):
            raise NoAnswer(f"{self.url} answers (status {status}) but is not stepstream; check {_BY_URL}") from None
        return body


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """Follows no redirect: an engine sends none, and another server must not get the key."""

    def redirect_request(self, *_: object) -> None:
        """Refuse the new location."""


def _exchange(method: str, url: str, headers: Mapping[str, str], data: bytes | None) -> tuple[int, bytes]:
    """Send a request and return the status and the body of the answer, whatever the status is."""
    request = urllib.request.Request(url, data, dict(headers), method=method)  # noqa: S310 - the scheme was checked
    try:
        with urllib.request.build_opener(_NoRedirects).open(request, timeout=TIMEOUT_S) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()


def _reason(error: OSError | http.client.HTTPException, unsure: str) -> str:
    """Return why there is no answer. Only if no server was reached is it certain that the request had no effect."""
    # The library wraps what happens before the request is sent in a URLError.
    sending = error.reason if isinstance(error, urllib.error.URLError) else None
    match sending or error:
        case TimeoutError() if sending:
            return f"(connecting timed out); check {_BY_URL}, and that the address can be reached from this machine"
        case TimeoutError():
            reason = f"(timed out after {TIMEOUT_S:g} s), although a server listens there; see its log and /ready"
        case OSError() as found if sending and not isinstance(found, BrokenPipeError | ConnectionResetError):
            return f"({found.strerror or found}); start `stepstream dev FILE` or `stepstream engine`, or give {_BY_URL}"
        case found:
            reason = f"({found}): the connection broke; see the log of the server"
    return f"{reason}. {unsure}" if unsure else reason


def request(client: EngineClient, method: str, *path: str, expect: str, unsure: str = "", **options: Any) -> Any:
    """Return the engine's answer, as EngineClient.request does; an error ends the command with a line and a code."""
    try:
        return client.request(method, *path, expect=expect, unsure=unsure, **options)
    except InvalidRequest as error:
        raise fail(str(error), EXIT_USAGE) from None
    except NoAnswer as error:
        raise fail(str(error), EXIT_UNREACHABLE) from None
    except Refused as error:
        raise fail(str(error), EXIT_FAILED) from None
