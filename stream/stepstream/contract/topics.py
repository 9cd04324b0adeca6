"""The topics of the contract: what each carries, its key, cleanup and retention."""

from dataclasses import dataclass

from stepstream.contract.limits import DAY_MS

EVENTS = "events"
INBOX = "inbox"
COMMANDS = "commands"
CHANGELOG = "changelog"
HISTORY = "history"
FUNCTIONS = "functions"
DEAD_LETTERS = "dead-letters"


@dataclass(frozen=True, slots=True)
class Topic:
    """A topic of the contract; `sharded` ones have one partition a shard, `retention_ms` of -1 keeps for ever."""

    name: str
    carries: str
    key: str
    writers: str
    readers: str
    compacted: bool = False
    sharded: bool = True
    retention_ms: int = 7 * DAY_MS


def commands_topic(app: str) -> str:
    """Return the name of the topic of commands for the workers of `app`."""
    return f"{COMMANDS}.{app}"


TOPICS = (
    Topic(EVENTS, "EventRecord", "free; the event id by convention", "anyone, in any language", "shards"),
    Topic(INBOX, "InboxRecord", "routing key; the partition is crc32(key) modulo shards", "shards, workers", "shards"),
    Topic(f"{COMMANDS}.<app>", "Command", "run id", "shards", "workers of the app"),
    Topic(CHANGELOG, "row", "table key", "the owning shard", "the owning shard", compacted=True, retention_ms=-1),
    Topic(HISTORY, "HistoryEntry", "run id", "shards", "read models, anyone", retention_ms=90 * DAY_MS),
    Topic(
        FUNCTIONS,
        "FunctionRegistered",
        "function id",
        "workers on start",
        "every shard",
        compacted=True,
        sharded=False,
        retention_ms=-1,
    ),
    Topic(DEAD_LETTERS, "the original bytes", "original key", "shards, sources", "people", retention_ms=90 * DAY_MS),
)
