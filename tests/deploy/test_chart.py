"""The Helm chart, rendered by Helm's own engine: valid for Kubernetes and its operators, and consistent."""

import json
from typing import Any

import kubernetes_validate
import pytest
from cloudcoil.models.keda.v1alpha1 import ScaledObject, TriggerAuthentication
from cloudcoil.models.prometheus_operator.v1 import PrometheusRule, ServiceMonitor

from stepstream.contract.text.names import workers_name
from stepstream.contract.topics import commands_topic
from stepstream.host.settings import settings_from
from stepstream.runtime.kafka.client.cluster import Cluster
from stepstream.runtime.kafka.client.settings import KafkaSettings
from stepstream.runtime.kafka.workers.worker_log import KafkaWorkerLog
from tests.deploy.chart import CHART, RefusedError, ask_helm, ci_values, container, only, pods, render, rendered
from tests.tidy_rules import ROOT

CI = sorted(path.name.removesuffix("-values.yaml") for path in CHART.glob("ci/*.yaml"))
KUBERNETES = ("1.27", "1.37")
# The parameters of KEDA's kafka scaler that the chart sets, as its documentation (2.22) spells them; its definition
# accepts any name.
KEDA_KAFKA = {
    "bootstrapServers",
    "consumerGroup",
    "topic",
    "lagThreshold",
    "activationLagThreshold",
    "offsetResetPolicy",
    "allowIdleConsumers",
    "sasl",
    "tls",
}
OPERATORS: dict[str, Any] = {
    "ScaledObject": ScaledObject,
    "TriggerAuthentication": TriggerAuthentication,
    "ServiceMonitor": ServiceMonitor,
    "PrometheusRule": PrometheusRule,
}


def test_there_are_values_for_the_least_and_for_all() -> None:
    """Between them the values in ci/ render each kind that the chart can make."""
    kinds = {each["kind"] for name in CI for each in rendered(name)}
    core = {
        "StatefulSet",
        "Deployment",
        "Job",
        "Service",
        "Secret",
        "ConfigMap",
        "PodDisruptionBudget",
        "NetworkPolicy",
    }
    assert kinds == core | OPERATORS.keys()
    assert not {each["kind"] for each in rendered("plain")} & OPERATORS.keys()


@pytest.mark.parametrize("version", KUBERNETES)
@pytest.mark.parametrize("name", CI)
def test_kubernetes_takes_every_resource(name: str, version: str) -> None:
    """Each resource is valid by the schemas of the oldest and the newest Kubernetes, with no field unknown to them."""
    core = [each for each in rendered(name) if each["kind"] not in OPERATORS]
    assert len(core) >= 8
    for manifest in core:
        kubernetes_validate.validate(manifest, version, strict=True)


def test_operators_take_every_resource() -> None:
    """The resources of KEDA and of Prometheus' operator are valid by their definitions, and lose no field."""
    found = [each for each in rendered("full") if each["kind"] in OPERATORS]
    assert {each["kind"] for each in found} == OPERATORS.keys()
    for manifest in found:
        model = OPERATORS[manifest["kind"]].model_validate(manifest)
        assert json.loads(model.model_dump_json(by_alias=True, exclude_unset=True)) == manifest


@pytest.mark.parametrize("name", CI)
def test_helm_finds_nothing_wrong(name: str) -> None:
    """Helm's linter has no warning and no error."""
    report = ask_helm(ci_values(name), "lint")
    assert report["total_charts_linted"] == 1
    assert not report["errors"]
    assert not [message for message in report["messages"] if message["severity"] > 1]


