"""The way of a call to an app: bytes out, a response in."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Response:
    """What an app responded."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Request:
    """What the gateway sends for an app; the headers may have a secret, which no redirect must `follow`."""

    method: str
    url: str
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(default=b"", repr=False)
    follow: bool = True


class Unreachable(Exception):
    """The app gave no response that can be used; the message says why, in one line."""


class NotCalled(BaseException):
    """The app was not called, and its answer is not known: the process stops."""


class Transport(Protocol):
    """Carries calls to apps."""

    async def request(self, request: Request) -> Response:
        """Make a request for an app, unsigned, and return the response; raise Unreachable if there is none."""

    async def post(self, url: str, headers: Mapping[str, str], body: bytes) -> Response:
        """Send a call and return the response; raise Unreachable if there is none, and NotCalled if none is sent."""
