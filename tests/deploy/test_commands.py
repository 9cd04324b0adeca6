"""Every command, setting and path that the deployment uses is one that the code has."""

import json
import re
from collections.abc import Iterator
from contextlib import closing
from dataclasses import fields

import pytest
from fastapi.routing import APIRoute
from starlette.routing import Route

from stepstream.api.facade import EngineFacade
from stepstream.api.guards import Keys
from stepstream.api.http import make_api
from stepstream.api.routes.probes import make_probes
from stepstream.host.monitoring.logs import Format, Level
from stepstream.host.settings import SettingsError, kafka_settings_from, settings_from
from stepstream.runtime.readmodel.index import RunIndex
from tests.cli.parsing import SETTINGS, UsageError, parse
from tests.deploy.chart import container, pods
from tests.deploy.compose import OURS, compose, environment_of
from tests.deploy.image import instructions
from tests.tidy_rules import ROOT

SETTING = re.compile(r"STEPSTREAM_[A-Z_]+")
CHARTS = ("plain", "full")
SIGNING_KEY = "signkey-prod-00ff"


def commands() -> Iterator[tuple[str, list[str]]]:
    """Yield each command line of the deployment with its place."""
    for target, lines in instructions().items():
        for word, rest in lines:
            if word == "CMD":
                yield f"Dockerfile {target}", json.loads(rest)
    for name in OURS:
        if "command" in compose()["services"][name]:
            yield f"compose {name}", [str(word) for word in compose()["services"][name]["command"]]
    for chart in CHARTS:
        for at, pod in pods(chart).items():
            yield f"chart {chart} {at}", container(pod)["args"]


def test_every_command_is_one_that_stepstream_takes() -> None:
    """Each command line of image, compose and chart parses, with its options and arguments."""
    found = {place: parse(arguments) for place, arguments in commands()}
    assert set(found.values()) == {"engine", "worker", "gateway", "topics apply"}
    assert len(found) >= 10


def test_an_unknown_command_would_be_found() -> None:
    """A wrong option or command does not parse."""
    for wrong in (["engine", "--shards", "4"], ["topics", "make"], ["worker"]):
        with pytest.raises(UsageError):
            parse(wrong)


def test_every_setting_is_one_that_the_code_reads() -> None:
    """Each STEPSTREAM_… of image, compose, chart and documents is a field of the settings."""
    files = [ROOT / "docker-compose.yml", *(path for path in (ROOT / "deploy").rglob("*") if path.is_file())]
    found = {name for path in files for name in SETTING.findall(path.read_text("utf-8"))}
    assert len(found) >= 15
    assert not found - SETTINGS


@pytest.mark.parametrize("service", ["engine", "gateway"])
def test_a_process_in_a_container_is_open_only_with_keys(service: str) -> None:
    """What compose sets is taken by the settings; without one of the keys the process would not start."""
    environment = environment_of(service)
    settings = settings_from(environment)
    assert settings.host == "0.0.0.0"  # noqa: S104  # This is what must be guarded.
    assert kafka_settings_from(environment).bootstrap == "kafka:19092"
    for key in ("STEPSTREAM_EVENT_KEY", "STEPSTREAM_API_KEY"):
        with pytest.raises(SettingsError):
            settings_from({name: value for name, value in environment.items() if name != key})


def test_workers_reach_the_composed_gateway_where_it_says() -> None:
    """The published ports lead to those on which it listens, and the URL for workers has the second one."""
    settings = settings_from(environment_of("gateway"))
    published = [port.split(":")[1:] for port in compose()["services"]["gateway"]["ports"]]
    assert [int(inside) for _, inside in published] == [settings.port, settings.connect_port]
    assert settings.connect_url == f"ws://localhost:{published[1][0]}/v0/connect"
    assert settings.serves_sdks
    assert settings.signing_keys.kind == "cloud"


