"""Agents with parallel tools run and stream while engines and workers are killed: exact calls, each message once."""

import asyncio
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from stepstream.runtime.kafka.client.cluster import Cluster
from stepstream.runtime.kafka.client.settings import KafkaSettings
from tests.kafka.chaos.agents import SHARDS, observe
from tests.kafka.cluster.fleet import APPS, Fleet, Member

pytestmark = [pytest.mark.kafka, pytest.mark.long, pytest.mark.alone]


def kills(fleet: Fleet) -> Iterator[Sequence[Member]]:
    """Yield the worker, an engine, and all of them."""
    yield fleet.workers
    yield fleet.engines[:1]
    yield fleet.members


def test_agents_run_and_stream_while_processes_are_killed(bootstrap: str, tmp_path: Path) -> None:
    """Only calls of killed workers are repeated, each once, and clients that were cut off show the text once."""
    with Fleet(bootstrap, "agents", tmp_path, APPS / "chaos/agents_app.py") as fleet:
        fleet.command("topics", "apply", "--shards", str(SHARDS), "--app", "agents")
        assert asyncio.run(observe(fleet, Cluster(KafkaSettings(bootstrap, "agents")), kills)) == []
