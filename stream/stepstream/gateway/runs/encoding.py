"""Encodes what calls contain without blocking the event loop."""

import asyncio
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")
# Fewer bytes take less than a millisecond or two.
_BYTES_MAX = 64 * 1024


async def encoded(size: int, encode: Callable[[], T]) -> T:
    """Return what a function makes of about so many bytes; it runs in a thread if they are many."""
    return encode() if size <= _BYTES_MAX else await asyncio.to_thread(encode)
