"""An evaluator of the shipped alerts and the PromQL that they use, over recorded or written series."""

import bisect
import functools
import itertools
import math
import operator
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import promql_parser
import yaml

from tests.tidy_rules import ROOT

LOOK_BACK_S = 300
NAME = "__name__"
Labels = frozenset[tuple[str, str]]
Vector = dict[Labels, float]
Samples = list[tuple[float, float]]
# The alerts that are shipped, by name.
RULES: Mapping[str, Mapping[str, Any]] = {
    rule["alert"]: rule
    for group in yaml.safe_load((ROOT / "deploy/prometheus/alerts.yml").read_text("utf-8"))["groups"]
    for rule in group["rules"]
}
_UNITS_S = {"m": 60, "h": 3_600}

_COMPARE: dict[str, Callable[[float, float], bool]] = {
    ">": operator.gt,
    ">=": operator.ge,
    "<": operator.lt,
    "<=": operator.le,
    "==": operator.eq,
    "!=": operator.ne,
}
_COMPUTE: dict[str, Callable[[float, float], float]] = {
    "*": operator.mul,
    "+": operator.add,
    "-": operator.sub,
    # Prometheus has no error there.
    "/": lambda a, b: a / b if b else math.nan,
}
_AGGREGATE: dict[str, Callable[[Sequence[float]], float]] = {"sum": math.fsum, "max": max, "min": min, "count": len}
_PART = re.compile(r"(_|stale|-?[\d.]+)([+-][\d.]+)?(?:x(\d+))?")


def values_of(notation: str) -> Iterator[float | None]:
    """Yield the values of a notation: `0+5x2` is 0, 5, 10; `7x2` is 7, 7, 7; `_x2` is two missing samples.

    `stale` is the mark that Prometheus sets when a series ends.
    """
    for part in notation.split():
        found = _PART.fullmatch(part)
        assert found, f"{part!r} is no notation"
        start, step, count = found.groups()
        if start == "_":
            yield from itertools.repeat(None, int(count or 1))
        elif start == "stale":
            yield math.nan
        else:
            yield from (float(start) + float(step or 0) * i for i in range(int(count or 0) + 1))


@dataclass(frozen=True)
class Database:
    """Series by their labels, the name among them; a sample is (seconds, value).

    NaN is the mark that Prometheus sets when a series ends: its process no longer returns it, or does not answer.
    Series are written in the notation of promtool's unit tests.
    """

    series: Mapping[Labels, Samples]

    @classmethod
    def of(cls, notations: Mapping[str, str], interval_s: int) -> "Database":
        """Return the series of notations, which start at 0 and have a sample per interval."""
        found: dict[Labels, Samples] = {}
        for selector, notation in notations.items():
            parsed: Any = promql_parser.parse(selector)
            labels = {(each.name, each.value) for each in parsed.matchers.matchers} | {(NAME, parsed.name)}
            values = enumerate(values_of(notation))
            found[frozenset(labels)] = [(at * interval_s, value) for at, value in values if value is not None]
        return cls(found)

    @functools.cached_property
    def _by_name(self) -> Mapping[str, Sequence[tuple[Labels, Samples]]]:
        found: dict[str, list[tuple[Labels, Samples]]] = {}
        for labels, samples in self.series.items():
            found.setdefault(dict(labels)[NAME], []).append((labels, samples))
        return found

    def select(self, selector: Any, start_s: float, end_s: float) -> dict[Labels, Samples]:
        """Return the samples after `start_s`, up to `end_s`, of what a selector chooses, with the marks of ends."""
        found: dict[Labels, Samples] = {}
        for labels, samples in self._by_name.get(selector.name, ()):
            first, end = (bisect.bisect_right(samples, at_s, key=operator.itemgetter(0)) for at_s in (start_s, end_s))
            if first < end and _matches(selector, dict(labels)):
                found[labels] = samples[first:end]
        return found


def _matches(selector: Any, labels: Mapping[str, str]) -> bool:
    return all(_holds(str(each.op), labels.get(each.name, ""), each.value) for each in selector.matchers.matchers)


