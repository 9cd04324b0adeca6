"""Encodes what calls contain without blocking the event loop."""

import asyncio
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")
# Encoding so many takes at most about 2 ms.
_BYTES_MAX = 64 * 1024


async def encoded(size: int, encode: Callable[[], T]) -> T:
    """Return the result of `encode`, which runs in a thread if it encodes more than `_BYTES_MAX` bytes."""
    return encode() if size <= _BYTES_MAX else await asyncio.to_thread(encode)
