"""The notation of limits on the runs of a function, and of what operators see of them."""

from collections.abc import Iterator, Sequence

from msgspec.structs import replace

from stepstream.contract.gates import Excess, GateRule, PassedGate, gate_id
from stepstream.contract.history import HistoryEntry
from stepstream.contract.operators.limit_settings import LimitAction, LimitChangeRequested, Override
from stepstream.contract.operators.limit_views import (
    ChangedLimit,
    LimitRequested,
    LimitsRequested,
    LimitView,
    RunLimitRequested,
    decode_limit,
)
from stepstream.engine.state.records import Input
from stepstream.runtime.limit_pages import merged
from tests.engine.words import RunOf, Words

# So many limits are in one page of a list.
LISTED = 3
_MODES = {"skip": Excess.SKIPPED, "cancel": Excess.REPLACE, "wait": Excess.WAIT}


def read_gates(function: str, words: Words) -> tuple[GateRule, ...]:
    """Return the limits of a function.

    `idempotency=key[:ms]`, `rate=runs:ms[:burst]`, `debounce=ms[:most[:key]]`, `singleton=skip|cancel|wait[:key]`,
    `batch=size:ms[:key[:condition]]`, `gather=size:ms[:most[:key]]` (a debounce that keeps all events),
    `throttle=starts:ms[:burst]`, `named=name:starts:ms`, `concurrency=runs[:key[:name]]`,
    `steps=bodies[:key[:name]]`, `work=runs[:key[:name]]`, `code=bodies[:key[:name]]`, which counts the code between
    bodies too (older releases register `steps`). Those of them for which runs wait may be `fair=key`, with a
    `weight=expression`.
    """
    rules: list[GateRule] = []
    for word in filter(None, words.text("idempotency").split(";")):
        key, _, period = word.partition(":")
        rules.append(GateRule(f"idempotency {function}", 1, int(period or 100), key=key, excess=Excess.IDEMPOTENT))
    for word in filter(None, words.text("rate").split(";")):
        limit, period_ms, burst = (*map(int, word.split(":")), 0)[:3]
        rules.append(GateRule(f"rate limit {function}", limit, period_ms, burst, excess=Excess.RATE_LIMITED))
    for word in filter(None, words.text("debounce").split(";")):
        period, most, key = [*word.split(":"), "", ""][:3]
        excess, most_ms = Excess.DEBOUNCED, int(most or 0)
        rules.append(GateRule(f"debounce {function}", 1, int(period), key=key, excess=excess, most_ms=most_ms))
    rules += _read_batches(function, words)
    for word in filter(None, words.text("singleton").split(";")):
        mode, _, key = word.partition(":")
        rules.append(GateRule(f"singleton {function}", 1, key=key, excess=_MODES[mode]))
    for word in filter(None, words.text("throttle").split(";")):
        limit, period_ms, burst = (*map(int, word.split(":")), 0)[:3]
        rules.append(GateRule(f"throttle {function}", limit, period_ms, burst))
    for word in filter(None, words.text("named").split(";")):
        name, starts, period = word.split(":")
        rules.append(GateRule(name, int(starts), int(period)))
    for option in ("concurrency", "steps", "work", "code"):
        for word in filter(None, words.text(option).split(";")):
            number, key, name = (*word.split(":"), "", "")[:3]
            steps, work = option in ("steps", "code"), option in ("work", "code")
            rules.append(GateRule(name or f"{option} {function}", int(number), key=key, steps=steps, work=work))
    fair, weight = words.text("fair"), words.text("weight")
    return tuple(replace(rule, fair=fair, weight=weight) if rule.excess is Excess.WAIT else rule for rule in rules)


def _read_batches(function: str, words: Words) -> Iterator[GateRule]:
    for word in filter(None, words.text("batch").split(";")):
        size, period, key, condition = [*word.split(":"), "", ""][:4]
        rule = GateRule(f"batch {function}", 1, int(period), key=key, excess=Excess.BATCHED, size=int(size))
        yield replace(rule, condition=condition)
    for word in filter(None, words.text("gather").split(";")):
        size, period, most, key = [*word.split(":"), "", ""][:4]
        rule = GateRule(f"debounce {function}", 1, int(period), key=key, excess=Excess.BATCHED, size=int(size))
        yield replace(rule, most_ms=int(most or 0), renewed=True)


