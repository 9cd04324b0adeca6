"""Whether any broker answers this process: said once when none does, once when one does again, and to its probes."""

import logging
import time

from stepstream.runtime.kafka.reader import SESSION_MS

logger = logging.getLogger(__name__)
# After so long the groups give a member up, and others have what was its own.
LOST_S = SESSION_MS / 1_000


class Contact:
    """When a broker answered last, by a clock that only goes up."""

    def __init__(self) -> None:
        self._answered_at = time.monotonic()
        self._told = False

    @property
    def silent_s(self) -> float:
        """For how long no broker has answered."""
        return time.monotonic() - self._answered_at

    @property
    def unready(self) -> str:
        """Why the process can do nothing; empty while brokers answer."""
        silent_s = self.silent_s
        return f"no broker has answered for {silent_s:.0f} s" if silent_s >= LOST_S else ""

    def answered(self) -> None:
        """A broker has answered."""
        silent_s, self._answered_at = self.silent_s, time.monotonic()
        if self._told:
            self._told = False
            logger.info("a broker answers again, after %.0f s", silent_s)

    def missed(self, error: Exception) -> None:
        """A broker was asked, and none has answered."""
        if not self._told and (words := self.unready):
            self._told = True
            reason = str(error) or type(error).__name__
            logger.warning("%s (%s); all stands still, and goes on by itself when one does", words, reason)