@pytest.mark.parametrize("name", CI)
def test_names_are_taken_once(name: str) -> None:
    """No two resources of a kind have one name."""
    names = [(each["kind"], each["metadata"]["name"]) for each in rendered(name)]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"keys": {}}, "set keys.existingSecret, or both keys.event and keys.api"),
        ({"keys": {"event": "only"}}, "set keys.existingSecret, or both keys.event and keys.api"),
        ({"kafka": {"bootstrap": "b:1", "securityProtocol": "SASL_SSL"}}, "kafka.sasl.existingSecret"),
        ({"kafka": {"bootstrap": "no-port"}}, "bootstrap"),
        ({"shards": 0}, "shards"),
        ({"engin": {}}, "engin"),
        (
            {"workers": {"Bad_Name": {"app": "a", "file": "/a.py", "image": {"repository": "r", "tag": "t"}}}},
            "Bad_Name",
        ),
        ({"workers": {"a": {"app": "a", "file": "/a.py"}}}, "image"),
        ({"workerDefaults": {"terminationGracePeriodSeconds": 10}}, "terminationGracePeriodSeconds"),
    ],
)
def test_wrong_values_are_refused_with_the_reason(changes: dict[str, Any], reason: str) -> None:
    """Helm renders nothing if a key is missing or a value is invalid; the message names it."""
    with pytest.raises(RefusedError, match=reason):
        render(ci_values("plain") | changes)


@pytest.mark.parametrize("name", CI)
def test_what_selects_finds(name: str) -> None:
    """Each service, budget and workload selects exactly the pods that it is for, and each named port is there."""
    labels = {at: pod["metadata"]["labels"] for at, pod in pods(name).items()}
    for manifest in rendered(name):
        spec = manifest.get("spec", {})
        if manifest["kind"] not in ("Service", "PodDisruptionBudget", "StatefulSet", "Deployment"):
            continue
        expected = spec["selector"] if manifest["kind"] == "Service" else spec["selector"]["matchLabels"]
        found = [at for at, has in labels.items() if expected.items() <= has.items()]
        assert found == [manifest["metadata"]["name"].removesuffix("-pods")]
        if manifest["kind"] == "Service":
            ports = {port["name"] for port in container(pods(name)[found[0]])["ports"]}
            assert {port["targetPort"] for port in spec["ports"]} <= ports


@pytest.mark.parametrize("name", CI)
def test_secrets_are_there_when_they_are_read(name: str) -> None:
    """A pod reads secrets of the chart, or those that the values name; the job, which is a hook, not the former."""
    values = ci_values(name)
    kafka = values.get("kafka", {})
    given = {values["keys"].get("existingSecret"), kafka.get("tls", {}).get("existingSecret")}
    secrets = {each["metadata"]["name"]: each for each in rendered(name) if each["kind"] == "Secret"}
    hooks = {at for at, each in secrets.items() if "helm.sh/hook" in each["metadata"].get("annotations", {})}
    for at, pod in pods(name).items():
        reads = {env["valueFrom"]["secretKeyRef"]["name"] for env in secret_env(pod)}
        reads |= {each["secret"]["secretName"] for each in pod["spec"]["volumes"] if "secret" in each}
        there = hooks if at.endswith("-topics") else secrets.keys() - hooks
        assert reads <= there | given, f"{at} reads {reads}"
        for env in secret_env(pod):
            reference = env["valueFrom"]["secretKeyRef"]
            if reference["name"] in secrets:
                assert reference["key"] in secrets[reference["name"]]["stringData"]


