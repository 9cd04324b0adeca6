"""Write `topics/`, the published form of the contract: `python -m stepstream.contract.publishing.render [FOLDER]`."""

import json
import sys
from pathlib import Path
from typing import Any

import msgspec
import yaml

from stepstream.contract.events import EVENT_BOUNDS, EventRecord
from stepstream.contract.limits import DAY_MS, HOUR_MS
from stepstream.contract.publishing.samples import samples
from stepstream.contract.publishing.schemas import record_schema
from stepstream.contract.topics import TOPICS, Topic

# The release whose golden records are written; a test compares it with the version of the package.
RELEASE = "0.1"

_INTRODUCTION = """\
# Wire contract

What the processes of stepstream write to Kafka and read from it. This folder is rendered from the code by
`make topics`; a test compares.

| file | content |
| --- | --- |
| `asyncapi.yaml` | the same for tools (AsyncAPI 3.0) |
| `schemas/<Record>.json` | JSON Schema (2020-12) of each record |
| `golden/<release>/<Record>.json` | records as that release wrote them; every later release must read them |

## Start a function from any language

Produce a record like this to the topic `events`:

    {"name": "shop/order.created", "data": {"order_id": "o-1"}}

- With an `id` an event starts each function once in 24 hours. Without one, its position in the log identifies it.
- Names that start with `stream/` belong to the engine, which marks its records by a header.
- Three bounds are in no schema: an event has at most 3 MiB, `data` and `user` have at most 100 levels, and `ts` is an
  integer.

## Rules for all records

- Values are JSON in UTF-8. Topic names take the prefix of the namespace.
- A record of `inbox`, `changelog`, `history` or `commands.…` is in the partition with the number of its shard, even
  if an operator has added partitions. In other topics the key chooses the partition.
- Readers ignore fields that they do not know. An absent field has the default that its schema names.
- A record that cannot be read goes to `dead-letters` with its bytes and these headers:

| header | meaning |
| --- | --- |
| `stepstream-reason` | why it could not be read or applied |
| `stepstream-from` | topic-partition-offset, or `timers` for the row of a timer that could not fire |
| `stepstream-null` | which of key and value was null instead of empty |
| `stepstream-cut-from` | the size of a value that was cut to 48 MiB; a compressed record can exceed every limit |
| `stepstream-offsets` | for a batch that could not be read: its first and last offset; the dead letter has no content |
| `stepstream-foreign` | for records of sources: the consumer group that read the record |
| `stepstream-sources` | for records of sources: a JSON list with the names of the sources that failed |
| `stepstream-time` | for records of sources: the time of the record |
| `stepstream-sent` | marks a redrive: the dead letter at that position was sent again |

## Topics
"""


def render() -> dict[str, str]:
    """Return the files of the contract: path below `topics/` to text."""
    records = {record.__name__: record for topic in TOPICS for record in topic.records}
    files = {"README.md": _readme(), "asyncapi.yaml": _yaml(_asyncapi(records))}
    for name, record in records.items():
        files[f"schemas/{name}.json"] = _json(record_schema(record, EVENT_BOUNDS if record is EventRecord else None))
        files[f"golden/{RELEASE}/{name}.json"] = _json([json_of(sample) for sample in samples(record)])
    return files


def json_of(record: msgspec.Struct) -> object:
    """Return a record as the JSON value that is on the wire."""
    return json.loads(msgspec.json.encode(record))


def _json(value: object) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"


def _yaml(value: object) -> str:
    return yaml.safe_dump(value, sort_keys=False, allow_unicode=True, width=120)


def _readme() -> str:
    lines = ["| topic | carries | key | who writes | who reads | partitions | cleanup | kept |", "|---" * 8 + "|"]
    for topic in TOPICS:
        partitions = "one per shard" if topic.sharded else "1"
        cells = (f"`{topic.name}`", topic.carries, topic.key, topic.writers, topic.readers, partitions)
        lines.append("| " + " | ".join((*cells, _cleanup(topic), _kept(topic))) + " |")
    parts = [_INTRODUCTION, "\n".join(lines)]
    for topic in TOPICS:
        if topic.records:
            parts += ["", f"### {topic.name}", ""]
            parts += [f"- {_link(record)}: {_summary(record)}" for record in topic.records]
    return "\n".join(parts) + "\n"


def _link(record: type[msgspec.Struct]) -> str:
    tag = record.__struct_config__.tag
    form = f" (`{record.__struct_config__.tag_field}`: `{tag}`)" if tag else ""
    return f"[{record.__name__}](schemas/{record.__name__}.json){form}"


def _summary(record: type[msgspec.Struct]) -> str:
    return (record.__doc__ or "").split("\n\n")[0].strip().replace("\n    ", " ")


def _cleanup(topic: Topic) -> str:
    return "compact" if topic.compacted else "delete"


def _kept(topic: Topic) -> str:
    if topic.retention_ms < 0:
        return "forever"
    days, hours = topic.retention_ms // DAY_MS, topic.retention_ms // HOUR_MS
    return f"{days} days" if days else f"{hours} h"


def _asyncapi(records: dict[str, type[msgspec.Struct]]) -> dict[str, Any]:
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "stepstream",
            "version": RELEASE,
            "description": "Durable functions on Kafka: the topics and their records.",
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": "application/json",
        "channels": {_channel_id(topic): _channel(topic) for topic in TOPICS},
        "operations": {
            f"write-{_channel_id(topic)}": {
                "action": "send",
                "channel": {"$ref": f"#/channels/{_channel_id(topic)}"},
                "summary": f"Written by {topic.writers}; read by {topic.readers}.",
            }
            for topic in TOPICS
        },
        "components": {"messages": {name: _message(record) for name, record in records.items()}},
    }


def _channel_id(topic: Topic) -> str:
    return topic.name.partition(".")[0]


def _channel(topic: Topic) -> dict[str, Any]:
    channel: dict[str, Any] = {
        "address": topic.name.replace("<", "{").replace(">", "}"),
        "description": f"{topic.carries[0].upper()}{topic.carries[1:]}. Key: {topic.key}.",
        "messages": {record.__name__: {"$ref": f"#/components/messages/{record.__name__}"} for record in topic.records},
        "bindings": {
            "kafka": {
                "topicConfiguration": {
                    "cleanup.policy": [_cleanup(topic)],
                    "retention.ms": topic.retention_ms,
                    "retention.bytes": -1,
                    "max.message.bytes": topic.message_bytes_max,
                },
                "bindingVersion": "0.5.0",
            }
        },
    }
    if topic.segment_ms:
        segments = {"segment.ms": topic.segment_ms, "segment.bytes": topic.segment_bytes}
        channel["bindings"]["kafka"]["topicConfiguration"] |= segments
    if "<app>" in topic.name:
        channel["parameters"] = {"app": {"description": "The name of the app whose workers read it."}}
    if not topic.sharded:
        channel["bindings"]["kafka"]["partitions"] = 1
    return channel


def _message(record: type[msgspec.Struct]) -> dict[str, Any]:
    return {
        "name": record.__name__,
        "summary": _summary(record),
        "payload": {"$ref": f"schemas/{record.__name__}.json"},
    }


def main() -> None:
    """Write the files and remove those that are no longer rendered; the golden records of other releases stay."""
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "topics")
    files = render()
    for path in [*folder.glob("schemas/*.json"), *folder.glob(f"golden/{RELEASE}/*.json")]:
        if path.relative_to(folder).as_posix() not in files:
            path.unlink()
    for name, text in files.items():
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
