"""An engine that stops, once it is told to, between the writes of a transaction and its commit."""

import asyncio
import sys

from stepstream.cli.main import main
from stepstream.runtime.kafka.shard_log import KafkaLog
from stepstream.runtime.ports import Fenced, Offsets
from tests.kafka.zombie_app import stop_if_told

FENCED = "the commit of one who stopped was refused"
_commit = KafkaLog.commit


async def _stop_and_commit(self: KafkaLog, offsets: Offsets) -> int:
    if not stop_if_told():
        return await _commit(self, offsets)
    committing = asyncio.ensure_future(_commit(self, offsets))
    committing.add_done_callback(_tell)
    # The group may take the shard away in the same moment; the client goes on with the commit also then.
    return await asyncio.shield(committing)


def _tell(committing: asyncio.Future[int]) -> None:
    error = None if committing.cancelled() else committing.exception()
    print(FENCED if isinstance(error, Fenced) else f"{error!r} came of the commit", file=sys.stderr, flush=True)


if __name__ == "__main__":
    # There is no other way into the middle of a commit.
    KafkaLog.commit = _stop_and_commit  # type: ignore[method-assign]
    main()
