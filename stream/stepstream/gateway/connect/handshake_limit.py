"""Limits the handshakes that run at a time: each client may send a frame of the largest size."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class HandshakeLimit:
    """At most `most` handshakes run at a time; of the clients that wait, the latest is next.

    While others wait, a handshake that has lasted for `silent_s` is aborted, so silent clients keep no worker out.
    """

    def __init__(self, most: int, silent_s: float) -> None:
        self._free = most
        self._silent_s = silent_s
        self._waiting: list[asyncio.Future[None]] = []
        # When each handshake began, the oldest first.
        self._held: dict[asyncio.Timeout, float] = {}

    @asynccontextmanager
    async def admitted(self, seconds: float) -> AsyncIterator[None]:
        """Run the block, a handshake, once it may begin.

        Raise TimeoutError after so many seconds, including the wait, or when it is aborted for another one.
        """
        async with asyncio.timeout(seconds) as limit:
            await self._enter()
            self._held[limit] = asyncio.get_running_loop().time()
            try:
                yield
            finally:
                self._held.pop(limit, None)
                self._leave()

    async def _enter(self) -> None:
        if self._free:
            self._free -= 1
            return
        permit: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(permit)
        try:
            while not permit.done():
                if not (await asyncio.wait({permit}, timeout=self._silent_s))[0]:
                    self._evict()
        except asyncio.CancelledError:
            if permit in self._waiting:
                self._waiting.remove(permit)
            else:
                self._leave()  # It was admitted, and cancelled in the same iteration.
            raise

    def _leave(self) -> None:
        if self._waiting:
            self._waiting.pop().set_result(None)
        else:
            self._free += 1

    def _evict(self) -> None:
        """Abort the oldest handshake if it has lasted for `silent_s`."""
        now = asyncio.get_running_loop().time()
        longest, began = next(iter(self._held.items()), (None, now))
        if longest and now - began >= self._silent_s and (longest.when() or now) > now:
            del self._held[longest]
            longest.reschedule(now)
