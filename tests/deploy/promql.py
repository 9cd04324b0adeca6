"""The series that a PromQL expression uses, and the metrics that docs/metrics.md lists."""

import functools
import re
from collections.abc import Iterator
from dataclasses import dataclass

import promql_parser

from tests.tidy_rules import ROOT

# What Prometheus itself adds to each sample, or creates.
TARGET_LABELS = frozenset({"namespace", "job", "instance"})
PROMETHEUS_METRICS = {"up": TARGET_LABELS}
_ROW = re.compile(r"^\| `((?:stepstream|process)_\w+)` \| (\w+) \| ([^|]*)\|", re.MULTILINE)
_ENDINGS = {"histogram": ("_bucket", "_sum", "_count"), "counter": ("",), "gauge": ("",)}


@functools.cache
def metrics() -> dict[str, str]:
    """Return the metrics of docs/metrics.md, name to type."""
    text = (ROOT / "docs" / "metrics.md").read_text("utf-8")
    return {name: kind for name, kind, _ in _ROW.findall(text)}


def alerts() -> dict[str, str]:
    """Return the last column of docs/metrics.md by metric."""
    rows = [line.split(" | ") for line in (ROOT / "docs" / "metrics.md").read_text("utf-8").splitlines()]
    return {
        row[0][3:-1]: row[-1].removesuffix(" |") for row in rows if row[0].startswith(("| `stepstream_", "| `process_"))
    }


@functools.cache
def series() -> dict[str, frozenset[str]]:
    """Return each name that a query may use, and its labels."""
    found = dict(PROMETHEUS_METRICS)
    for name, kind, cell in _ROW.findall((ROOT / "docs" / "metrics.md").read_text("utf-8")):
        labels = TARGET_LABELS | set(re.findall(r"`(\w+)`", cell))
        for ending in _ENDINGS[kind]:
            found[name + ending] = labels | ({"le"} if ending == "_bucket" else set())
    return found


@dataclass(frozen=True, slots=True)
class Asked:
    """A series that an expression asks for, and all labels by which it is chosen or grouped."""

    name: str
    labels: frozenset[str]


def asked_of(expression: str) -> list[Asked]:
    """Return the series of an expression; raise ValueError if it is not PromQL."""
    # Grafana fills these in.
    text = re.sub(r"\$__(rate_interval|range|interval)", "5m", expression)
    return list(_asked(promql_parser.parse(text), frozenset()))


def _asked(node: object, grouped: frozenset[str]) -> Iterator[Asked]:
    match node:
        case promql_parser.AggregateExpr():
            inner = grouped | set(node.modifier.labels if node.modifier else ())
            yield from _asked(node.expr, inner)
        case promql_parser.BinaryExpr():
            matching = node.modifier.matching if node.modifier else None
            inner = grouped | set(matching.labels if matching else ())
            yield from _asked(node.lhs, inner)
            yield from _asked(node.rhs, inner)
        case promql_parser.Call():
            for argument in node.args:
                yield from _asked(argument, grouped)
        case promql_parser.MatrixSelector():
            yield from _asked(node.vector_selector, grouped)
        case promql_parser.VectorSelector():
            chosen = {matcher.name for matcher in node.matchers.matchers}
            yield Asked(node.name or "", grouped | chosen)
        case promql_parser.ParenExpr() | promql_parser.SubqueryExpr() | promql_parser.UnaryExpr():
            yield from _asked(node.expr, grouped)
        case _:
            assert isinstance(node, promql_parser.NumberLiteral | promql_parser.StringLiteral), f"{node} is not known"


def kept_of(expression: str) -> frozenset[str]:
    """Return the labels of the result of an expression."""
    return _kept(promql_parser.parse(expression))


def _kept(node: object) -> frozenset[str]:
    match node:
        case promql_parser.AggregateExpr():
            return frozenset(node.modifier.labels if node.modifier else ())
        case promql_parser.BinaryExpr():
            if isinstance(node.lhs, promql_parser.NumberLiteral):
                return _kept(node.rhs)
            if str(node.op) in ("and", "unless") or isinstance(node.rhs, promql_parser.NumberLiteral):
                return _kept(node.lhs)
            return _kept(node.lhs) & _kept(node.rhs)
        case promql_parser.Call():
            return _kept(node.args[-1]) - {"le"}
        case promql_parser.MatrixSelector():
            return _kept(node.vector_selector)
        case promql_parser.VectorSelector():
            return series()[node.name or ""]
        case promql_parser.ParenExpr() | promql_parser.SubqueryExpr():
            return _kept(node.expr)
    raise AssertionError(f"{node} is not known")


def faults_of(expression: str) -> list[str]:
    """Return the names and labels in an expression that docs/metrics.md does not list."""
    found = []
    for asked in asked_of(expression):
        if asked.name not in series():
            found.append(f"there is no metric {asked.name}")
            continue
        found += [f"{asked.name} has no label {label}" for label in sorted(asked.labels - series()[asked.name])]
    return found