def secret_env(pod: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the variables of a pod that come from secrets."""
    return [env for env in container(pod)["env"] if "secretKeyRef" in env.get("valueFrom", {})]


@pytest.mark.parametrize("name", CI)
def test_pods_may_do_little(name: str) -> None:
    """No pod runs as root, writes to its image, gains rights, or has a token for Kubernetes."""
    for pod in pods(name).values():
        spec, rights = pod["spec"], container(pod)["securityContext"]
        assert spec["automountServiceAccountToken"] is False
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert rights["readOnlyRootFilesystem"] is True
        assert rights["allowPrivilegeEscalation"] is False
        assert rights["capabilities"] == {"drop": ["ALL"]}


@pytest.mark.parametrize("name", CI)
def test_probes_ask_what_they_are_for(name: str) -> None:
    """Traffic depends on /ready, and restarts on /health only: else an engine that recovers would be killed."""
    served = {at: container(pod) for at, pod in pods(name).items() if not at.endswith("-topics")}
    assert len(served) >= 2
    for each in served.values():
        *_, port = [port["name"] for port in each["ports"]]
        asked = {kind: each[f"{kind}Probe"]["httpGet"] for kind in ("startup", "liveness", "readiness")}
        assert {kind: get["path"] for kind, get in asked.items()} == {
            "startup": "/health",
            "liveness": "/health",
            "readiness": "/ready",
        }
        assert {get["port"] for get in asked.values()} == {port}


@pytest.mark.parametrize("name", CI)
def test_an_engine_keeps_its_disk_and_its_name(name: str) -> None:
    """A StatefulSet with a volume for each pod; the instance is the pod's name, so that its shards wait for it."""
    engine = only(name, "StatefulSet")
    (claim,) = engine["spec"]["volumeClaimTemplates"]
    pod = container(engine["spec"]["template"])
    mounts = {mount["name"]: mount["mountPath"] for mount in pod["volumeMounts"]}
    env = {each["name"]: each for each in pod["env"]}
    assert mounts[claim["metadata"]["name"]] == env["STEPSTREAM_DATA_DIR"]["value"]
    assert env["STEPSTREAM_INSTANCE"]["valueFrom"] == {"fieldRef": {"fieldPath": "metadata.name"}}
    assert engine["spec"]["podManagementPolicy"] == "Parallel"
    assert only(name, "PodDisruptionBudget", "-engine")["spec"]["maxUnavailable"] == 1


def test_evictions_leave_workers_of_each_pool() -> None:
    """Each pool has a budget, so that a drain of several nodes does not stop all of its workers at once."""
    budgets = {
        each["metadata"]["name"].removeprefix("demo-stepstream-"): each["spec"]["maxUnavailable"]
        for each in rendered("full")
        if each["kind"] == "PodDisruptionBudget"
    }
    assert budgets == {"engine": 1, "gateway": 2, "worker-flights": 1, "worker-shop": 1, "worker-shop-gpu": "50%"}


@pytest.mark.parametrize("name", CI)
def test_a_worker_has_time_to_drain(name: str) -> None:
    """Kubernetes waits longer than a worker waits for its running steps, or a gateway for its calls."""
    workers = [pod for at, pod in pods(name).items() if "-worker-" in at or at.endswith("-gateway")]
    assert len(workers) == {"plain": 1, "full": 4}[name]
    for pod in workers:
        env = {each["name"]: each.get("value", "") for each in pod["spec"]["containers"][0]["env"]}
        assert (
            settings_from({"STEPSTREAM_DRAIN_S": env["STEPSTREAM_DRAIN_S"]}).drain_s
            == pod["spec"]["terminationGracePeriodSeconds"] - 15
            > 0
        )


def test_a_pool_of_a_queue_runs_its_steps() -> None:
    """Its workers get the queue and the concurrency as options, and its topic is created with the others."""
    worker = pods("full")["demo-stepstream-worker-shop-gpu"]["spec"]["containers"][0]
    assert worker["args"] == ["worker", "/app/shop.py:app", "--queue", "gpu", "--concurrency", "1"]
    other = pods("full")["demo-stepstream-worker-shop"]["spec"]["containers"][0]
    assert other["args"] == ["worker", "/app/shop.py:app"]
    apply = only("full", "Job")["spec"]["template"]["spec"]["containers"][0]["args"]
    assert {"My_Shop", "My_Shop.gpu", "flights"} <= set(apply)


def test_workers_scale_on_the_lag_of_their_own_group() -> None:
    """KEDA looks at the group and the topic that the worker really uses, within the namespace, with its credentials."""
    values = ci_values("full")
    settings = KafkaSettings(namespace=values["namespace"])
    by_lag = {
        pool: worker for pool, worker in values["workers"].items() if "prometheus" not in worker.get("scaling", {})
    }
    assert by_lag.keys() == {"flights", "shop"}
    for pool, worker in by_lag.items():
        scaled = only("full", "ScaledObject", f"-{pool}")
        (trigger,) = scaled["spec"]["triggers"]
        workers, metadata = workers_name(worker["app"], worker.get("queue", "")), trigger["metadata"]
        assert metadata.keys() == KEDA_KAFKA
        log = KafkaWorkerLog(Cluster(settings), workers, values["shards"])
        assert metadata["consumerGroup"] == settings.name(log._group)
        assert metadata["topic"] == settings.name(commands_topic(workers))
        assert metadata["bootstrapServers"] == values["kafka"]["bootstrap"]
        assert (metadata["sasl"], metadata["tls"]) == ("scram_sha512", "enable")
        target = only("full", "Deployment", f"-{pool}")
        assert scaled["spec"]["scaleTargetRef"]["name"] == target["metadata"]["name"]
        assert "replicas" not in target["spec"], "each upgrade would undo what KEDA did"
        assert scaled["spec"]["maxReplicaCount"] <= values["shards"]
        authentication = only("full", "TriggerAuthentication", f"-{pool}")
        assert trigger["authenticationRef"]["name"] == authentication["metadata"]["name"]
        parameters = {each["parameter"] for each in authentication["spec"]["secretTargetRef"]}
        assert parameters == {"username", "password", "ca", "cert", "key"}


def test_prometheus_finds_every_process() -> None:
    """The ServiceMonitor selects one service for engines, gateways and each pool, by a port that they have."""
    monitor = only("full", "ServiceMonitor")["spec"]
    expected = monitor["selector"]["matchLabels"].items()
    services = [each for each in rendered("full") if each["kind"] == "Service"]
    found = [each for each in services if expected <= each["metadata"]["labels"].items()]
    ends = sorted(each["metadata"]["name"].removeprefix("demo-stepstream-") for each in found)
    assert ends == ["engine", "gateway", "worker-flights", "worker-shop", "worker-shop-gpu"]
    (endpoint,) = monitor["endpoints"]
    assert all(endpoint["port"] in {port["name"] for port in each["spec"]["ports"]} for each in found)
    assert endpoint["authorization"]["credentials"] == {"name": "my-keys", "key": "api"}


def test_rules_and_dashboard_are_those_of_the_repository() -> None:
    """The chart carries deploy/prometheus/alerts.yml and deploy/grafana/dashboard.json as they are."""
    rules = only("full", "PrometheusRule")["spec"]
    assert len(rules["groups"]) == 4
    assert "{{ $labels.shard }}" in rules["groups"][0]["rules"][0]["annotations"]["summary"]
    dashboard = only("full", "ConfigMap")["data"]["stepstream.json"]
    assert json.loads(dashboard) == json.loads((ROOT / "deploy/grafana/dashboard.json").read_text("utf-8"))


def test_apps_reach_gateways_by_one_service() -> None:
    """It has the port for requests and the one for workers; gateways need no disk that outlives them."""
    service, pod = only("full", "Service", "-gateway")["spec"], pods("full")["demo-stepstream-gateway"]
    assert [(each["port"], each["targetPort"]) for each in service["ports"]] == [(8288, "http"), (8289, "connect")]
    ports = {each["name"]: each["containerPort"] for each in container(pod)["ports"]}
    assert ports == {"http": 8288, "connect": 8289, "probes": 8290}
    mounts = {each["name"]: each["mountPath"] for each in container(pod)["volumeMounts"]}
    env = {each["name"]: each.get("value") for each in container(pod)["env"]}
    assert mounts["data"] == env["STEPSTREAM_DATA_DIR"]
    assert {"name": "data", "emptyDir": {"sizeLimit": "5Gi"}} in pod["spec"]["volumes"]
    assert not [at for at in pods("plain") if at.endswith("-gateway")]


def test_topics_are_made_before_anything_needs_them() -> None:
    """The job runs before an install and an upgrade, after the secret that it reads."""
    job = only("full", "Job")["metadata"]["annotations"]
    secret = only("full", "Secret", "-topics-sasl")["metadata"]["annotations"]
    assert job["helm.sh/hook"] == secret["helm.sh/hook"] == "pre-install,pre-upgrade"
    assert int(secret["helm.sh/hook-weight"]) < int(job["helm.sh/hook-weight"])
    assert not [each for each in render(ci_values("plain") | {"topics": {"apply": False}}) if each["kind"] == "Job"]
