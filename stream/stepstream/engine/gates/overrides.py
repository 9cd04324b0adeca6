"""The numbers of a limit that count now: those of an operator for the value of its key, or for its name, or in code."""

from msgspec.structs import replace

from stepstream.contract.gates import Excess, Gate, gate_id
from stepstream.contract.operators.control import Pause
from stepstream.contract.operators.limit_settings import LimitSetting
from stepstream.engine.state.draft import Draft
from stepstream.engine.state.tables import limit_setting_key


def in_force(draft: Draft, gate: Gate) -> Gate:
    """Return a gate with the numbers that count now; one that is paused has a limit of 0."""
    settings = _settings(draft, gate)
    if not settings:
        return gate
    return replace(gate, limit=0) if any(each.pause for each in settings) else _numbers(gate, settings)


def shown(draft: Draft, gate: Gate) -> tuple[Gate, Pause | None]:
    """Return a gate with the numbers that count now, or will after its pause, and that pause."""
    settings = _settings(draft, gate)
    return _numbers(gate, settings), next((each.pause for each in settings if each.pause), None)


def _settings(draft: Draft, gate: Gate) -> list[LimitSetting]:
    """Return what operators changed, for the value of the key first; only a limit whose excess waits is changed."""
    if gate.excess is not Excess.WAIT:
        return []
    ids = dict.fromkeys((gate.id, gate_id(gate.name, "")))
    return [setting for each in ids if (setting := draft.get(limit_setting_key(each)))]


def _numbers(gate: Gate, settings: list[LimitSetting]) -> Gate:
    override = next((each.override for each in settings if each.override), None)
    if override is None:
        return gate
    if gate.has_permits:
        return replace(gate, limit=override.limit)
    burst = gate.burst if override.burst is None else override.burst
    return replace(gate, limit=override.limit, period_ms=override.period_ms or gate.period_ms, burst=burst)