def read_limit_question(verb: str, words: Words, run_of: RunOf) -> Input:
    """Return the record of `limits [NAME] [after=NAME]`, `limit NAME [key=KEY]` or `limit-of RUN`."""
    match verb:
        case "limits":
            after = words.text("after")
            return LimitsRequested("R", LISTED, words.take(), f"{after}\x00" if after else "")
        case "limit-of":
            return RunLimitRequested(run_of(words.take()), "R")
        case _:
            return LimitRequested(gate_id(words.take(), words.text("key")), "R")


def read_limit_change(verb: str, words: Words) -> Input:
    """Return the record of `set-limit NAME LIMIT [key=KEY] [period=MS] [burst=N] [until=MS]`, or of another change.

    The others are `pause-limit NAME [until=MS]`, `resume-limit NAME` and `reset-limit NAME`.
    """
    action, name, until = LimitAction(verb.partition("-")[0]), words.take().replace("_", " "), words.number("until")
    override = None
    if action is LimitAction.SET:
        burst = words.number("burst", -1)
        numbers = int(words.take()), words.number("period"), None if burst < 0 else burst
        override, until = Override(*numbers, until), 0
    return LimitChangeRequested(name, action, words.text("key"), override, until, "ann", "fix", words.text("reply"))


def show_limit(view: LimitView) -> str:
    """Return what an operator sees of a limit in words."""
    key = f" of {view.key}" if view.key else ""
    uses = f"{view.in_use}/{view.limit}" if not view.period_ms else f"{view.limit} in {view.period_ms}"
    uses += " paused" if view.paused else ""
    words = [f"{view.name}{key}: {uses}", f"next {view.next_start}" if view.next_start else ""]
    words += [f"by {' '.join(view.holders)}" if view.holders else ""]
    words += [f"{view.waiting} waiting since {view.since}: {' '.join(view.waiters)}" if view.waiting else ""]
    return ", ".join(filter(None, [*words, f"place {view.place}" if view.place else ""]))


def show_limits(answers: Sequence[str]) -> list[str]:
    """Return the answers of shards about limits in words, as one list."""
    if not answers:
        return []
    if not answers[0].startswith('{"limits"'):
        found = [decode_limit(answer) for answer in answers]
        words = [show_limit(each.limit) if each.limit else "no limit" for each in found]
        return [*words, *(show_change(each) for answer in found for each in answer.changed)]
    page = merged(answers, LISTED)
    return [*map(show_limit, page.limits), *map(show_change, page.changed), *(["more"] if page.next else [])]


def show_change(changed: ChangedLimit) -> str:
    """Return how operators changed a limit in words."""
    setting, key = changed.setting, f" of {changed.key}" if changed.key else ""
    override = f" {setting.override.limit}" if setting.override else ""
    log = " ".join(f"{each.action}@{each.at}" for each in setting.changes)
    return f"changed {changed.name}{key}:{override}{' paused' if setting.pause else ''} by {log}"


def show_decisions(entry: HistoryEntry) -> list[str]:
    """Return what an entry of history says of gates in words: which were passed, and when permits were returned."""
    passed = getattr(entry, "passed", ())
    of = f"{entry.id} of {entry.run_id}" if hasattr(entry, "id") else entry.run_id
    parked = f"{entry.run_id} parked at {at}" if (at := getattr(entry, "parked_at", 0)) else ""
    words = [f"{of} {entry.__struct_config__.tag}: {', '.join(map(_show_passed, passed))}" if passed else ""]
    return [each for each in (parked, *words) if each]


def _show_passed(passed: PassedGate) -> str:
    key = f" of {passed.value}" if passed.value else ""
    waited = f" place {passed.place} for {passed.waited_ms}" if passed.place else ""
    units = "" if passed.units is None else f" {passed.units} units"
    return f"{passed.name}{key}{waited}{units}{'' if passed.used is None else f' used {passed.used}'}"