def _holds(kind: str, value: str, expected: str) -> bool:
    match kind.removeprefix("MatchOp."):
        case "Equal":
            return value == expected
        case "NotEqual":
            return value != expected
        case "Re":
            return re.fullmatch(expected, value) is not None
        case "NotRe":
            return re.fullmatch(expected, value) is None
    raise AssertionError(f"{kind} is not known")


def firings(
    rule: Mapping[str, Any], database: Database, times_s: Iterable[float]
) -> Iterator[tuple[float, set[Labels]]]:
    """Yield each time and the labels with which an alert fires then: its expression has held for its duration."""
    number, unit = re.fullmatch(r"(\d+)([mh])", rule.get("for", "0m")).groups()  # type: ignore[union-attr]
    since: dict[Labels, float] = {}
    for at_s in times_s:
        since = {labels: since.get(labels, at_s) for labels in evaluate(rule["expr"], database, at_s)}
        yield at_s, {labels for labels, began in since.items() if at_s - began >= int(number) * _UNITS_S[unit]}


def evaluate(expression: str, database: Database, at_s: float) -> Vector:
    """Return the value of an expression at a time."""
    found = _value(promql_parser.parse(expression), database, at_s)
    assert isinstance(found, dict)
    return found


def _value(node: Any, database: Database, at_s: float) -> Any:
    match node:
        case promql_parser.NumberLiteral():
            return node.val
        case promql_parser.ParenExpr():
            return _value(node.expr, database, at_s)
        case promql_parser.VectorSelector():
            at_s -= _offset_s(node)
            chosen = database.select(node, at_s - LOOK_BACK_S, at_s)
            return {labels: samples[-1][1] for labels, samples in chosen.items() if not math.isnan(samples[-1][1])}
        case promql_parser.AggregateExpr():
            return _aggregate(node, _value(node.expr, database, at_s))
        case promql_parser.Call():
            return _call(node, database, at_s)
        case promql_parser.BinaryExpr():
            return _binary(node, _value(node.lhs, database, at_s), _value(node.rhs, database, at_s))
    raise AssertionError(f"{node} is not known")


def _only(labels: Labels, names: Sequence[str]) -> Labels:
    return frozenset(each for each in labels if each[0] in names)


def _nameless(labels: Labels) -> Labels:
    return frozenset(each for each in labels if each[0] != NAME)


def _aggregate(node: Any, vector: Vector) -> Vector:
    groups: dict[Labels, list[float]] = {}
    for labels, value in vector.items():
        groups.setdefault(_only(labels, node.modifier.labels if node.modifier else ()), []).append(value)
    return {labels: float(_AGGREGATE[str(node.op)](values)) for labels, values in groups.items()}


def _call(node: Any, database: Database, at_s: float) -> Vector:
    name = node.func.name
    if name == "histogram_quantile":
        return _quantiles(node.args[0].val, _value(node.args[1], database, at_s))
    samples, at_s, range_s = _range(node.args[0], database, at_s)
    function: Callable[[Samples], float | None] = {
        "rate": lambda each: _increase(each, at_s, range_s, 1 / range_s),
        "increase": lambda each: _increase(each, at_s, range_s, 1),
        "deriv": _slope,
        "max_over_time": lambda each: max(value for _, value in each),
        "last_over_time": lambda each: each[-1][1],
    }[name]
    found = {_nameless(labels): function(each) for labels, each in samples.items()}
    return {labels: value for labels, value in found.items() if value is not None}


