"""Alerts and dashboard use only metrics that the processes export, and leave none of them out."""

import json
import re
from typing import Any

import pytest
import yaml

from tests.deploy.promql import TARGET_LABELS, alerts, asked_of, faults_of, kept_of, metrics, series
from tests.tidy_rules import ROOT

ALERTS = yaml.safe_load((ROOT / "deploy/prometheus/alerts.yml").read_text("utf-8"))
RULES = [rule for group in ALERTS["groups"] for rule in group["rules"]]
DASHBOARD = json.loads((ROOT / "deploy/grafana/dashboard.json").read_text("utf-8"))
PANELS: list[dict[str, Any]] = DASHBOARD["panels"]
QUERIES = [(panel["title"], target["expr"]) for panel in PANELS for target in panel.get("targets", [])]
VARIABLES = {variable["name"]: variable for variable in DASHBOARD["templating"]["list"]}
WIDTH = 24


def test_the_list_of_metrics_is_read() -> None:
    """The names, types and labels come from the tables of docs/metrics.md."""
    assert len(metrics()) >= 30
    assert series()["stepstream_commit_duration_seconds_bucket"] == TARGET_LABELS | {"shard", "le"}
    assert "stepstream_commit_duration_seconds" not in series()


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_an_alert_asks_for_what_there_is(rule: dict[str, Any]) -> None:
    """The expression is PromQL, its metrics and their labels are listed, and its texts name labels that it keeps."""
    assert not faults_of(rule["expr"])
    named = set(re.findall(r"\$labels\.(\w+)", json.dumps(rule["annotations"])))
    assert named <= kept_of(rule["expr"])


def metrics_of(expression: str) -> set[str]:
    """Return the metrics that an expression asks for, by their names in docs/metrics.md."""
    names = {asked.name for asked in asked_of(expression)}
    return {re.sub("_(bucket|sum|count)$", "", name) if name not in metrics() else name for name in names}


@pytest.mark.parametrize("metric", sorted(alerts()))
def test_a_metric_names_the_alerts_that_ask_for_it(metric: str) -> None:
    """Its last column has exactly these rules, or says that there is none and what to look at."""
    said = alerts()[metric]
    rules = {rule["alert"] for rule in RULES if metric in metrics_of(rule["expr"])}
    # It uses a series of Prometheus itself, in addition to the metric.
    rules |= {"StepstreamDown"} if metric == "stepstream_ready" else set()
    assert set(re.findall(r"`(Stepstream\w+)`", said)) == rules
    assert bool(rules) != bool(re.fullmatch(r"none: .{20,}\.", said)), said


def test_each_alert_is_named_by_a_metric() -> None:
    """Each alert is in the row of a metric; the list is read to its end."""
    assert alerts().keys() == metrics().keys()
    named = {name for said in alerts().values() for name in re.findall(r"`(Stepstream\w+)`", said)}
    assert named == {rule["alert"] for rule in RULES}


def test_alerts_have_names_severities_and_remedies() -> None:
    """Each alert has its own name, a severity, a summary, and a sentence on what to do."""
    assert len({rule["alert"] for rule in RULES}) == len(RULES) >= 20
    for rule in RULES:
        assert rule["labels"]["severity"] in ("page", "ticket")
        assert rule["annotations"].keys() == {"summary", "description"}
        assert rule["alert"].startswith("Stepstream")


@pytest.mark.parametrize(("title", "expression"), QUERIES, ids=lambda value: value[:40])
def test_a_panel_asks_for_what_there_is(title: str, expression: str) -> None:
    """Each query of the dashboard is PromQL over metrics and labels that are listed."""
    assert not faults_of(expression), title


def test_wrong_queries_would_be_found() -> None:
    """A metric or label that does not exist is named; text that is not PromQL raises."""
    assert faults_of("rate(stepstream_run_total[5m])") == ["there is no metric stepstream_run_total"]
    assert faults_of("sum by (function) (stepstream_ready)") == ["stepstream_ready has no label function"]
    assert faults_of('up and on (shard) stepstream_records_total{function="a"}') == [
        "up has no label shard",
        "stepstream_records_total has no label function",
    ]
    with pytest.raises(ValueError, match="unclosed left parenthesis"):
        asked_of("sum by (")


def test_no_metric_is_left_out() -> None:
    """Each metric of docs/metrics.md is in the dashboard or in an alert."""
    used = {
        asked.name
        for text in [rule["expr"] for rule in RULES] + [text for _, text in QUERIES]
        for asked in asked_of(text)
    }
    shown = {re.sub("_(bucket|sum|count)$", "", name) for name in used} | used
    assert sorted(metrics().keys() - shown) == []


def test_panels_have_ids_and_places_of_their_own() -> None:
    """No two panels have one id, none lies over another or beyond the edge."""
    ids = [panel["id"] for panel in PANELS]
    assert len(set(ids)) == len(ids) >= 30
    taken: set[tuple[int, int]] = set()
    for panel in PANELS:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & taken, f"{panel['title']} lies over another"
        assert at["x"] + at["w"] <= WIDTH
        taken |= cells


def test_panels_know_their_source_and_unit() -> None:
    """Each panel asks the chosen source, says its unit, and names each of its lines; a row only has a title."""
    titles = [panel["title"] for panel in PANELS]
    assert len(set(titles)) == len(titles)
    for panel in (panel for panel in PANELS if panel["type"] != "row"):
        assert panel["fieldConfig"]["defaults"]["unit"]
        references = [target["refId"] for target in panel["targets"]]
        assert len(set(references)) == len(references) >= 1
        for source in (panel, *panel["targets"]):
            assert source["datasource"] == {"type": "prometheus", "uid": "${datasource}"}


def test_variables_are_defined_and_used() -> None:
    """Each `$name` of a query is a variable of the dashboard, and each variable is used; they list what there is."""
    used = {name for _, text in QUERIES for name in re.findall(r"\$(\w+)", text)} | {"datasource"}
    assert {name for name in used if not name.startswith("__")} == VARIABLES.keys()
    for variable in VARIABLES.values():
        if variable["type"] == "query":
            found = re.fullmatch(r"label_values\((\w+), (\w+)\)", variable["definition"])
            assert found
            assert found[2] in series()[found[1]]
