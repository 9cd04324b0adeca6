"""An engine that, on request, suspects healthy engines, or suspends itself between the writes and the commit."""

import asyncio
import os
import sys
from pathlib import Path

from stepstream.cli.main import main
from stepstream.contract.heartbeats import EngineHeartbeat
from stepstream.runtime.kafka.shards.peers import Peers
from stepstream.runtime.kafka.shards.shard_log import KafkaLog
from stepstream.runtime.ports import Fenced, Offsets
from tests.kafka.chaos.zombie_app import suspend_on_request
from tests.kafka.cluster.shifted_clock import shift_clocks

FENCED = "the commit after the suspension was fenced"
_commit = KafkaLog.commit
_note = Peers.note
_SUSPECT_FILE = Path(os.environ.get("ZOMBIE_STOP_FILE", "/nonexistent")).with_suffix(".suspect")
# More heartbeats than any engine may miss.
_MISSED = 1_000


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


def _suspect_on_request(self: Peers, beat: EngineHeartbeat) -> None:
    _note(self, beat)
    if beat.engine == self._own and self._peers and _SUSPECT_FILE.exists():
        for peer in self._peers.values():
            peer.missed = _MISSED


if __name__ == "__main__":
    shift_clocks()
    Peers.note = _suspect_on_request  # type: ignore[method-assign]
    # No hook of the product is between the writes and the commit.
    KafkaLog.commit = _suspend_and_commit  # type: ignore[method-assign]
    main()
