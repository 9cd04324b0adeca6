"""Requests to the HTTP API of an engine, and what to say when the answer is none."""

import http
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

import httpx

from stepstream.contract.errors import StepstreamError

TIMEOUT_S = 30.0


class NoUsableUrl(StepstreamError):
    """The address, the key, or a text that goes with them cannot be one."""

    code = "no-usable-url"


class NoAnswer(StepstreamError):
    """Nobody answers, or somebody else does."""

    code = "no-answer"


class Refused(StepstreamError):
    """The engine answers, and does not do it."""

    code = "refused"


@dataclass(frozen=True, slots=True)
class EngineApi:
    """The HTTP API at an address, which may lack its `http://`; the key goes into a header, and never into a text."""

    url: str
    api_key: str = field(default="", repr=False)

    def ask(self, method: str, *path: str, want: str, unsure: str = "", **options: Any) -> Any:
        """Return what the engine answers, an object that has the field `want`; the parts of the path may be any text.

        `unsure` is what to say when the request may have been taken though no answer came.
        """
        address = self.url if "://" in self.url else f"http://{self.url}"
        try:
            quoted = "/".join(quote(part, safe="") for part in path)
            response = httpx.request(
                method, f"{address.rstrip('/')}/{quoted}", timeout=TIMEOUT_S, headers=self._headers(), **options
            )
        except (httpx.InvalidURL, httpx.UnsupportedProtocol) as error:
            raise NoUsableUrl(f"--url {self.url}: {error}; give it as http://HOST:PORT") from None
        except UnicodeEncodeError as error:
            raise NoUsableUrl(f"what is given has bytes that are no UTF-8 ({error.reason})") from None
        except httpx.HTTPError as error:
            raise NoAnswer(f"{self.url} does not answer {_reason(error, unsure)}") from None
        return self._body(response, want, is_event=path[0] == "e")

    def _headers(self) -> dict[str, str]:
        # A key that was read from a file ends with the end of its line, which the engine leaves out, too.
        key = self.api_key.rstrip("\r\n")
        if not key:
            return {}
        if not key.isascii() or not key.isprintable() or " " in key:
            raise NoUsableUrl("--api-key, or STEPSTREAM_API_KEY: ASCII without spaces and line ends is wanted")
        return {"Authorization": f"Bearer {key}"}

    def _body(self, response: httpx.Response, want: str, *, is_event: bool) -> Any:
        try:
            body = response.json()
            if response.is_error:
                message = body["error"]["message"]
                if response.status_code == http.HTTPStatus.UNAUTHORIZED:
                    remedy = "--key or STEPSTREAM_EVENT_KEY" if is_event else "--api-key or STEPSTREAM_API_KEY"
                    message = f"{self.url}: {message}; give it by {remedy}"
                raise Refused(message)
            if want not in body:
                raise KeyError(want)
        except (ValueError, KeyError, TypeError):
            raise NoAnswer(
                f"{self.url} answers, with status {response.status_code}, but is no stepstream; give another --url"
            ) from None
        return body


def _reason(error: httpx.HTTPError, unsure: str) -> str:
    """Return what is said of a request without an answer; only one that found nobody has certainly done nothing."""
    match error:
        case httpx.ConnectTimeout():
            return "(timed out, and nobody took the connection); is --url right, and may it be reached from here?"
        case httpx.ConnectError():
            return f"({error}); start `stepstream dev FILE` or `stepstream engine`, or give --url"
        case httpx.TimeoutException():
            told = f"(timed out after {TIMEOUT_S:.0f} s), though something listens there; its log and /ready say why"
        case _:
            told = f"({error}): the connection broke; its log says why"
    return f"{told}. {unsure}" if unsure else told
