"""Metadata and scores: what an app notes about its runs and steps, with an op or by a separate request."""

from collections.abc import Sequence
from typing import Any

import msgspec

from stepstream.contract.codec import NULL, Raw, load_json
from stepstream.contract.errors import InvalidInput, TooLarge
from stepstream.contract.ids import step_hash
from stepstream.contract.logs import LOG_LINE_CHARACTERS_MAX

ITEMS_MAX = 100
_NAME_CHARACTERS_MAX = 128
_RUN, _STEP = "run", "step"


class Metadata(msgspec.Struct, frozen=True):
    """Values of a kind, such as `inngest.score`; the op says whether they replace earlier ones (`set`) or `merge`."""

    kind: str
    values: dict[str, Any]
    op: str = "set"
    scope: str = _STEP


class MetadataUpdate(msgspec.Struct, frozen=True):
    """A request: the step, by its hash, and the attempt (from 0) that the items are about; "" for the run."""

    step: str
    attempt: int
    items: Sequence[Metadata]


class _Target(msgspec.Struct):
    step_id: str | None = None
    step_index: int | None = None
    step_attempt: int | None = None


class _Wire(msgspec.Struct):
    metadata: list[Metadata]
    target: _Target | None = None


_decode_update = msgspec.json.Decoder(_Wire).decode
_decode_items = msgspec.json.Decoder(list[Metadata]).decode


def read_update(body: bytes) -> MetadataUpdate:
    """Read the body of `POST /v1/runs/{id}/metadata`; raise InvalidInput if it is malformed, TooLarge for too much."""
    load_json(body, field="body")
    try:
        found = _decode_update(body)
    except (msgspec.DecodeError, RecursionError) as error:
        raise InvalidInput(str(error), "body") from None
    _check(found.metadata)
    target = found.target or _Target()
    scope = _STEP if target.step_id else _RUN
    items = [msgspec.structs.replace(each, scope=scope) for each in found.metadata]
    step = step_hash(target.step_id, target.step_index or 0) if target.step_id else ""
    return MetadataUpdate(step, max(target.step_attempt or 0, 0), items)


def read_items(raw: Raw) -> tuple[Metadata, ...]:
    """Return the metadata of an op; malformed or too large ones are left out, as they must not fail the step."""
    if bytes(raw) == bytes(NULL):
        return ()
    try:
        found = _decode_items(raw)
        _check(found)
    except (msgspec.DecodeError, RecursionError, InvalidInput):
        return ()
    return tuple(found)


def line_text(item: Metadata) -> str:
    """Return the values as a line of a log."""
    return f"{item.kind} {item.op} {msgspec.json.encode(item.values).decode()}"


def merged(values: dict[str, Any], text: str) -> dict[str, Any]:
    """Return what a line of `line_text` makes of the earlier values of its kind."""
    _kind, op, new = text.split(" ", 2)
    return {**(values if op == "merge" else {}), **msgspec.json.decode(new)}


def _check(items: Sequence[Metadata]) -> None:
    if len(items) > ITEMS_MAX:
        raise TooLarge(f"{len(items):,} items; at most {ITEMS_MAX} are allowed", "metadata")
    for each in items:
        for name in (each.kind, each.op, each.scope):
            if not 0 < len(name) <= _NAME_CHARACTERS_MAX or not name.isprintable() or " " in name:
                rule = f"kind, op and scope need 1 to {_NAME_CHARACTERS_MAX} printable characters without spaces"
                raise InvalidInput(f"{name[:40]!r} is not valid; {rule}", "metadata")
        if (size := len(line_text(each))) > LOG_LINE_CHARACTERS_MAX:
            raise TooLarge(
                f"{each.kind!r} has {size:,} characters; at most {LOG_LINE_CHARACTERS_MAX:,} are allowed", "metadata"
            )
