"""The values of the chart: each one takes effect in the right place, and invalid ones are refused."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import kubernetes_validate
import pytest

from stepstream.contract.limits import DAY_MS
from stepstream.contract.topics import commands_topic
from stepstream.host.settings import settings_from
from stepstream.runtime.readmodel.pruning import Retention
from tests.deploy.chart import Manifest, RefusedError, ci_values, container, only, pods, render

POOL = {"app": "shop", "file": "/a.py", "image": {"repository": "r", "tag": "t"}}
BY_LAG = {"enabled": True, "byLag": True}
PLAIN = ci_values("plain")
KUBERNETES = "1.37"
GATEWAY_LABELS = {"app.kubernetes.io/instance": "demo", "app.kubernetes.io/component": "gateway"}
GATEWAY = {"gateway": {"enabled": True}, "keys": PLAIN["keys"] | {"signing": "signkey-prod-00ff"}}
NOT_TEXT = ["2024", "true", "1e3", "null", "0x10", "on"]


def rendered(**changes: Any) -> list[Manifest]:
    """Return what the chart makes of the least of values with some changes, which Kubernetes takes."""
    found = render(PLAIN | changes)
    for manifest in found:
        if "." not in manifest["apiVersion"] or manifest["apiVersion"].endswith(".k8s.io/v1"):
            kubernetes_validate.validate(manifest, KUBERNETES, strict=True)
    return found


def the(found: list[Manifest], kind: str, suffix: str = "") -> Manifest:
    """Return the one resource of a kind whose name has this ending."""
    (one,) = [each for each in found if each["kind"] == kind and each["metadata"]["name"].endswith(suffix)]
    return one


def arguments(manifest: Manifest) -> list[str]:
    """Return the command line of a workload."""
    return list(container(manifest["spec"]["template"])["args"])


def env_of(pod: Manifest) -> dict[str, str]:
    """Return the variables of a pod that have a value."""
    return {each["name"]: each["value"] for each in container(pod)["env"] if "value" in each}


@pytest.mark.parametrize("name", NOT_TEXT)
def test_names_that_yaml_reads_otherwise_stay_text(name: str) -> None:
    """An app, a queue, a secret, a release's parts may be called like a number or a switch."""
    pool = POOL | {"app": name, "queue": name, "scaling": BY_LAG}
    found = rendered(
        workers={"a": pool},
        keys={"existingSecret": name},
        kafka={"bootstrap": "b:1", "securityProtocol": "SASL_SSL", "sasl": {"existingSecret": name}},
        nameOverride=name,
        serviceAccount={"name": name},
        engine={"storage": {"className": name}},
    )
    assert f"{name}.{name}" in arguments(the(found, "Job"))
    assert arguments(the(found, "Job"))[-3:-1] == [name, "--app"]
    assert arguments(the(found, "Deployment"))[-2:] == ["--queue", name]
    (trigger,) = the(found, "ScaledObject")["spec"]["triggers"]
    assert trigger["metadata"]["topic"] == commands_topic(name, name)


def annotations(kind: str, **changes: Any) -> Mapping[str, str]:
    """Return the annotations of the pods of a workload."""
    found: Mapping[str, str] = the(rendered(**changes), kind)["spec"]["template"]["metadata"]["annotations"]
    return found


@pytest.mark.parametrize("kind", ["StatefulSet", "Deployment"])
def test_new_secrets_restart_pods(kind: str) -> None:
    """Another key or password changes the pods of engines and workers; without a change they stay."""

    def kafka(password: str) -> dict[str, Any]:
        sasl = {"username": "u", "password": password}
        return {"bootstrap": "b:1", "securityProtocol": "SASL_PLAINTEXT", "sasl": sasl}

    before = annotations(kind, keys={"event": "e", "api": "old"}, kafka=kafka("old"))
    assert before == annotations(kind, keys={"event": "e", "api": "old"}, kafka=kafka("old"))
    assert before != annotations(kind, keys={"event": "e", "api": "new"}, kafka=kafka("old"))
    assert before != annotations(kind, keys={"event": "e", "api": "old"}, kafka=kafka("new"))


