"""What a test decides about the calls of a fake: which of them wait or fail."""

import asyncio
from collections import Counter

from tests.fakes.waiting import until


class Calls:
    """The calls of one fake by name, counted; `detail` narrows a name, as to one partition."""

    def __init__(self) -> None:
        self.count = Counter[str]()
        self._errors: dict[str, Exception] = {}
        self._blocked: dict[tuple[str, object], asyncio.Event] = {}

    def fail(self, name: str, error: Exception) -> None:
        """Have calls of this name raise an error, those that wait included."""
        self._errors[name] = error
        self._unblock(name)

    def block(self, name: str, detail: object = None) -> None:
        """Have calls of this name wait."""
        self._blocked[name, detail] = asyncio.Event()

    def allow(self, name: str) -> None:
        """Have calls of this name succeed again, those that wait included."""
        self._errors.pop(name, None)
        self._unblock(name)

    def _unblock(self, name: str) -> None:
        for at in [at for at in self._blocked if at[0] == name]:
            self._blocked.pop(at).set()

    async def made(self, name: str, detail: object = None) -> None:
        """Count a call; return when it may proceed, or raise the error that the test chose."""
        self.count[name] += 1
        for at in ((name, None), (name, detail)):
            if at in self._blocked:
                await self._blocked[at].wait()
        self.check(name)

    def check(self, name: str) -> None:
        """Raise the error that the test chose for calls of this name, if any."""
        if name in self._errors:
            raise self._errors[name]

    async def until(self, name: str, more: int = 0) -> None:
        """Return when a call of this name was made, and `more` from now on."""
        target = self.count[name] + more if more else 1
        await until(lambda: self.count[name] >= target)
