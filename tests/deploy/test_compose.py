"""docker-compose.yml: valid by the compose specification, and consistent."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from compose_spec import PyCompose

from tests.deploy.compose import OURS, compose, environment_of
from tests.deploy.image import instructions
from tests.tidy_rules import ROOT

SERVICES: dict[str, dict[str, Any]] = compose()["services"]


def plain(document: dict[str, Any]) -> str:
    """Return a document as YAML without anchors."""
    return yaml.safe_dump(document, sort_keys=False)


def test_it_is_what_the_specification_says() -> None:
    """The file parses by the compose specification, which knows every key and every form of a value in it."""
    parsed = PyCompose.from_yaml(plain(compose()))
    parsed.validate()
    assert set(parsed.service_names()) == SERVICES.keys()


@pytest.mark.parametrize(
    "wrong", [{"comand": ["engine"]}, {"stop_grace_period": "soon"}, {"depends_on": {"kafka": {"condition": "up"}}}]
)
def test_a_mistake_would_be_found(wrong: dict[str, Any]) -> None:
    """An unknown key, a bad duration and an unknown condition do not parse."""
    document = compose() | {"services": SERVICES | {"engine": SERVICES["engine"] | wrong}}
    with pytest.raises(ValueError, match="engine"):
        PyCompose.from_yaml(plain(document))


def test_the_services_of_the_issue_are_there() -> None:
    """Kafka, topics, engine, worker, Prometheus and Grafana start by default, the others only on request."""
    alone = {name for name, service in SERVICES.items() if not service.get("profiles")}
    assert alone == {"kafka", "topics", "engine", "worker", "prometheus", "grafana"}
    assert SERVICES["engine-2"]["profiles"] == ["more"]
    assert SERVICES["gateway"]["profiles"] == ["gateway"]


def test_everything_that_is_named_is_declared() -> None:
    """Volumes, configs and services that a service names exist, and what it mounts is in the repository."""
    for service in SERVICES.values():
        assert set(service.get("depends_on", [])) <= SERVICES.keys()
        assert {each["source"] for each in service.get("configs", [])} <= compose()["configs"].keys()
        for volume in service.get("volumes", []):
            source, target, *mode = volume.split(":")
            assert target.startswith("/")
            if source.startswith("."):
                assert (ROOT / source).exists()
                assert mode == ["ro"], f"{source} of the repository can be written to"
            else:
                assert source in compose()["volumes"]
    used = {volume.split(":")[0] for service in SERVICES.values() for volume in service.get("volumes", [])}
    assert compose()["volumes"].keys() <= used


def test_no_port_is_open_to_others() -> None:
    """Each published port is bound to the loopback, and none twice."""
    ports = [port for service in SERVICES.values() for port in service.get("ports", [])]
    assert len(ports) >= 4
    assert all(port.startswith("127.0.0.1:") for port in ports)
    assert len(set(ports)) == len(ports)


def test_each_engine_has_its_own_name_and_disk() -> None:
    """Two engines never share tables; each keeps its name over a restart."""
    engines = [name for name in OURS if name.startswith("engine")]
    assert len({SERVICES[name]["environment"]["STEPSTREAM_INSTANCE"] for name in engines}) == len(engines)
    assert len({SERVICES[name]["volumes"][0] for name in engines}) == len(engines)


def test_nothing_starts_before_the_topics_are_there() -> None:
    """Engines and workers wait for `topics apply`, and that for a broker that answers."""
    for name in OURS[1:]:
        assert SERVICES[name]["depends_on"] == {"topics": {"condition": "service_completed_successfully"}}
    assert SERVICES["topics"]["depends_on"] == {"kafka": {"condition": "service_healthy"}}
    assert SERVICES["topics"]["restart"] == "no"
    assert "healthcheck" in SERVICES["kafka"]


def test_images_are_of_a_version_or_built_here() -> None:
    """An image of others is held to a version; ours is built from a stage of deploy/Dockerfile."""
    for service in SERVICES.values():
        if "build" in service:
            assert (ROOT / service["build"]["dockerfile"]).is_file()
            assert service["build"]["target"] in instructions()
            assert service["image"].endswith(":local")
        else:
            assert any(each.isdigit() for each in service["image"].partition(":")[2])
    assert SERVICES["kafka"]["image"].startswith("apache/kafka:")


def test_prometheus_looks_where_the_processes_are() -> None:
    """Each target is a service of ours on the port of its metrics, and the key is the one that the engines have."""
    config = yaml.safe_load((ROOT / "deploy/prometheus/prometheus.yml").read_text("utf-8"))
    mounts = dict(volume.split(":")[:2][::-1] for volume in SERVICES["prometheus"]["volumes"])
    targets: dict[str, int] = {}
    for job in config["scrape_configs"]:
        (discovery,) = job["dns_sd_configs"]
        targets |= dict.fromkeys(discovery["names"], discovery["port"])
        (key,) = SERVICES["prometheus"]["configs"]
        assert job["authorization"]["credentials_file"] == key["target"]
    assert targets == {
        "engine": 8288,
        "engine-2": 8288,
        **{each: SERVICES[each]["environment"]["STEPSTREAM_METRICS_PORT"] for each in ("worker", "gateway")},
    }
    assert compose()["configs"]["api-key"]["content"] == SERVICES["engine"]["environment"]["STEPSTREAM_API_KEY"]
    for path in config["rule_files"]:
        assert (ROOT / mounts[str(Path(path).parent)] / Path(path).name).is_file()


def test_grafana_finds_its_source_and_its_dashboard() -> None:
    """The provisioned source is our Prometheus, and the dashboard is where the provider looks."""
    folder = ROOT / "deploy/grafana/provisioning"
    (source,) = yaml.safe_load((folder / "datasources/prometheus.yml").read_text("utf-8"))["datasources"]
    assert source["url"] == "http://prometheus:9090"
    (provider,) = yaml.safe_load((folder / "dashboards/stepstream.yml").read_text("utf-8"))["providers"]
    mounted = {volume.split(":")[1]: volume.split(":")[0] for volume in SERVICES["grafana"]["volumes"]}
    home = SERVICES["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert mounted[home] == "./deploy/grafana/dashboard.json"
    assert str(Path(home).parent) == provider["options"]["path"]


def test_grafana_has_no_default_password() -> None:
    """No administrator is created, and one of an earlier start cannot log in; the dashboard is read anonymously."""
    environment = environment_of("grafana")
    assert not [name for name in environment if "PASSWORD" in name]
    assert environment["GF_SECURITY_DISABLE_INITIAL_ADMIN_CREATION"] == "true"
    assert environment["GF_AUTH_DISABLE_LOGIN_FORM"] == "true"
    assert environment["GF_AUTH_BASIC_ENABLED"] == "false"
    assert environment["GF_AUTH_ANONYMOUS_ORG_ROLE"] == "Viewer"