def test_annotations_of_pods_and_services_are_there() -> None:
    """Annotations of the values are added to the checksum, on the right workload only."""
    engine = pods("full")["demo-stepstream-engine"]["metadata"]["annotations"]
    assert engine == {"checksum/secrets": engine["checksum/secrets"], "example.com/team": "flights"}
    shop = pods("full")["demo-stepstream-worker-shop"]["metadata"]["annotations"]
    assert shop == {"checksum/secrets": engine["checksum/secrets"], "example.com/team": "shop"}
    assert set(pods("full")["demo-stepstream-worker-flights"]["metadata"]["annotations"]) == {"checksum/secrets"}
    service = only("full", "Service", "-engine")
    assert service["metadata"]["annotations"] == {"example.com/internal": "true"}
    assert service["spec"]["type"] == "LoadBalancer"
    assert "annotations" not in only("plain", "Service", "-engine")["metadata"]


def test_an_engine_has_what_the_values_say() -> None:
    """Its extra variables, volumes and standby come; sources are a file that is mounted."""
    pod = pods("full")["demo-stepstream-engine"]
    settings = settings_from({**env_of(pod), "STEPSTREAM_EVENT_KEY": "e", "STEPSTREAM_API_KEY": "a"})
    assert settings.standby
    assert settings.kept_runs == Retention(30 * DAY_MS, 20_000_000_000)
    assert env_of(pod)["TZ"] == "UTC"
    assert str(settings.sources) == "/etc/sources/sources.toml"
    assert {"name": "sources", "configMap": {"name": "my-sources"}} in pod["spec"]["volumes"]
    mount = {"name": "sources", "mountPath": "/etc/sources", "readOnly": True}
    assert mount in container(pod)["volumeMounts"]
    plain = env_of(pods("plain")["demo-stepstream-engine"])
    assert not settings_from({**plain, "STEPSTREAM_HOST": ""}).standby
    assert "STEPSTREAM_SOURCES" not in plain
    assert settings_from({**plain, "STEPSTREAM_HOST": ""}).kept_runs == Retention()


def test_engines_share_a_read_model_by_a_secret() -> None:
    """The URL has a password, so it comes from an existing secret; workers do not need it."""
    found = rendered(engine={"readModel": {"existingSecret": "runs"}}, workers={"a": POOL})
    variables = {each["name"]: each for each in container(the(found, "StatefulSet")["spec"]["template"])["env"]}
    source = variables["STEPSTREAM_READ_MODEL"]["valueFrom"]
    assert source == {"secretKeyRef": {"name": "runs", "key": "url"}}
    assert "STEPSTREAM_READ_MODEL" not in str(the(found, "Deployment"))
    assert "STEPSTREAM_READ_MODEL" not in str(pods("full"))


def gateway_env(found: Sequence[Manifest]) -> dict[str, Any]:
    """Return the variables of gateways, by name."""
    pod = the(list(found), "Deployment", "-gateway")["spec"]["template"]
    return {each["name"]: each.get("value", each.get("valueFrom")) for each in container(pod)["env"]}


def test_gateways_have_what_the_values_say() -> None:
    """Where apps may be, where workers connect, and the keys; the list of runs may be that of the engines."""
    env = gateway_env(render(ci_values("full")))
    assert (env["STEPSTREAM_ALLOW_HOSTS"], env["TZ"]) == ("*.svc.cluster.local,10.0.0.0/8", "UTC")
    assert env["STEPSTREAM_PEER_URL"] == "http://$(POD_IP):8288"
    assert env["POD_IP"] == {"fieldRef": {"fieldPath": "status.podIP"}}
    assert env["STEPSTREAM_CONNECT_URL"] == "wss://connect.example.com/v0/connect"
    assert env["STEPSTREAM_SIGNING_KEY"] == {"secretKeyRef": {"name": "my-keys", "key": "signing"}}
    fallback = {"name": "my-keys", "key": "signing-fallback", "optional": True}
    assert env["STEPSTREAM_SIGNING_KEY_FALLBACK"] == {"secretKeyRef": fallback}
    assert "STEPSTREAM_READ_MODEL" not in env
    shared = rendered(engine={"readModel": {"existingSecret": "runs"}}, **GATEWAY)
    assert gateway_env(shared)["STEPSTREAM_READ_MODEL"] == {"secretKeyRef": {"name": "runs", "key": "url"}}
    assert "STEPSTREAM_SIGNING_KEY_FALLBACK" not in gateway_env(shared)
    assert the(shared, "Secret", "-keys")["stringData"] == GATEWAY["keys"]


