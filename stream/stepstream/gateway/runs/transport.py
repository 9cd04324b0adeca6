"""The way of a call to an app: bytes out, a response in."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Response:
    """What an app responded."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Unreachable(Exception):
    """The app gave no response that can be used; the message says why, in one line."""


class Transport(Protocol):
    """Carries calls to apps."""

    async def post(self, url: str, headers: Mapping[str, str], body: bytes) -> Response:
        """Send a call and return the response; raise Unreachable if there is none."""
