"""What the commands for Kafka share: the cluster that they use, and how their code is run."""

import sys
from collections.abc import Coroutine
from typing import Any

from stepstream.cli.terminal.console import EXIT_UNREACHABLE, fail
from stepstream.host.settings import kafka_settings_from
from stepstream.runtime.kafka.client.cluster import Cluster
from stepstream.runtime.ports import LogError

if sys.platform == "win32":
    import asyncio as runner
else:
    import uvloop as runner


def run(code: Coroutine[Any, Any, Any]) -> Any:
    """Run a command's code and return what it returns; end the command with 3 if Kafka cannot be reached."""
    try:
        return runner.run(code)
    except LogError as error:
        message = f"{error}; check that Kafka is running at --kafka or STEPSTREAM_KAFKA_BOOTSTRAP"
        raise fail(message, EXIT_UNREACHABLE) from None


def cluster_of(kafka: str | None, namespace: str | None) -> Cluster:
    """Return the cluster that the options and the environment name."""
    return Cluster(kafka_settings_from(bootstrap=kafka, namespace=namespace))
