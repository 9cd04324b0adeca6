"""The permit of a run whose function limits steps and code: by it one call at a time is made."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from stepstream.sdk.replay.calls import Call


class CallPermit:
    """Lets calls use the permit of a run one after the other, if the run has one.

    A call for a step that gets a separate permit meanwhile is no longer `covered`, and needs this one no longer.
    """

    def __init__(self, *, exists: bool) -> None:
        self.exists = exists
        # In the order in which they use it.
        self._users: dict[Call, asyncio.Event] = {}

    @property
    def is_free(self) -> bool:
        """Whether the run has the permit, and no call uses it."""
        return self.exists and not self._users

    def claim(self, call: Call) -> None:
        """Let a call use the permit after those that claimed it before."""
        call.covered = True
        self._users.setdefault(call, asyncio.Event())
        self._serve_next()

    @asynccontextmanager
    async def covering(self, call: Call) -> AsyncIterator[None]:
        """Make a call by the permit, when those before it have ended."""
        self.claim(call)
        await self._users[call].wait()
        try:
            yield
        finally:
            self._release(call)

    def review(self) -> None:
        """Free the permit from calls that have got a separate one."""
        for call in list(self._users):
            if not call.covered:
                self._release(call)

    def _release(self, call: Call) -> None:
        if turn := self._users.pop(call, None):
            turn.set()
            self._serve_next()

    def _serve_next(self) -> None:
        for turn in list(self._users.values())[:1]:
            turn.set()
