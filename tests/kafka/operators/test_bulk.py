"""A bulk operation on real Kafka: the engines are killed while it runs, and each run is rerun once.

`make test-long` reruns 500 runs. This command reruns as many as an operation has by default, which takes longer:

    BULK_RUNS=10000 python -m pytest tests/kafka/operators/test_bulk.py
"""

import asyncio
import functools
import json
import os
from collections import Counter
from pathlib import Path

import httpx
import pytest

from stepstream.contract.history import RunBegan, RunEnded
from stepstream.contract.topics import EVENTS
from stepstream.runtime.kafka.client.cluster import Cluster
from stepstream.runtime.kafka.client.settings import KafkaSettings
from stepstream.runtime.ports import NewRecord
from tests.kafka.cluster.fleet import Fleet, Member
from tests.kafka.cluster.history import Ledger, until_registered
from tests.kafka.cluster.observed import Observed
from tests.polling import until

pytestmark = [pytest.mark.kafka, pytest.mark.long, pytest.mark.alone]
APP = Path(__file__).with_name("bulk_app.py")
SHARDS, RUNS = 4, int(os.environ.get("BULK_RUNS", "500"))
# The operation takes at least 100 s, in which the engines are killed.
RATE = max(RUNS // 100, 5)
END_S_MAX = max(180.0, RUNS / 10)


async def go(cluster: Cluster) -> None:
    """Start all runs."""
    producer = await cluster.producer()
    events = [json.dumps({"name": "bulk/go", "id": f"go-{n}", "data": {"n": n}}).encode() for n in range(RUNS)]
    await producer.send([NewRecord(EVENTS, -1, b"%d" % n, event) for n, event in enumerate(events)])
    await producer.close()


def ask(observed: Observed, engine: Member, path: str) -> dict[str, object]:
    """Return the answer of an engine, empty if it does not answer."""
    try:
        answer = observed.client.get(observed.url(engine) + path)
    except (httpx.TransportError, httpx.UnsupportedProtocol):
        return {}
    found: dict[str, object] = answer.json() if answer.is_success else {}
    return found


def failed_runs(observed: Observed, engine: Member) -> object:
    """Return how many failed runs an engine lists."""
    functions = ask(observed, engine, "/v1/counts").get("functions")
    return functions.get("work", {}).get("failed") if isinstance(functions, dict) else None


def sent(observed: Observed) -> object:
    """Return to how many runs the operation has sent its request, as the first engine lists it."""
    return ask(observed, observed.engines[0], "/v1/bulk/repair").get("sent", 0)


def kill_in_turn(observed: Observed) -> None:
    """Kill the engines in turn while the operation runs, and wait each time until it has continued."""
    for engine in (*observed.engines, observed.engines[0]):
        before = sent(observed)
        engine.kill()
        engine.start()
        until(functools.partial(has_continued, observed, before))
        assert ask(observed, observed.engines[0], "/v1/bulk/repair")["state"] == "running", "it ended before the kills"


def has_continued(observed: Observed, before: object) -> bool:
    """Return whether all engines are ready, and the operation has sent more than before."""
    return all(is_ready(observed, engine) for engine in observed.engines) and sent(observed) not in (0, before)


def is_ready(observed: Observed, engine: Member) -> bool:
    """Return whether an engine serves all of its shards."""
    try:
        return observed.client.get(f"{observed.url(engine)}/ready").is_success
    except (httpx.TransportError, httpx.UnsupportedProtocol):
        return False


async def rerun_while_engines_are_killed(fleet: Fleet, observed: Observed, broken: Path) -> None:
    """Let all runs fail, rerun them by one operation while engines are killed, and judge the histories."""
    cluster = Cluster(KafkaSettings(fleet.bootstrap, fleet.namespace))
    ledger = Ledger(cluster)
    await until_registered(cluster, SHARDS)
    await go(cluster)
    await ledger.until_ended(RUNS, END_S_MAX)
    engine = fleet.engines[0]
    await asyncio.to_thread(until, lambda: failed_runs(observed, engine) == RUNS)
    await asyncio.to_thread(broken.unlink)
    body = {"action": "rerun", "filter": "status:failed", "from_failure": True, "rate": RATE, "request_id": "repair"}
    url = f"{observed.url(engine)}/v1/bulk"
    started = await asyncio.to_thread(observed.client.post, url, json=body, timeout=END_S_MAX)
    assert (started.status_code, started.json()["count"]) == (202, RUNS), started.text
    await asyncio.to_thread(kill_in_turn, observed)
    await ledger.until_ended(2 * RUNS, END_S_MAX)
    await asyncio.to_thread(until, lambda: ask(observed, engine, "/v1/bulk/repair").get("state") == "completed")
    shown = ask(observed, engine, "/v1/bulk/repair")
    assert (shown["total"], shown["outcomes"]) == (RUNS, {"started": RUNS})
    await ledger.catch_up()
    await ledger.close()
    began = [entry for entries in ledger.runs.values() for entry in entries if isinstance(entry, RunBegan)]
    ends = Counter(entry.status for entries in ledger.runs.values() for entry in entries if isinstance(entry, RunEnded))
    origins = Counter(entry.rerun.origin for entry in began if entry.rerun)
    first = {entry.run_id for entry in began if not entry.rerun}
    assert origins == Counter(first), "each failed run is rerun exactly once"
    assert ends == {"failed": RUNS, "completed": RUNS}


def test_engines_that_are_killed_rerun_each_run_once(bootstrap: str, tmp_path: Path) -> None:
    """Failed runs are rerun by one operation, during which the engines are killed three times."""
    broken = tmp_path / "broken"
    broken.touch()
    with Fleet(bootstrap, "bulk", tmp_path, APP, variables={"BULK_BROKEN": str(broken)}) as fleet:
        fleet.command("topics", "apply", "--shards", str(SHARDS), "--app", "bulk")
        fleet.add_engine()
        fleet.add_engine()
        fleet.add_worker()
        with Observed(fleet) as observed:
            asyncio.run(rerun_while_engines_are_killed(fleet, observed, broken))
        charged = Counter(fleet.effects.read_text().split())
        assert set(charged) == {str(n) for n in range(RUNS)}
