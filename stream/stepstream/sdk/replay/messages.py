"""What an execution of code has published, and the port through which it does."""

import asyncio
import itertools
import secrets
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import Any, Protocol

from stepstream.contract.errors import NotPublished
from stepstream.contract.live import Published

_PROCESS = secrets.token_hex(6)
_numbers = itertools.count()


class Publisher(Protocol):
    """Writes messages to the log, in order and many at once."""

    async def room(self) -> None:
        """Return when the queue has room for a message."""

    def add(self, stream: str, message: Published) -> "asyncio.Future[None]":
        """Queue a message of a stream; return what is done when it is durable, or could not be written."""

    def wait_for(self, code: Coroutine[Any, Any, None]) -> None:
        """Run a coroutine in the event loop, and block the thread that calls this until it has ended."""


@dataclass(slots=True)
class Execution:
    """One execution of an attempt of a body, or of the code between steps; `number` counts its messages.

    `unwritten` are the writes of its messages that did not succeed yet.
    """

    step: str = ""
    step_id: str = ""
    attempt: int = 0
    number: int = 0
    is_sending: bool = False
    id: str = field(default_factory=lambda: f"{_PROCESS}-{next(_numbers)}")
    unwritten: "list[asyncio.Future[None]]" = field(default_factory=list)

    def sent(self, written: "asyncio.Future[None]") -> None:
        """Note that a message was sent, and its write."""
        self.number += 1
        self.is_sending = True
        if not self.unwritten or self.unwritten[-1] is not written:
            self.unwritten = [each for each in self.unwritten if not each.done() or each.exception()]
            self.unwritten.append(written)

    async def written(self) -> None:
        """Return when all messages are durable; raise NotPublished if any could not be written."""
        unwritten, self.unwritten = self.unwritten, []
        if not unwritten:
            return
        # The writes have messages of other runs too, so cancelling this code must not cancel them.
        await asyncio.wait(unwritten)
        for each in unwritten:
            if error := each.exception():
                raise NotPublished(str(error))
