"""Reads the ops of an answer or a checkpoint, which each SDK writes in its own way."""

import re
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from stepstream.contract.codec import EMPTY_OBJECT, NULL, Raw, encode, load_json
from stepstream.contract.errors import InvalidInput
from stepstream.contract.events import check_event_name
from stepstream.contract.limits import (
    DEFAULT_LIMITS,
    FUNCTION_ID_CHARACTERS_MAX,
    INVOKE_TIMEOUT_MS,
    STEP_ID_CHARACTERS_MAX,
)
from stepstream.contract.text.names import check_signal_name
from stepstream.gateway.wire.dues import Due, read_due
from stepstream.gateway.wire.event_meta import read_meta
from stepstream.gateway.wire.failures import read_error
from stepstream.gateway.wire.internal_events import own_condition, own_name
from stepstream.gateway.wire.metadata import read_items
from stepstream.gateway.wire.ops import (
    AiOp,
    CompleteOp,
    DeferAbortOp,
    DeferOp,
    DiscoveryOp,
    ErrorOp,
    GatewayOp,
    InvokeOp,
    Op,
    PlannedOp,
    RunOp,
    SignalOp,
    SleepOp,
    WaitOp,
    in_order,
)

# SDKs send SHA-1 in hex; any text is accepted that cannot be confused with the engine's own names of waiters.
_STEP = re.compile(r"[A-Za-z0-9_.-]{1,128}")
# The SDK for Go writes the name of its constant.
_RACES = ("race", "Race")
_YEAR = Due(INVOKE_TIMEOUT_MS)
_URL_CHARACTERS_MAX = 16 * 1024


class _Payload(msgspec.Struct):
    data: Raw = NULL
    user: Raw = NULL
    v: str | None = None
    meta: Raw = NULL


class _Kind(msgspec.Struct):
    """What the bodies of steps have in `opts`, beside anything else."""

    type: Any = None
    parallel_mode: Any = msgspec.field(default=None, name="parallelMode")


class _Opts(msgspec.Struct):
    """The fields `opts` of the other ops; SDKs write null for what is absent."""

    duration: str | None = None
    event: str | None = None
    timeout: str | None = None
    condition: str | None = msgspec.field(default=None, name="if")
    signal: str | None = None
    conflict: str | None = None
    function_id: str | None = None
    payload: _Payload | None = None
    url: str | None = None
    method: str | None = None
    headers: dict[str, str] | None = None
    body: Raw = NULL
    format: str | None = None
    auth_key: str | None = None
    fn_slug: str | None = None
    input: Raw = NULL
    meta: Raw = NULL
    target_hashed_id: str | None = None


class _Userland(msgspec.Struct):
    id: str | None = None


class _WireOp(msgspec.Struct):
    op: str | None = None
    id: str = ""
    name: str | None = None
    display_name: str | None = msgspec.field(default=None, name="displayName")
    opts: Raw = NULL
    data: Raw = NULL
    error: Raw = NULL
    userland: _Userland | None = None
    metadata: Raw = NULL


_decode_ops = msgspec.json.Decoder(list[_WireOp]).decode
_decode_op = msgspec.json.Decoder(_WireOp).decode
_decode_kind = msgspec.json.Decoder(_Kind | None).decode
_decode_opts = msgspec.json.Decoder(_Opts | None).decode


def read_ops(body: bytes, *, field: str = "") -> tuple[Op, ...]:
    """Return the ops in the JSON array, or the single op, of an answer, in the order in which they are processed.

    Raise InvalidInput for an op that is unknown or malformed. Of several ops about one step the first counts.
    """
    load_json(body, field=field)
    try:
        found = _decode_ops(body) if body.lstrip()[:1] == b"[" else [_decode_op(body)]
    except msgspec.DecodeError as error:
        raise InvalidInput(str(error), field or "ops") from None
    if len(found) > DEFAULT_LIMITS.steps_per_run_max:
        raise InvalidInput(f"{len(found):,} ops; at most {DEFAULT_LIMITS.steps_per_run_max:,} are allowed", "ops")
    read = (_read(wire) for wire in found if wire.op not in _NO_OPS)
    return in_order(op for op in read if op is not None)


def _read(wire: _WireOp) -> Op | None:
    """Return an op; None for a malformed request to defer a function, which must not fail the run."""
    build = _BUILDERS.get(wire.op or "")
    if build is None:
        raise InvalidInput(f"{(wire.op or '')[:80]!r} is an op that this gateway does not know", "op")
    if not _STEP.fullmatch(wire.id):
        raise InvalidInput(f"{wire.id[:80]!r} is not a hash of a step", "id")
    # The SDK for Go has the name in `name`; those that have the event or the time there have a display name.
    names = (wire.display_name, wire.name, wire.userland.id if wire.userland else None, wire.id)
    shown = next(name for name in names if name)[:STEP_ID_CHARACTERS_MAX]
    try:
        kind = _decode_kind(wire.opts) or _Kind()
        return build(wire, Op(wire.id, shown, kind.parallel_mode in _RACES))
    except (InvalidInput, msgspec.ValidationError) as error:
        if build in (_defer, _defer_abort):
            return None
        raise InvalidInput(f"{wire.op} {shown!r}: {error}", "op") from None


def _opts(wire: _WireOp) -> _Opts:
    return _decode_opts(wire.opts) or _Opts()


def _run(wire: _WireOp, op: Op) -> Op:
    noted = read_items(wire.metadata)
    return RunOp(op.step, op.id, op.race, output=_owned(wire.data), type=_type(wire), metadata=noted)


