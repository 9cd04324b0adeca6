"""The notation of limits on the runs of a function."""

from stepstream.contract.gates import GateRule
from tests.engine.words import Words


def read_gates(function: str, words: Words) -> tuple[GateRule, ...]:
    """Return the limits of `throttle=starts:ms[:burst]` and `concurrency=runs[:key[:name]]`."""
    rules: list[GateRule] = []
    for word in filter(None, words.text("throttle").split(";")):
        limit, period_ms, burst = (*map(int, word.split(":")), 0)[:3]
        rules.append(GateRule(f"throttle {function}", limit, period_ms, burst))
    for word in filter(None, words.text("concurrency").split(";")):
        runs, key, name = (*word.split(":"), "", "")[:3]
        rules.append(GateRule(name or f"concurrency {function}", int(runs), key=key))
    return tuple(rules)