@pytest.mark.parametrize(
    ("keys", "reason"),
    [({}, "gateways need keys.signing"), ({"signing": "secret"}, "signing"), ({"signing": "signkey-a-abc"}, "signing")],
)
def test_gateways_need_a_signing_key(keys: dict[str, str], reason: str) -> None:
    """Without one, or with one that SDKs do not take, the chart is refused."""
    with pytest.raises(RefusedError, match=reason):
        rendered(gateway={"enabled": True}, keys=PLAIN["keys"] | keys)


def test_gateways_admit_apps_and_reach_them() -> None:
    """By default those are any pods of the namespace, and any address; gateways always admit one another."""
    found = policies(rendered(**GATEWAY))["gateway"]
    (rule,) = found["ingress"]
    assert [port["port"] for port in rule["ports"]] == ["http", "connect"]
    gateways = [{"podSelector": {"matchLabels": GATEWAY_LABELS}}]
    assert rule["from"] == [{"podSelector": {}}, *gateways]
    assert found["egress"][2:] == [{}]
    assert GATEWAY_LABELS.items() <= pods("full")["demo-stepstream-gateway"]["metadata"]["labels"].items()
    values, full = ci_values("full")["networkPolicy"], policies(render(ci_values("full")))["gateway"]
    assert full["ingress"][0]["from"] == values["gateway"] + gateways + values["metrics"]
    assert full["egress"][2:] == values["gatewayEgress"]


def test_a_pool_has_volumes_of_its_own() -> None:
    """Extra volumes are those of the pool, or of all pools by the defaults; what is mounted is there."""
    for name in ("plain", "full"):
        for pod in pods(name).values():
            there = {each["name"] for each in pod["spec"]["volumes"]} | {"data"}
            assert {each["name"] for each in container(pod)["volumeMounts"]} <= there
    with_models = {at for at, pod in pods("full").items() if "models" in str(pod["spec"]["volumes"])}
    assert with_models == {"demo-stepstream-worker-shop"}
    defaults = {
        "extraVolumes": [{"name": "x", "emptyDir": {}}],
        "extraVolumeMounts": [{"name": "x", "mountPath": "/x"}],
    }
    worker = container(the(rendered(workerDefaults=defaults), "Deployment")["spec"]["template"])
    assert {"name": "x", "mountPath": "/x"} in worker["volumeMounts"]


@pytest.mark.parametrize("name", ["plain", "full"])
def test_services_set_no_variables(name: str) -> None:
    """Kubernetes sets no variables for the services of the namespace, which could look like settings."""
    assert all(pod["spec"]["enableServiceLinks"] is False for pod in pods(name).values())


@pytest.mark.parametrize(
    ("scaling", "reason"),
    [
        ({"min": 5, "max": 2}, "workers.a.scaling.min is 5, more than scaling.max, 2"),
        ({"min": 9}, "workers.a.scaling.min is 9, more than scaling.max, 8"),
        ({"max": 9}, "workers.a.scaling.max is 9, but only as many workers as shards, 8"),
        ({"min": 0, "max": 0}, "max"),
    ],
)
def test_bounds_that_cannot_be_are_refused(scaling: dict[str, int], reason: str) -> None:
    """A pool scales between valid bounds, up to the number of shards; without scaling they are ignored."""
    with pytest.raises(RefusedError, match=reason):
        rendered(workers={"a": POOL | {"scaling": BY_LAG | scaling}})
    if scaling.get("max") != 0:
        assert rendered(workers={"a": POOL | {"scaling": scaling}})


def test_scaling_by_lag_is_chosen() -> None:
    """The lag counts commands that wait for a shard, which more workers do not help; so it is not the default."""
    with pytest.raises(RefusedError, match=r"workers\.a\.scaling has no prometheus"):
        rendered(workers={"a": POOL | {"scaling": {"enabled": True}}})
    for scaling, kind in ((BY_LAG, "kafka"), ({"enabled": True, "prometheus": "http://p:9090"}, "prometheus")):
        (trigger,) = the(rendered(workers={"a": POOL | {"scaling": scaling}}), "ScaledObject")["spec"]["triggers"]
        assert trigger["type"] == kind


