"""An engine that stops, once it is told to, between the writes of a transaction and its commit."""

import logging
import os
import signal
from pathlib import Path

from stepstream.cli import main
from stepstream.runtime.kafka_log import KafkaLog
from stepstream.runtime.ports import Offsets

STOPS = "stops with an open transaction"
logger = logging.getLogger(__name__)
_commit = KafkaLog.commit


async def _stop_and_commit(log: KafkaLog, taken: Offsets) -> int:
    told = Path(os.environ["ZOMBIE_TOLD"])
    if told.exists():
        told.unlink()
        logger.warning(STOPS)
        os.kill(os.getpid(), signal.SIGSTOP)
    return await _commit(log, taken)


if __name__ == "__main__":
    KafkaLog.commit = _stop_and_commit  # type: ignore[method-assign]  # No other way into the middle of a commit.
    main()
