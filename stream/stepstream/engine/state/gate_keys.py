"""The keys of the rows of gates: which runs hold one or wait for it, and its sub-queues by their tags."""

from typing import Any

from stepstream.engine.state.gate_rows import GateRun, GateShare, GateState, GateTag, QueuePlace, queue_bytes
from stepstream.engine.state.keys import Key, text_bytes
from stepstream.engine.state.tables import GATE_QUEUE, GATE_RUNS, GATE_SHARES, GATE_TAGS, GATES, SHARE_QUEUE


def gate_part(gate: str) -> bytes:
    """Return the part under which the runs and the queue of a gate are scanned."""
    return text_bytes(gate)


def gate_name_place(name: str) -> bytes:
    """Return a place just before all gates of a name, in a scan of all gates; before all of them for ""."""
    return name.encode() + b"\x00\xff" if name else b""


def gate_key(gate: str) -> Key[GateState]:
    """Return the key of a gate."""
    return GATES.key(gate_part(gate))


def gate_run_key(gate: str, run_id: str, step: str = "") -> Key[GateRun]:
    """Return the key of a run, or of a step of it, that waits for a gate or holds a permit."""
    return GATE_RUNS.key(gate_part(gate), f"{run_id}/{step}".encode() if step else run_id.encode())


def gate_place_key(gate: str, place: QueuePlace, share: str | None = None) -> Key[Any]:
    """Return the key of a place in the queue of a gate, or in one of its sub-queues."""
    if share is not None:
        return SHARE_QUEUE.key(share_part(gate, share), queue_bytes(place))
    return GATE_QUEUE.key(gate_part(gate), queue_bytes(place))


def share_part(gate: str, share: str) -> bytes:
    """Return the part under which a sub-queue of a gate is scanned."""
    return gate_part(gate) + text_bytes(share)


def gate_share_key(gate: str, share: str) -> Key[GateShare]:
    """Return the key of a sub-queue of a gate."""
    return GATE_SHARES.key(gate_part(gate), share.encode())


def gate_tag_key(gate: str, tag: QueuePlace) -> Key[GateTag]:
    """Return the key of the tag of a sub-queue."""
    return GATE_TAGS.key(gate_part(gate), queue_bytes(tag))


def place_in_queue(key: Key[Any]) -> QueuePlace:
    """Return the place of a run in the queue of a gate, or the tag of a sub-queue with its number."""
    half = len(key.sort) // 2
    return int.from_bytes(key.sort[:half], "big"), int.from_bytes(key.sort[half:], "big")
