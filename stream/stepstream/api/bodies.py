"""Reads the bodies of requests, within one budget of bytes for the whole process, and decodes them."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TypeVar

import msgspec
from fastapi import Request

from stepstream.contract.errors import InvalidInput, StepstreamError, TooLarge
from stepstream.contract.limits import MIB

BODIES_BYTES_MAX = 128 * MIB
# A body of this size needs no budget, so that large bodies do not delay small requests.
FREE_BYTES = 64 * 1024
WAIT_S_MAX = 5.0
T = TypeVar("T", bound=msgspec.Struct)


class OverloadedError(StepstreamError):
    """Other requests use all memory for bodies; nothing of this one was processed, and it can be sent again."""

    code = "overloaded"


class BodyBudget:
    """The bytes that the bodies of all requests may have together, from reading them to answering the request.

    The whole size is claimed before anything is read: requests that claimed their bytes in parts could wait for each
    other.
    """

    def __init__(self, bytes_max: int = BODIES_BYTES_MAX, wait_s: float = WAIT_S_MAX) -> None:
        self._bytes_max = bytes_max
        self._wait_s = wait_s
        self._claimed = 0
        self._released = asyncio.Condition()

    @asynccontextmanager
    async def body(self, request: Request, bytes_max: int) -> AsyncIterator[bytes]:
        """Yield the body of a request; raise TooLarge for one above `bytes_max`, and OverloadedError without room."""
        declared = request.headers.get("content-length", "")
        size = int(declared) if declared.isdecimal() else bytes_max
        if size > bytes_max:
            raise TooLarge(f"the body has {size:,} bytes, at most {bytes_max:,} are allowed", "body")
        size = max(size - FREE_BYTES, 0)
        await self._claim(size)
        try:
            yield await _read(request, bytes_max)
        finally:
            await self._release(size)

    async def _claim(self, size: int) -> None:
        if not size:
            return
        try:
            async with asyncio.timeout(self._wait_s), self._released:
                await self._released.wait_for(lambda: self._claimed + size <= self._bytes_max)
                self._claimed += size
        except TimeoutError:
            raise OverloadedError("other requests with large bodies are in progress; send this one again") from None

    async def _release(self, size: int) -> None:
        if size:
            self._claimed -= size
            async with self._released:
                self._released.notify_all()


def decode_body(body: bytes, kind: type[T]) -> T:
    """Return the value of a JSON body; raise InvalidInput if it is not JSON, or not of this kind."""
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise InvalidInput(str(error), "body") from None


async def _read(request: Request, bytes_max: int) -> bytes:
    parts: list[bytes] = []
    size = 0
    async for part in request.stream():
        size += len(part)
        if size > bytes_max:
            raise TooLarge(f"the body has more than {bytes_max:,} bytes", "body")
        parts.append(part)
    return b"".join(parts)
