"""What operators change about limits is in the topics: no kill, no move of a shard and no lost disk undoes it."""

from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.kafka.cluster.fleet import APPS, Fleet, Member
from tests.kafka.cluster.observed import Observed
from tests.polling import until

pytestmark = [pytest.mark.kafka, pytest.mark.long]
SHARDS = 4
LIMIT = "concurrency of function work by event.data.tenant"


def answer(observed: Observed, engine: Member, path: str, **parameters: str) -> dict[str, Any]:
    """Return the answer of an engine; it is empty while the engine starts."""
    url = observed.url(engine)
    try:
        found: dict[str, Any] = observed.client.get(f"{url}{path}", params=parameters).json() if url else {}
    except httpx.TransportError:
        found = {}
    return found


def changed(observed: Observed, engine: Member) -> dict[str, dict[str, Any]]:
    """Return what operators changed about the limit, by the value of the key."""
    found = answer(observed, engine, "/v1/limits", name=LIMIT)
    return {each["key"]: each["setting"] for each in found.get("changed", ())}


def in_use(observed: Observed, engine: Member, tenant: str) -> tuple[int, int, int]:
    """Return the limit of a tenant, how many runs hold it and how many wait for it."""
    limit = answer(observed, engine, f"/v1/limits/{LIMIT}", key=tenant).get("limit") or {}
    return limit.get("limit", 0), limit.get("in_use", 0), limit.get("waiting", 0)


def test_changes_of_limits_outlast_kills_moves_and_lost_disks(bootstrap: str, tmp_path: Path) -> None:
    """An engine that has none of the files of a killed one reads the numbers of each key, and they count there."""
    app = APPS / "operators" / "limits_app.py"
    with Fleet(bootstrap, "limit-changes", tmp_path, app) as fleet, Observed(fleet) as observed:
        fleet.command("topics", "apply", "--shards", str(SHARDS), "--app", "limits")
        first = fleet.add_engine()
        fleet.add_worker("--metrics-port", "0")
        until(lambda: observed.answers("/ready") == {200})
        url = observed.url(first)
        until(lambda: observed.client.get(f"{url}/v1/functions").json()["functions"])
        for tenant, limit in (("acme", "3"), ("", "2")):
            numbers = ("--key", tenant, "--limit", limit, "--why", "larger contract", "--url", url)
            fleet.command("limits", "set", LIMIT, *numbers)
        fleet.command("limits", "pause", LIMIT, "--key", "late", "--why", "unpaid", "--url", url)
        until(lambda: set(changed(observed, first)) == {"acme", "late", ""})
        before = changed(observed, first)
        first.kill()
        second = fleet.add_engine()
        until(lambda: changed(observed, second) == before)
        events = [{"name": "limits/go", "data": {"tenant": name}} for name in ("acme", "other", "late") * 4]
        sent = observed.client.post(f"{observed.url(second)}/e/dev", json=events)
        assert sent.status_code in (200, 202), sent.text
        expected = {"acme": (3, 3, 1), "other": (2, 2, 2), "late": (2, 0, 4)}
        until(lambda: {name: in_use(observed, second, name) for name in expected} == expected)
        second.kill()
        second.wipe()
        first.wipe()
        first.start()
        until(lambda: {name: in_use(observed, first, name) for name in expected} == expected)
        assert changed(observed, first) == before
        fleet.command("limits", "reset", LIMIT, "--key", "acme", "--url", observed.url(first))
        until(lambda: in_use(observed, first, "acme") == (2, 3, 1))
