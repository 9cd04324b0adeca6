"""Reads the bodies of responses of apps: bounded in size, and in the time between two parts."""

import asyncio

import aiohttp

_CHUNK_BYTES = 64 * 1024


async def read_body(response: aiohttp.ClientResponse, bytes_max: int, silence_s_max: float) -> bytes:
    """Return the body; one that is too long is cut just above the limit, so that reading it fails.

    Raise TimeoutError if nothing arrives for `silence_s_max`.
    """
    parts, size = [], 0
    now = asyncio.get_running_loop().time
    async with asyncio.timeout(silence_s_max) as silence:
        async for part in response.content.iter_chunked(_CHUNK_BYTES):
            parts.append(part)
            size += len(part)
            if size > bytes_max:
                break
            silence.reschedule(now() + silence_s_max)
    return b"".join(parts)