@pytest.mark.parametrize("seconds", ["soon", "-1", "inf", "nan"])
def test_a_drain_takes_seconds(seconds: str) -> None:
    """Zero is valid; anything but a duration is refused with the name of the setting."""
    assert settings_from({"STEPSTREAM_DRAIN_S": "0"}).drain_s == 0
    with pytest.raises(SettingsError, match=f"drain_s '{seconds}': expected a number of seconds, 0 or more"):
        settings_from({"STEPSTREAM_DRAIN_S": seconds})


@pytest.mark.parametrize("chart", CHARTS)
def test_the_settings_of_the_chart_are_taken(chart: str) -> None:
    """Each pod's environment makes settings, on the ports that its container declares, and has the API key."""
    for at, pod in pods(chart).items():
        if at.endswith("-topics"):
            continue
        env = {each["name"]: each.get("value", "from-elsewhere") for each in container(pod)["env"]}
        settings = settings_from(env | {name: SIGNING_KEY for name in env if "SIGNING_KEY" in name})
        declared = [port["containerPort"] for port in container(pod)["ports"]]
        own: dict[str, list[int | None]] = {
            "engine": [settings.port],
            "gateway": [settings.port, settings.connect_port],
        }
        assert declared == [*own.get(container(pod)["args"][0], []), settings.metrics_port]
        assert settings.api_key, f"the metrics of {at} are open to all"
        assert (Format(env["STEPSTREAM_LOG_FORMAT"]), Level(env["STEPSTREAM_LOG_LEVEL"])) == (Format.JSON, Level.INFO)
        kafka = kafka_settings_from(env)
        assert kafka.security_protocol in ("PLAINTEXT", "SASL_SSL")
        assert bool(kafka.sasl_password) == kafka.security_protocol.startswith("SASL")
        assert bool(kafka.cert_file and kafka.key_file and kafka.ca_file) == (chart == "full")


def routes_of(kind: str) -> set[str]:
    """Return the paths that an engine answers, or a worker or gateway on the port of its probes."""
    if kind != "engine":
        return {route.path for route in make_probes(bool, str, bytes).routes if isinstance(route, Route)}
    engine = EngineFacade(*[NotImplemented for _ in fields(EngineFacade)])
    with closing(RunIndex()) as index:
        api = make_api(engine, index, bytes, keys=Keys("", ""))
    return {route.path for route in api.routes if isinstance(route, APIRoute)}


def probed() -> Iterator[tuple[str, str]]:
    """Yield (kind of process, path) for each request of probes and Prometheus."""
    yield from (("engine", "/metrics"), ("worker", "/metrics"))
    for pod in (pod for chart in CHARTS for at, pod in pods(chart).items() if not at.endswith("-topics")):
        for name in ("startupProbe", "livenessProbe", "readinessProbe"):
            probe = container(pod)[name]["httpGet"]
            # The last port of a container is that of its probes.
            assert probe["port"] == container(pod)["ports"][-1]["name"]
            yield container(pod)["args"][0], probe["path"]
    texts = [rest for word, rest in instructions()["stepstream"] if word == "HEALTHCHECK"]
    assert texts
    for text in texts:
        yield "engine", url_path(text, settings_from({}).port)
    worker = compose()["services"]["worker"]
    yield "worker", url_path(" ".join(worker["healthcheck"]["test"]), worker["environment"]["STEPSTREAM_METRICS_PORT"])


def url_path(text: str, port: int) -> str:
    """Return the path of the address in a health check, which must be on this port of the loopback."""
    found = re.search(r"http://127\.0\.0\.1:(\d+)(/\w+)", text)
    assert found
    assert int(found[1]) == port
    return found[2]


def test_every_path_that_is_probed_is_answered() -> None:
    """Probes request paths that engine, worker and gateway serve."""
    asked = set(probed())
    assert {kind for kind, _ in asked} == {"engine", "worker", "gateway"}
    assert {path for _, path in asked} == {"/health", "/ready", "/metrics"}
    assert not [(kind, path) for kind, path in asked if path not in routes_of(kind)]
