"""Changes of limits by operators: every shard has them, and they count instead of the numbers in code.

The shard that owns the name and the key of a change orders the requests and sends the result to all shards. A gate
reads the numbers when it is used, so a change rewrites none; only those for which runs wait get a timer, in portions.
"""

from msgspec.structs import replace

from stepstream.contract.gates import Gate, gate_id
from stepstream.contract.limits import LIMIT_CHANGES_KEPT_MAX, LIMIT_CHANGES_KEPT_MS
from stepstream.contract.operators.control import Pause
from stepstream.contract.operators.limit_settings import (
    LimitAction,
    LimitChange,
    LimitChanged,
    LimitChangeRequested,
    LimitContinued,
    LimitSetting,
)
from stepstream.engine.gates.gate import wake_gate
from stepstream.engine.state.draft import Draft
from stepstream.engine.state.gate_keys import gate_name_place, gate_part
from stepstream.engine.state.rows import Timer, TimerKind
from stepstream.engine.state.tables import GATES, limit_setting_key

_NOTHING = LimitSetting()


def request_limit_change(draft: Draft, request: LimitChangeRequested) -> None:
    """Change a limit as an operator asks."""
    known = draft.get(limit_setting_key(request.gate)) or _NOTHING
    after = _changed(known, request)
    if after == known:
        draft.reply(request.reply_to, "unchanged")
        return
    change = LimitChange(draft.now, request.action, request.by, request.why, request.override, request.until)
    _store(draft, request.name, request.key, known, _noted(after, change))
    draft.reply(request.reply_to, "changed")


def _changed(known: LimitSetting, request: LimitChangeRequested) -> LimitSetting:
    match request.action:
        case LimitAction.SET:
            return replace(known, override=request.override)
        case LimitAction.PAUSE:
            return replace(known, pause=Pause(request.until, request.by, request.why))
        case LimitAction.RESUME:
            return replace(known, pause=None)
        case _:
            return replace(known, override=None, pause=None)


def _noted(setting: LimitSetting, change: LimitChange) -> LimitSetting:
    return replace(setting, changes=(change, *setting.changes)[:LIMIT_CHANGES_KEPT_MAX])


def fire_limit(draft: Draft, gate: str) -> None:
    """End what an operator changed until now, or forget a limit that has been as in code for a while."""
    known = draft.get(limit_setting_key(gate))
    if known is None:
        return
    name, key = gate.split("\x00", 1)
    override = known.override if known.override and not _is_over(draft, known.override.until) else None
    pause = known.pause if known.pause and not _is_over(draft, known.pause.until) else None
    after = replace(known, override=override, pause=pause)
    if after == known:
        _store(draft, name, key, known, None)
    else:
        _store(draft, name, key, known, _noted(after, LimitChange(draft.now, LimitAction.EXPIRE)))


def _is_over(draft: Draft, until: int) -> bool:
    return 0 < until <= draft.now


def _store(draft: Draft, name: str, key: str, known: LimitSetting, after: LimitSetting | None) -> None:
    """Store a setting in all shards, and set the timer of its owner."""
    timer = Timer(TimerKind.LIMIT, gate_id(name, key))
    draft.disarm(due_of_setting(known), timer)
    if after and (due := due_of_setting(after)):
        draft.arm(due, timer)
    draft.send_to_all(gate_id(name, key), LimitChanged(name, key, after))


def due_of_setting(setting: LimitSetting) -> int:
    """Return when a change of a setting ends, or when a setting without one is forgotten (Unix ms, 0: never)."""
    if setting.override or setting.pause:
        ends = (each.until for each in (setting.override, setting.pause) if each and each.until)
        return min(ends, default=0)
    return setting.changes[0].at + LIMIT_CHANGES_KEPT_MS if setting.changes else 0


def change_limit(draft: Draft, changed: LimitChanged) -> None:
    """Apply the change of a limit in this shard, and let runs pass the gates to which it applies."""
    key = limit_setting_key(gate_id(changed.name, changed.key))
    if changed.setting:
        draft.put(key, changed.setting)
    else:
        draft.delete(key)
    if changed.key:
        wake_gate(draft, gate_id(changed.name, changed.key))
    else:
        # A scan does not see the gates of this batch.
        draft.continue_later(changed.name, LimitContinued(changed.name))


def continue_limit(draft: Draft, continued: LimitContinued) -> None:
    """Let runs pass the gates of a limit that was changed, a bounded number; a later batch has the others."""
    most = draft.limits.waits_per_match_max
    after = gate_part(continued.after) if continued.after else gate_name_place(continued.name)
    gates: list[Gate] = [row.gate for _, row in draft.scan(GATES, b"", most, after)]
    for gate in gates:
        if gate.name != continued.name:
            return
        wake_gate(draft, gate.id)
    if len(gates) == most:
        draft.continue_later(continued.name, replace(continued, after=gates[-1].id))