def test_bounds_that_can_be_are_taken() -> None:
    """Bounds may be equal, and the most is the number of shards."""
    for scaling, expected in (({"min": 8}, (8, 8)), ({"min": 2, "max": 2}, (2, 2)), ({"min": 0, "max": 8}, (0, 8))):
        spec = the(rendered(workers={"a": POOL | {"scaling": BY_LAG | scaling}}), "ScaledObject")["spec"]
        assert (spec["minReplicaCount"], spec["maxReplicaCount"]) == expected


@pytest.mark.parametrize("override", [{}, {"nameOverride": "flow"}, {"fullnameOverride": "f" * 40}])
def test_the_alert_of_what_is_down_knows_the_release(override: dict[str, str]) -> None:
    """Under any release name StepstreamDown watches the jobs of its services, which have the same names."""
    found = rendered(monitoring={"prometheusRule": True}, **GATEWAY, **override)
    rules = [rule for group in the(found, "PrometheusRule")["spec"]["groups"] for rule in group["rules"]]
    (down,) = [rule["expr"] for rule in rules if rule["alert"] == "StepstreamDown"]
    expected = re.fullmatch(r'up\{job=~"(.*)"\} == 0', down)
    assert expected
    scraped = [
        each for each in found if each["kind"] == "Service" and "stepstream.scrape" in each["metadata"]["labels"]
    ]
    assert len(scraped) == 3
    assert all(re.fullmatch(expected[1], each["metadata"]["name"]) for each in scraped)
    assert not re.fullmatch(expected[1], "other-stepstream-engine")


def policies(found: Sequence[Manifest]) -> dict[str, Manifest]:
    """Return the specifications of the network policies, by the end of their names."""
    kinds = [each for each in found if each["kind"] == "NetworkPolicy"]
    return {each["metadata"]["name"].removeprefix("demo-stepstream-"): each["spec"] for each in kinds}


def test_a_network_policy_admits_the_named_peers() -> None:
    """Engines admit the peers of the API and of the metrics, workers those of the metrics, the job none."""
    values = ci_values("full")["networkPolicy"]
    found = policies(render(ci_values("full")))
    assert {f"demo-stepstream-{name}" for name in found} == pods("full").keys()
    for at, pod in pods("full").items():
        spec = found[at.removeprefix("demo-stepstream-")]
        assert spec["podSelector"]["matchLabels"].items() <= pod["metadata"]["labels"].items()
        assert spec["policyTypes"] == ["Ingress", "Egress"]
        if at.endswith("-topics"):
            assert "ingress" not in spec
            continue
        if at.endswith("-gateway"):
            continue
        (rule,) = spec["ingress"]
        peers = values["api"] + values["metrics"] if at.endswith("-engine") else values["metrics"]
        assert rule["from"] == peers
        # The kubelet reaches the port of its probes without a rule.
        assert [port["port"] for port in rule["ports"]] == [container(pod)["ports"][0]["name"]]


def test_a_network_policy_lets_pods_reach_kafka_and_names() -> None:
    """Each pod reaches name servers and the brokers' ports, and what the values add; the job reaches nothing else."""
    values = ci_values("full")["networkPolicy"]
    for name, spec in policies(render(ci_values("full"))).items():
        names, kafka, *more = spec["egress"]
        assert names == {"ports": [{"port": 53, "protocol": "UDP"}, {"port": 53, "protocol": "TCP"}]}
        assert kafka["to"] == values["kafka"]
        assert [port["port"] for port in kafka["ports"]] == [9093, 9094]
        added = {"engine": values["engineEgress"], "gateway": values["gatewayEgress"], "topics": []}
        assert more == added.get(name, values["workerEgress"])


def test_the_network_is_restricted_by_default() -> None:
    """Pods of the namespace are admitted; engines reach Kafka only, and the code of workers everything."""
    found = policies(rendered())
    for name in ("engine", "worker-flights"):
        assert found[name]["ingress"][0]["from"] == [{"podSelector": {}}]
    assert found["engine"]["egress"][1:] == [{"ports": [{"port": 9092, "protocol": "TCP"}]}]
    assert found["worker-flights"]["egress"][2:] == [{}]
    assert not policies(rendered(networkPolicy={"enabled": False}))
