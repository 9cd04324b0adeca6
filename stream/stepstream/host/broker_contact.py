"""Whether any broker answers this process: reported to its probes, and logged when contact is lost and regained."""

import logging
import time

from stepstream.runtime import supervision
from stepstream.runtime.kafka.client.settings import SESSION_S

logger = logging.getLogger(__name__)
# After this long a consumer group expires a member by default, and assigns its partitions to others.
LOST_S = SESSION_S


def _has_traceback(record: logging.LogRecord) -> bool:
    return record.exc_info is not None


class BrokerContact:
    """When a broker answered last, by a monotonic clock.

    While none answers, each part of the process fails for that reason, and only the loss of contact is logged. An error
    with another cause has a traceback.
    """

    def __init__(self) -> None:
        self._answered_at = time.monotonic()
        self._lost = False

    @property
    def silent_s(self) -> float:
        """For how many seconds no broker has answered."""
        return time.monotonic() - self._answered_at

    @property
    def unready(self) -> str:
        """Why the process is not ready; empty while brokers answer."""
        silent_s = self.silent_s
        return f"no broker has answered for {silent_s:.0f} s" if silent_s >= LOST_S else ""

    def answered(self) -> None:
        """Note that a broker answered."""
        silent_s, self._answered_at = self.silent_s, time.monotonic()
        if self._lost:
            self._lost = False
            supervision.logger.removeFilter(_has_traceback)
            logger.info("a broker answers again after %.0f s", silent_s)

    def missed(self, error: Exception) -> None:
        """Note that a request got no answer from any broker."""
        if not self._lost and (reason := self.unready):
            self._lost = True
            supervision.logger.addFilter(_has_traceback)
            cause = str(error) or type(error).__name__
            logger.warning("%s (%s); the process resumes by itself once a broker answers", reason, cause)
