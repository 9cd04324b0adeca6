"""The topics of the contract: what each carries, its key, cleanup and retention."""

from dataclasses import dataclass
from typing import get_args

import msgspec

from stepstream.contract.commands import Command
from stepstream.contract.events import EventRecord
from stepstream.contract.functions import FunctionRegistered
from stepstream.contract.heartbeats import EngineHeartbeat
from stepstream.contract.history import HistoryRecord
from stepstream.contract.inbox import InboxRecord
from stepstream.contract.limits import DAY_MS, DEAD_LETTER_BYTES_MAX, HOUR_MS, MIB
from stepstream.contract.live import Published
from stepstream.contract.logs import StepLogged
from stepstream.contract.replies import Answered
from stepstream.contract.text.names import workers_name

EVENTS = "events"
INBOX = "inbox"
COMMANDS = "commands"
CHANGELOG = "changelog"
HISTORY = "history"
FUNCTIONS = "functions"
LOGS = "logs"
LIVE = "live"
DEAD_LETTERS = "dead-letters"
REPLIES = "replies"
ENGINES = "engines"
# A run with the largest batch of events, and their callers.
_BATCH_BYTES_MAX = 12 * MIB


@dataclass(frozen=True, slots=True)
class Topic:
    """A topic of the contract; `sharded` ones have one partition per shard, `retention_ms` of -1 means forever.

    A topic of many small records that are soon useless closes a segment after `segment_ms` or `segment_bytes`: only a
    closed segment is deleted. 0 is the default of the broker, usually a week and 1 GiB.

    `records` are the types of its values; a topic without any carries bytes that are not part of the contract.
    """

    name: str
    carries: str
    key: str
    writers: str
    readers: str
    compacted: bool = False
    sharded: bool = True
    retention_ms: int = 7 * DAY_MS
    message_bytes_max: int = 8 * MIB
    segment_ms: int = 0
    segment_bytes: int = 0
    records: tuple[type[msgspec.Struct], ...] = ()


def commands_topic(app: str, queue: str = "") -> str:
    """Return the name of the topic of commands for the workers of `app`, or for those of one of its queues."""
    return f"{COMMANDS}.{workers_name(app, queue)}"


TOPICS = (
    Topic(
        EVENTS,
        "an event",
        "free; the event id by convention",
        "anyone, in any language",
        "shards",
        records=(EventRecord,),
    ),
    Topic(
        INBOX,
        "a worker's report, a caller's request, or a record of another shard",
        "routing key; the partition is crc32(key) modulo shards",
        "shards, workers",
        "shards",
        # A step that sends as many events as one request may hold.
        message_bytes_max=24 * MIB,
        records=get_args(InboxRecord),
    ),
    Topic(
        f"{COMMANDS}.<app>",
        "what a worker must do for a run; `commands.<app>.<queue>`: for a step, if the app has queues",
        "run id",
        "shards",
        "workers of the app, or of the queue",
        # A run that a worker loads, with all its memos.
        message_bytes_max=48 * MIB,
        records=get_args(Command),
    ),
    Topic(
        CHANGELOG,
        "a row of a shard's tables; an empty value deletes it",
        "table key",
        "the owning shard",
        "the owning shard",
        compacted=True,
        retention_ms=-1,
        message_bytes_max=_BATCH_BYTES_MAX,
    ),
    Topic(
        HISTORY,
        "what happened to a run or a bulk operation, numbered from 1",
        "run id, or id of the operation",
        "shards",
        "read models, anyone",
        retention_ms=90 * DAY_MS,
        message_bytes_max=_BATCH_BYTES_MAX,
        records=get_args(HistoryRecord),
    ),
    Topic(
        LOGS,
        "what the code of a run logged; nothing depends on it, and what cannot be written is lost",
        "run id",
        "workers",
        "read models, anyone",
        retention_ms=DAY_MS,
        message_bytes_max=2 * MIB,
        segment_ms=HOUR_MS,
        segment_bytes=128 * MIB,
        records=(StepLogged,),
    ),
    Topic(
        LIVE,
        "a message that the code of a run published for clients that listen",
        "run id, or `channel:` and the name of a shared channel; the partition is crc32(key) modulo shards",
        "workers",
        "engines while clients listen, anyone",
        retention_ms=HOUR_MS,
        message_bytes_max=MIB,
        segment_ms=HOUR_MS // 6,
        segment_bytes=64 * MIB,
        records=(Published,),
    ),
    Topic(
        FUNCTIONS,
        "a function and its triggers",
        "function id",
        "workers on start",
        "every shard",
        compacted=True,
        sharded=False,
        retention_ms=-1,
        records=(FunctionRegistered,),
    ),
    Topic(
        REPLIES,
        "the answer to a signal or to a request of an operator",
        "the name that the request gave for its answer",
        "shards",
        "the process that sent the request",
        sharded=False,
        retention_ms=HOUR_MS,
        segment_ms=HOUR_MS // 6,
        segment_bytes=16 * MIB,
        records=(Answered,),
    ),
    Topic(
        ENGINES,
        "a heartbeat of an engine, several times a second",
        "the name of the process",
        "engines",
        "engines",
        sharded=False,
        retention_ms=HOUR_MS,
        segment_ms=HOUR_MS // 6,
        segment_bytes=16 * MIB,
        records=(EngineHeartbeat,),
    ),
    Topic(
        DEAD_LETTERS,
        "a record that could not be read, with its original bytes; headers say why and where it came from",
        "original key",
        "shards, workers, sources",
        "operators",
        retention_ms=90 * DAY_MS,
        # Any record of the other topics, and the reason.
        message_bytes_max=DEAD_LETTER_BYTES_MAX + MIB,
    ),
)

# The bytes of a record besides key and value: the head of a batch, lengths, times, and headers of ours.
_RECORD_BYTES_MORE = 1_024
_PAYLOAD_BYTES_MAX = {topic.name.partition(".")[0]: topic.message_bytes_max - _RECORD_BYTES_MORE for topic in TOPICS}


def payload_bytes_max(name: str) -> int:
    """Return how many bytes key and value of a record may have together in a topic of this name."""
    return _PAYLOAD_BYTES_MAX[name.partition(".")[0]]


# History retains what happened to a run for this long.
HISTORY_KEPT_MS = next(topic.retention_ms for topic in TOPICS if topic.name == HISTORY)
