"""The notation of plans in record tables."""

from msgspec.structs import replace

from stepstream.contract.events import EventRecord
from stepstream.contract.gates import GateRule
from stepstream.contract.plans import (
    InvokePlan,
    RunPlan,
    SendPlan,
    SignalPlan,
    SleepPlan,
    StepPlan,
    WaitBranch,
    WaitPlan,
)
from tests.engine.words import Words


def read_plans(words: Words) -> list[StepPlan]:
    """Return the plans of `sleep:a:until`, `wait:a:event:ms[:match|:?condition]`, `signal:a:name:ms[:replace]` …

    Several events are `any:a:ms:name.event[.match][/lookback];…`, or `all:…`. A body for a queue is `run:a:queue`,
    and one with limits `run:a::name/limit[/period[/key[/fair]]];…[:units]`, or `covered:a::…` if the permit of its run
    covers it; a plan of a group ends in `@group`.
    """
    plans: list[StepPlan] = []
    while words.plain:
        body, _, group = words.take().partition("@")
        kind, step, *rest = body.split(":", 4 if body.startswith("wait") else -1)
        plans.append(_plan(kind, step, rest, group, words))
    return plans


def _plan(kind: str, step: str, rest: list[str], group: str, words: Words) -> StepPlan:
    match kind:
        case "run" | "covered":
            queue, limits, units = [*rest, "", "", ""][:3]
            rules = tuple(_limit(word, metered=units != "") for word in filter(None, limits.split(";")))
            return RunPlan(step, step, queue, group, limits=rules, units=units, covered=kind == "covered")
        case "sleep":
            return SleepPlan(step, step, int(rest[0]), group)
        case "wait":
            asked = rest[2] if len(rest) > 2 else ""
            match, condition = ("", asked[1:]) if asked.startswith("?") else (asked, "")
            lookback_ms = words.number("lookback")
            return WaitPlan(step, step, rest[0], int(rest[1]), match, condition, lookback_ms, group)
        case "any" | "all":
            branches = tuple(map(_branch, rest[1].split(";")))
            return WaitPlan(step, step, "", int(rest[0]), group=group, branches=branches, every=kind == "all")
        case "signal":
            return SignalPlan(step, step, rest[0], int(rest[1]), "replace" in rest, group)
        case "send":
            events = (name.partition("#") for name in rest)
            return SendPlan(step, step, tuple(EventRecord(name, id=id) for name, _, id in events), group)
        case _:
            assert kind == "invoke", f"{kind!r} is not a plan"
            return InvokePlan(step, step, rest[0], int(rest[1]), group=group, cancel_with_parent="cancel" in rest)


def _limit(word: str, *, metered: bool) -> GateRule:
    """Return the limit of `name/limit[/period[/key[/fair]]]`; without a period it counts bodies that are running."""
    name, limit, period, key, fair = [*word.split("/", 4), "", "", ""][:5]
    rule = GateRule(name, int(limit), int(period or 0), key=key, fair=fair)
    return replace(rule, steps=not period, metered=metered and bool(period))


def _branch(word: str) -> WaitBranch:
    """Return the branch of `name.event[.match|.?condition][/lookback]`."""
    word, _, lookback_ms = word.partition("/")
    name, event, asked = (*word.split(".", 2), "")[:3]
    match, condition = ("", asked[1:]) if asked.startswith("?") else (asked, "")
    return WaitBranch(name, event, match, condition, int(lookback_ms or 0))
