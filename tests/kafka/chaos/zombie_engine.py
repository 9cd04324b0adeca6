"""An engine that suspends itself, on request, between the writes of a transaction and its commit."""

import asyncio
import sys

from stepstream.cli.main import main
from stepstream.runtime.kafka.shard_log import KafkaLog
from stepstream.runtime.ports import Fenced, Offsets
from tests.kafka.chaos.zombie_app import suspend_on_request

FENCED = "the commit after the suspension was fenced"
_commit = KafkaLog.commit


async def _suspend_and_commit(self: KafkaLog, offsets: Offsets) -> int:
    if not suspend_on_request():
        return await _commit(self, offsets)
    committing = asyncio.ensure_future(_commit(self, offsets))
    committing.add_done_callback(_report)
    # The group may revoke the shard at the same moment; the client then still finishes its commit.
    return await asyncio.shield(committing)


def _report(committing: asyncio.Future[int]) -> None:
    error = None if committing.cancelled() else committing.exception()
    outcome = FENCED if isinstance(error, Fenced) else f"the commit after the suspension ended with {error!r}"
    print(outcome, file=sys.stderr, flush=True)


if __name__ == "__main__":
    # No hook of the product is between the writes and the commit.
    KafkaLog.commit = _suspend_and_commit  # type: ignore[method-assign]
    main()
