"""Checkpoints: the steps that an app reports while the call that runs them is open."""

from dataclasses import dataclass

import msgspec

from stepstream.contract.codec import Raw
from stepstream.contract.errors import InvalidInput
from stepstream.gateway.wire.op_reading import read_ops
from stepstream.gateway.wire.ops import LAZY, ErrorOp, Op, PlannedOp, RunOp

_ALLOWED = (RunOp, PlannedOp, ErrorOp, *LAZY)


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A request of an app: its ops, and the call that they belong to, of which older SDKs say less.

    A PlannedOp announces a step that the app itself runs next: it must not be executed.
    """

    run_id: str
    ops: tuple[Op, ...]
    queue_item: str = ""
    request_id: str = ""
    generation: int | None = None
    started_at: int | None = None


class _Wire(msgspec.Struct):
    run_id: str = ""
    qi_id: str | None = None
    request_id: str | None = None
    generation_id: int | None = None
    request_started_at: int | None = None
    steps: Raw = msgspec.Raw(b"[]")


_decode = msgspec.json.Decoder(_Wire).decode


def read_checkpoint(body: bytes) -> Checkpoint:
    """Return a checkpoint; raise InvalidInput if it is malformed or has an op that needs the engine."""
    try:
        found = _decode(body)
    except (msgspec.DecodeError, UnicodeError) as error:
        raise InvalidInput(f"not a checkpoint: {error}", "body") from None
    ops = read_ops(bytes(found.steps), field="steps")
    for op in ops:
        if not isinstance(op, _ALLOWED):
            raise InvalidInput(f"{type(op).__name__} {op.id!r} ends the call: answer it with 206", "steps")
    return Checkpoint(
        found.run_id,
        ops,
        found.qi_id or "",
        found.request_id or "",
        found.generation_id,
        found.request_started_at,
    )
