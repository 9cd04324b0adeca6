"""Alerts fire when they should, and not before: each rule is evaluated on small series, minute by minute."""

import math
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from tests.deploy.alert_cases import CASES, MINUTE_S, Case
from tests.deploy.evaluation import NAME, RULES, Database, Labels, Samples, evaluate, firings, values_of
from tests.deploy.fault_cases import FAULTS, START, series_of


def first_firing(rule: Mapping[str, Any], case: Case) -> tuple[int | None, set[Labels]]:
    """Return the first minute in which the alert fires, and with which labels."""
    database = Database.of(case.series, case.interval_s)
    end = max(samples[-1][0] for samples in database.series.values())
    for at_s, firing in firings(rule, database, range(0, int(end) + 1, case.interval_s)):
        if firing:
            return int(at_s) // 60, firing
    return None, set()


def cases() -> Iterator[Any]:
    """Yield every case with the name of its alert."""
    for alert, found in CASES.items():
        for number, case in enumerate(found):
            yield pytest.param(alert, case, id=f"{alert}-{number}")


@pytest.mark.parametrize(("alert", "case"), list(cases()))
def test_an_alert_fires_when_it_should(alert: str, case: Case) -> None:
    """It fires in exactly the minute of the case, or never, and names what is affected."""
    fires, firing = first_firing(RULES[alert], case)
    assert fires == case.fires
    assert all(case.labels.items() <= dict(labels).items() for labels in firing)


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_fires_its_alerts_and_no_others(name: str) -> None:
    """An operator sees what is wrong, and is not sent to another place: no other rule fires in half an hour."""
    fault = FAULTS[name]
    found: dict[str, list[dict[str, str]]] = {}
    for alert, rule in RULES.items():
        minute, firing = first_firing(rule, Case(None, series_of(fault)))
        if minute is not None:
            assert minute >= START, f"{alert} fires before the fault"
            found[alert] = [dict(labels) for labels in firing]
    assert found.keys() == fault.alerts.keys()
    for alert, labels in fault.alerts.items():
        assert any(labels.items() <= each.items() for each in found[alert]), found[alert]


def with_failed_scrapes(database: Database) -> Database:
    """Return series with a sample every 15 s, of which one in four fails; then Prometheus ends all but `up`."""

    def often(labels: Labels, samples: Samples) -> Iterator[tuple[float, float]]:
        for at_s, value in samples:
            failed = value if dict(labels)[NAME] == "up" else math.nan
            yield from ((at_s, value), (at_s + 15, value), (at_s + 30, failed), (at_s + 45, value))

    return Database({labels: list(often(labels, samples)) for labels, samples in database.series.items()})


@pytest.mark.parametrize("alert", [name for name, rule in RULES.items() if rule["labels"]["severity"] == "page"])
def test_a_failed_scrape_resets_no_page(alert: str) -> None:
    """A process in trouble that does not answer one scrape in four pages as any other."""
    case = next(case for case in CASES[alert] if case.fires is not None and case.interval_s == MINUTE_S)
    database = with_failed_scrapes(Database.of(case.series, MINUTE_S))
    assert case.fires is not None
    times_s = range(0, (case.fires + 3) * MINUTE_S, 15)
    assert any(firing for _, firing in firings(RULES[alert], database, times_s))


def test_every_alert_has_cases_of_both_kinds() -> None:
    """Each rule has a case in which it fires, and a case in which it does not."""
    assert CASES.keys() == RULES.keys()
    for alert, found in CASES.items():
        assert {case.fires is None for case in found} == {True, False}, alert


def test_series_are_written_as_promtool_has_them() -> None:
    """A start, a step and a count; a value again and again; and nothing."""
    assert list(values_of("1+2x3 7x1 _x2 -1 100-5x1")) == [1, 3, 5, 7, 7, 7, None, None, -1, 100, 95]


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("a", {"x": 8.0, "y": 4.0}),
        ('a{l="x"}', {"x": 8.0}),
        ('a{l!="x"}', {"y": 4.0}),
        ('a{l=~"x|z"}', {"x": 8.0}),
        ('a{l!~"x"}', {"y": 4.0}),
        ("a offset 4m", {"x": 0.0, "y": 4.0}),
        ("sum by (m) (a)", {"": 12.0}),
        ("count by (l) (a)", {"x": 1.0, "y": 1.0}),
        ("a > 4", {"x": 8.0}),
        ("a >= 4", {"x": 8.0, "y": 4.0}),
        ("2 * a / a", {"x": 2.0, "y": 2.0}),
        ("a and a > 4", {"x": 8.0}),
        ("a unless a > 4", {"y": 4.0}),
        ("a > 4 or a", {"x": 8.0, "y": 4.0}),
        ("a and on (m) a > 4", {"x": 8.0, "y": 4.0}),
        ("rate(a[2m] offset 2m)", {"x": 2 / 60, "y": 0.0}),
        ("rate(a[4m])", {"x": 2 / 60, "y": 0.0}),
        ("increase(a[2m])", {"x": 4.0, "y": 0.0}),
        ("deriv(a[4m])", {"x": 2 / 60, "y": 0.0}),
        ("deriv(a[4m:1m])", {"x": 2 / 60, "y": 0.0}),
        ("max_over_time(a[1h])", {"x": 8.0, "y": 4.0}),
        ("last_over_time(a[2m] offset 1m)", {"x": 6.0, "y": 4.0}),
    ],
)
def test_expressions_mean_what_prometheus_means(expression: str, expected: dict[str, float]) -> None:
    """Each form that the alerts use, on a series that rises by two a minute and one that stays."""
    database = Database.of({'a{l="x"}': "0+2x4", 'a{l="y"}': "4x4"}, 60)
    found = {dict(labels).get("l", ""): value for labels, value in evaluate(expression, database, 240).items()}
    assert found == pytest.approx(expected)


def test_a_series_that_ended_has_no_value() -> None:
    """The mark of its end hides it at once, and is no sample of a range."""
    ended = frozenset({("__name__", "a"), ("instance", "e0")})
    database = Database({ended: [(0, 1.0), (5, 3.0), (10, math.nan)]})
    assert evaluate("a", database, 9) == {ended: 3.0}
    assert evaluate("a", database, 11) == {}
    assert list(evaluate("max_over_time(a[1h])", database, 11).values()) == [3.0]


def test_a_restarted_counter_keeps_increasing() -> None:
    """After a restart a counter starts at 0: its value then is its increase."""
    database = Database.of({"a": "8+2x1 1+2x1"}, 60)
    # From 8 by 2, then 1 and 2 more: 5 in three minutes, extrapolated to four.
    assert evaluate("increase(a[4m])", database, 180) == {frozenset(): pytest.approx(5 * 4 / 3)}
