"""An engine that stops, once it is told to, between the writes of a transaction and its commit."""

from stepstream.cli import main
from stepstream.runtime.kafka_log import KafkaLog
from stepstream.runtime.ports import Offsets
from tests.kafka.zombie_app import stop_if_told

_commit = KafkaLog.commit


async def _stop_and_commit(self: KafkaLog, taken: Offsets) -> int:
    stop_if_told()
    return await _commit(self, taken)


if __name__ == "__main__":
    # There is no other way into the middle of a commit.
    KafkaLog.commit = _stop_and_commit  # type: ignore[method-assign]
    main()
