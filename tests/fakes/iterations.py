"""Counts the iterations of the event loop."""

import asyncio


class Iterations:
    """Counts the iterations of the event loop while it is entered."""

    def __init__(self) -> None:
        self._number = 0
        self._counting = asyncio.ensure_future(self._count())

    async def _count(self) -> None:
        while True:
            await asyncio.sleep(0)
            self._number += 1

    def __enter__(self) -> "Iterations":
        return self

    def __exit__(self, *_: object) -> None:
        self._counting.cancel()

    @property
    def number(self) -> int:
        """The number of the current iteration."""
        return self._number