def _type(wire: _WireOp) -> str:
    kind = _decode_kind(wire.opts)
    return kind.type if kind and isinstance(kind.type, str) else ""


def _old_step(wire: _WireOp, op: Op) -> Op:
    """Return an op of SDKs before 2024, whose data may be wrapped as a memo is."""
    match load_json(wire.data):
        case {"data": data, **rest} if not rest:
            return RunOp(op.step, op.id, op.race, output=Raw(encode(data)))
        case {"error": dict(error), **rest} if not rest:
            return ErrorOp(op.step, op.id, op.race, error=read_error(encode(error)), final=True)
    return _run(wire, op)


def _planned(_: _WireOp, op: Op) -> Op:
    return PlannedOp(op.step, op.id, op.race)


def _error(wire: _WireOp, op: Op) -> Op:
    return ErrorOp(op.step, op.id, op.race, error=read_error(wire.error), final=wire.op == "StepFailed")


def _sleep(wire: _WireOp, op: Op) -> Op:
    opts = _opts(wire)
    until = opts.duration if opts.duration is not None else wire.name or ""
    return SleepOp(op.step, op.id, op.race, until=read_due(until, "duration"))


def _wait(wire: _WireOp, op: Op) -> Op:
    opts = _opts(wire)
    event = own_name(opts.event or wire.name or "")
    check_event_name(event, own=True)
    timeout = read_due(opts.timeout or "", "timeout")
    condition = own_condition(opts.condition or "")
    return WaitOp(op.step, op.id, op.race, event=event, timeout=timeout, condition=condition)


def _signal(wire: _WireOp, op: Op) -> Op:
    opts = _opts(wire)
    timeout = _YEAR if opts.timeout is None else read_due(opts.timeout, "timeout")
    signal = check_signal_name(opts.signal or wire.name)
    return SignalOp(op.step, op.id, op.race, signal=signal, timeout=timeout, replace=opts.conflict == "replace")


def _invoke(wire: _WireOp, op: Op) -> Op:
    opts = _opts(wire)
    function, payload = opts.function_id or "", opts.payload or _Payload()
    if not 0 < len(function) <= FUNCTION_ID_CHARACTERS_MAX:
        raise InvalidInput(f"use the id of a function, of 1 to {FUNCTION_ID_CHARACTERS_MAX} characters", "function_id")
    timeout = _YEAR if not opts.timeout else read_due(opts.timeout, "timeout")
    return InvokeOp(
        op.step,
        op.id,
        op.race,
        function=function,
        data=_object(payload.data, "payload.data"),
        user=_owned(payload.user),
        v=payload.v or "",
        meta=read_meta(payload.meta, "payload.meta"),
        timeout=timeout,
    )


def _gateway(wire: _WireOp, op: Op) -> Op:
    opts = _opts(wire)
    body = load_json(opts.body)
    text = body if isinstance(body, str) else "" if body is None else bytes(opts.body).decode()
    return GatewayOp(
        op.step,
        op.id,
        op.race,
        url=_url(opts),
        method=(opts.method or "POST").upper(),
        headers=opts.headers or {},
        body=text,
    )


def _ai(wire: _WireOp, op: Op) -> Op:
    opts = _opts(wire)
    return AiOp(
        op.step,
        op.id,
        op.race,
        url=_url(opts),
        body=_owned(opts.body),
        format=opts.format or "",
        auth_key=opts.auth_key or "",
        headers=opts.headers or {},
    )


def _complete(wire: _WireOp, op: Op) -> Op:
    return CompleteOp(op.step, op.id, op.race, output=_owned(wire.data))


def _discovery(_: _WireOp, op: Op) -> Op:
    return DiscoveryOp(op.step, op.id)


def _defer(wire: _WireOp, op: Op) -> Op:
    opts = _opts(wire)
    meta = read_meta(opts.meta)
    return DeferOp(op.step, op.id, function=opts.fn_slug or "", input=_object(opts.input, "input"), meta=meta)


def _defer_abort(wire: _WireOp, op: Op) -> Op:
    opts = _opts(wire)
    return DeferAbortOp(op.step, op.id, target=opts.target_hashed_id or "")


def _url(opts: _Opts) -> str:
    url = opts.url or ""
    if not url.startswith(("http://", "https://")) or len(url) > _URL_CHARACTERS_MAX:
        raise InvalidInput(f"{url[:80]!r} is not a URL that starts with http:// or https://", "url")
    return url


def _owned(raw: Raw) -> Raw:
    """Return JSON text that does not keep the whole answer in memory."""
    return raw.copy()


def _object(raw: Raw, field: str) -> Raw:
    match load_json(raw, field=field):
        case None:
            return EMPTY_OBJECT
        case dict():
            return _owned(raw)
    raise InvalidInput("use a JSON object", field)


# What an SDK may send when one of its paths of execution is over.
_NO_OPS = (None, "", "None")
_BUILDERS: Mapping[str, Callable[[_WireOp, Op], Op]] = {
    "StepRun": _run,
    "Step": _old_step,
    "StepPlanned": _planned,
    "StepError": _error,
    "StepFailed": _error,
    "Sleep": _sleep,
    "WaitForEvent": _wait,
    "WaitForSignal": _signal,
    "InvokeFunction": _invoke,
    "Gateway": _gateway,
    "AIGateway": _ai,
    "RunComplete": _complete,
    "DiscoveryRequest": _discovery,
    "DeferAdd": _defer,
    "DeferAbort": _defer_abort,
}
