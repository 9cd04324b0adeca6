"""The topics of the contract as commands of `kafka-topics.sh` and as resources of Strimzi."""

import hashlib
import re
import shlex
from collections.abc import Mapping

import yaml

from stepstream.runtime.kafka.client.settings import KafkaSettings
from stepstream.runtime.kafka.topics.layout import TopicSpec

_NAME_CHARACTERS_MAX = 253
_DIGEST_CHARACTERS = 8


def render_commands(settings: KafkaSettings, topics: Mapping[str, TopicSpec], replicas: int) -> str:
    """Return a shell command of `kafka-topics.sh` for each topic, one per line."""
    lines = []
    for name, spec in topics.items():
        words = ["kafka-topics.sh", "--bootstrap-server", settings.bootstrap, "--create", "--if-not-exists"]
        words += ["--topic", settings.name(name), "--partitions", str(spec.partitions)]
        words += ["--replication-factor", str(replicas)]
        for key, value in spec.config_on(replicas).items():
            words += ["--config", f"{key}={value}"]
        lines.append(shlex.join(words))
    return "\n".join(lines) + "\n"


def render_strimzi(settings: KafkaSettings, topics: Mapping[str, TopicSpec], replicas: int, cluster: str) -> str:
    """Return a KafkaTopic resource for each topic, for the Strimzi cluster of this name."""
    documents = []
    for name, spec in topics.items():
        topic = settings.name(name)
        config = {key: int(value) if _is_number(value) else value for key, value in spec.config_on(replicas).items()}
        documents.append(
            {
                "apiVersion": "kafka.strimzi.io/v1",
                "kind": "KafkaTopic",
                "metadata": {"name": _resource_name(topic), "labels": {"strimzi.io/cluster": cluster}},
                "spec": {"topicName": topic, "partitions": spec.partitions, "replicas": replicas, "config": config},
            }
        )
    return yaml.safe_dump_all(documents, sort_keys=False, explicit_start=True)


def _is_number(value: str) -> bool:
    return re.fullmatch(r"-?\d+", value) is not None


def _resource_name(topic: str) -> str:
    """Return a name that Kubernetes allows; it differs for the apps `My_Shop` and `my-shop`."""
    name = re.sub(r"[^a-z0-9.-]", "-", topic.lower()).strip("-.")
    if name == topic:
        return name
    # A digest of the original distinguishes names that become equal.
    digest = hashlib.sha256(topic.encode()).hexdigest()[:_DIGEST_CHARACTERS]
    return f"{name[: _NAME_CHARACTERS_MAX - _DIGEST_CHARACTERS - 1]}-{digest}".lstrip("-")
