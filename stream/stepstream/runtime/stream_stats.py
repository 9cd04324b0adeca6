"""Counts what the live streams of an engine do, for its metrics."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum

from stepstream.runtime.metrics import Reading


class StreamEnd(StrEnum):
    """Why a stream has ended: a client that is `slow` had not taken what was sent when its connection closed."""

    RUN_ENDED = "run-ended"
    TOKEN_EXPIRED = "token-expired"  # noqa: S105
    FAILED = "failed"
    SLOW = "slow"
    LEFT = "left"


@dataclass(slots=True)
class StreamStats:
    """How many streams are open, were refused and have ended, and how many messages were sent to clients."""

    open: int = 0
    sent: int = 0
    refused: int = 0
    ended: Counter[StreamEnd] = field(default_factory=Counter)

    def read(self) -> Iterator[Reading]:
        """Return the current readings."""
        yield Reading("live_streams_open", (), self.open)
        yield Reading("live_messages_sent", (), self.sent)
        yield Reading("live_streams_refused", (), self.refused)
        for end in StreamEnd:
            yield Reading("live_streams_ended", (end,), self.ended[end])