def _range(node: Any, database: Database, at_s: float) -> tuple[dict[Labels, Samples], float, float]:
    """Return the samples of a range with its end and its length."""
    range_s = node.range.total_seconds()
    if isinstance(node, promql_parser.MatrixSelector):
        at_s -= _offset_s(node.vector_selector)
        chosen = database.select(node.vector_selector, at_s - range_s, at_s)
        kept = {labels: [each for each in samples if not math.isnan(each[1])] for labels, samples in chosen.items()}
        return {labels: samples for labels, samples in kept.items() if samples}, at_s, range_s
    step_s = node.step.total_seconds()
    found: dict[Labels, Samples] = {}
    for turn in range(int((at_s - range_s) // step_s) + 1, int(at_s // step_s) + 1):
        for labels, value in _value(node.expr, database, turn * step_s).items():
            found.setdefault(labels, []).append((turn * step_s, value))
    return found, at_s, range_s


def _offset_s(selector: Any) -> float:
    return selector.offset.total_seconds() if selector.offset else 0.0


def _increase(samples: Samples, at_s: float, range_s: float, factor: float) -> float | None:
    """Return the increase of a counter, extrapolated to the ends of the range as Prometheus does."""
    if len(samples) < 2:
        return None
    (first_s, first), (last_s, _) = samples[0], samples[-1]
    rise = math.fsum(b - a if b >= a else b for (_, a), (_, b) in itertools.pairwise(samples))
    sampled_s = last_s - first_s
    average_s = sampled_s / (len(samples) - 1)
    start_s, end_s = first_s - (at_s - range_s), at_s - last_s
    start_s = start_s if start_s < 1.1 * average_s else average_s / 2
    # A counter does not start below 0.
    start_s = min(start_s, sampled_s * first / rise) if rise > 0 else start_s
    end_s = end_s if end_s < 1.1 * average_s else average_s / 2
    return factor * rise * (sampled_s + start_s + end_s) / sampled_s


def _slope(samples: Samples) -> float | None:
    """Return the slope of the straight line through the samples, by least squares."""
    if len(samples) < 2:
        return None
    middle_s = math.fsum(at for at, _ in samples) / len(samples)
    mean = math.fsum(value for _, value in samples) / len(samples)
    above = math.fsum((at - middle_s) * (value - mean) for at, value in samples)
    return above / math.fsum((at - middle_s) ** 2 for at, _ in samples)


def _quantiles(quantile: float, vector: Vector) -> Vector:
    groups: dict[Labels, list[tuple[float, float]]] = {}
    for labels, value in vector.items():
        edge = float(dict(labels)["le"])
        groups.setdefault(frozenset(each for each in labels if each[0] != "le"), []).append((edge, value))
    return {labels: _quantile(quantile, sorted(buckets)) for labels, buckets in groups.items()}


def _quantile(quantile: float, buckets: list[tuple[float, float]]) -> float:
    total = buckets[-1][1]
    if not total:
        return math.nan
    rank = quantile * total
    below_edge = below = 0.0
    for edge, count in buckets:
        if count >= rank:
            return (
                below_edge if math.isinf(edge) else below_edge + (edge - below_edge) * (rank - below) / (count - below)
            )
        below_edge, below = edge, count
    raise AssertionError("the last bucket has all")


def _binary(node: Any, left: Any, right: Any) -> Any:
    kind = str(node.op)
    if kind in ("and", "or", "unless"):
        return _set(kind, node, left, right)
    apply = functools.partial(_apply, kind)
    if isinstance(left, float) and isinstance(right, float):
        return apply(left, right)
    if isinstance(right, float):
        pairs = {labels: apply(value, right) for labels, value in left.items()}
    elif isinstance(left, float):
        assert kind in _COMPUTE, "a number is on the left of a comparison"
        pairs = {labels: apply(left, value) for labels, value in right.items()}
    else:
        others = {_key(node, labels): value for labels, value in right.items()}
        pairs = {
            labels: apply(value, others[_key(node, labels)])
            for labels, value in left.items()
            if _key(node, labels) in others
        }
    if kind in _COMPARE:
        return {labels: value for labels, value in pairs.items() if value is not None}
    return {_nameless(labels): value for labels, value in pairs.items()}


def _apply(kind: str, left: float, right: float) -> float | None:
    if kind in _COMPUTE:
        return _COMPUTE[kind](left, right)
    return left if _COMPARE[kind](left, right) else None


def _key(node: Any, labels: Labels) -> Labels:
    matching = node.modifier.matching if node.modifier else None
    if matching is None:
        return _nameless(labels)
    assert str(matching.type).endswith("Include"), "only `on` is known"
    return _only(labels, matching.labels)


def _set(kind: str, node: Any, left: Vector, right: Vector) -> Vector:
    keys = {_key(node, labels) for labels in right}
    if kind == "or":
        mine = {_key(node, labels) for labels in left}
        return left | {labels: value for labels, value in right.items() if _key(node, labels) not in mine}
    return {labels: value for labels, value in left.items() if (_key(node, labels) in keys) == (kind == "and")}
