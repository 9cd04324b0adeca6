"""Callers of a process whose answers arrive by the topic `replies`."""

import asyncio
import functools
import logging
import uuid

import msgspec

from stepstream.contract.codec import encode
from stepstream.contract.limits import DEFAULT_LIMITS, Limits
from stepstream.contract.replies import Answered, decode_answer
from stepstream.contract.topics import REPLIES
from stepstream.runtime.callers import Callers
from stepstream.runtime.kafka.backbone import KafkaBackbone
from stepstream.runtime.kafka.client.cluster import Cluster
from stepstream.runtime.ports import NewRecord

logger = logging.getLogger(__name__)
_IDLE_READ_MS = 1_000
# Less than callers.REPLY_S_MAX, so that the caller receives the error instead of a timeout.
_APPEND_S_MAX = 8.0


class KafkaCallers(Callers):
    """Callers whose answers arrive by the topic `replies`, from the process that serves the shard."""

    def __init__(self, cluster: Cluster, backbone: KafkaBackbone, shards: int, limits: Limits = DEFAULT_LIMITS) -> None:
        append = functools.partial(backbone.append, within_s=_APPEND_S_MAX)
        super().__init__(append, shards, limits, uuid.uuid4().hex)
        self._cluster = cluster
        self._backbone = backbone
        self._sending: set[asyncio.Task[list[tuple[int, int]]]] = set()

    def pass_on(self, to: str, status: str) -> None:
        """Answer a caller of this process, or send the answer to the process where the caller is."""
        if not self.answer(to, status):
            record = NewRecord(REPLIES, 0, to.encode(), encode(Answered(to, status)))
            task = asyncio.ensure_future(self._backbone.append([record]))
            self._sending.add(task)
            task.add_done_callback(self._sent)

    def _sent(self, task: "asyncio.Task[list[tuple[int, int]]]") -> None:
        self._sending.discard(task)
        if not task.cancelled() and (error := task.exception()):
            logger.warning("answer to a caller could not be sent: %s", error)

    async def serve(self) -> None:
        """Receive answers from now on, until cancelled."""
        at = (REPLIES, 0)
        reader = await self._cluster.reader()
        try:
            reader.assign([at])
            reader.seek(await reader.ends([at]))
            while True:
                for record in await reader.read(500, _IDLE_READ_MS):
                    try:
                        reply = decode_answer(record.value)
                    except (msgspec.MsgspecError, UnicodeError) as error:
                        logger.warning("record replies-%d-%d skipped: %s", record.partition, record.offset, error)
                    else:
                        self.answer(reply.to, reply.status)
        finally:
            await reader.close()
