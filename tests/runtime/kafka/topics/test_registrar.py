"""Which release of an app registers its functions, when several serve at once or one returns."""

import asyncio
import logging
import platform
import re
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest

from stepstream import App, Context, __version__, on
from stepstream.contract.functions import FunctionRegistered, readable_functions
from stepstream.contract.limits import RELEASES_REPLACED_MAX
from stepstream.contract.topics import FUNCTIONS
from stepstream.runtime.kafka.topics import registrar as registrar_module
from stepstream.runtime.kafka.topics.registrar import (
    GATEWAY_RELEASE,
    FunctionRegistrar,
    client_of,
    client_of_release,
    instance_of,
    shown_client,
    worker_of,
)
from stepstream.runtime.overview import RunningWorker
from stepstream.runtime.ports import LogRecord, NewRecord
from stepstream.runtime.registrations import changes, registrations, release_of, replaced_by
from stepstream.sdk.errors import DefinitionError
from tests.fakes.cluster import FakeCluster, FakeReader
from tests.fakes.waiting import iterate, until


def shop(*functions: str, name: str = "shop") -> App:
    """Return a release of an app with these functions."""
    app = App(name)

    async def handler(ctx: Context) -> None:
        """Do nothing."""

    for each in functions:
        app.function(on("go"), id=each)(handler)
    return app


OLD, NEW, OTHER = shop("a", "b"), shop("a", "c"), shop("x", name="other")


class Topic:
    """The topic `functions`, compacted."""

    def __init__(self) -> None:
        self.stored: dict[bytes, bytes] = {}

    def register(self, *apps: App) -> list[str]:
        """Append the registrations of apps; return the ids of the functions."""
        records = registrations(apps, self.stored.values())
        self.append(records)
        return [record.key.decode() for record in records]

    def append(self, records: Sequence[NewRecord]) -> None:
        """Append records; only the latest of each key stays."""
        for record in records:
            self.stored.pop(record.key, None)
            self.stored[record.key] = record.value

    @property
    def known(self) -> dict[str, FunctionRegistered]:
        """The functions by id."""
        return {record.id: record for record in readable_functions(self.stored.values())}

    @property
    def serving(self) -> set[str]:
        """Those that are not retired."""
        return {id for id, record in self.known.items() if not record.retired}


def test_release_without_functions_retires_them_all() -> None:
    """No event starts a function of an app that is taken down, and the release before counts as replaced."""
    topic = Topic()
    topic.register(OLD)
    assert topic.register(shop()) == ["a", "b"]
    assert topic.serving == set()
    assert replaced_by(OLD, topic.stored.values()) == release_of(shop())


def test_release_replaces_the_one_before() -> None:
    """All its functions have it, missing ones are retired, and registering it again changes nothing."""
    topic = Topic()
    assert topic.register(OLD, OTHER) == ["a", "b", "x"]
    assert topic.register(OLD, OTHER) == []
    assert replaced_by(OLD, topic.stored.values()) == ""
    assert topic.register(NEW) == ["a", "c", "b"]
    assert topic.serving == {"a", "c", "x"}
    assert replaced_by(OLD, topic.stored.values()) == release_of(NEW)
    assert replaced_by(NEW, topic.stored.values()) == ""
    assert {topic.known[id].replaced for id in "abc"} == {(release_of(OLD),)}


def test_rollback_is_a_release_like_any_other() -> None:
    """The newer release counts as replaced."""
    topic = Topic()
    topic.register(OLD)
    topic.register(NEW)
    topic.register(OLD)
    assert topic.serving == {"a", "b"}
    assert topic.known["a"].replaced == (release_of(NEW),)
    assert replaced_by(NEW, topic.stored.values()) == release_of(OLD)


def test_number_of_replaced_releases_is_bounded() -> None:
    """The oldest are forgotten, and would be registered like new ones."""
    topic = Topic()
    releases = [shop(f"f{number}") for number in range(RELEASES_REPLACED_MAX + 2)]
    for app in releases:
        topic.register(app)
    assert replaced_by(releases[0], topic.stored.values()) == ""
    assert replaced_by(releases[1], topic.stored.values()) == release_of(releases[-1])


def test_other_code_of_a_function_is_another_release() -> None:
    """The triggers, the code and the queues of its functions identify a release."""
    changed = App("shop")
    for each in ("a", "b"):

        async def handler(ctx: Context) -> str:
            """Do something else."""
            return "changed"

        changed.function(on("go"), id=each)(handler)
    assert release_of(OLD) == release_of(shop("b", "a"))
    assert len({release_of(OLD), release_of(NEW), release_of(changed)}) == 3


def test_instance_with_other_code_is_another_member() -> None:
    """For a static member that returns, the broker reports the client id that it had before."""
    assert instance_of(OLD, "pod-0") != instance_of(NEW, "pod-0")
    assert instance_of(OLD, "") == ""


def test_a_client_id_says_which_versions_a_worker_runs() -> None:
    """Engines show them; the id of an earlier version says less, and one of another client nothing."""
    worker = worker_of(client_of(OLD))
    assert (worker.release, worker.python) == (release_of(OLD), platform.python_version())
    assert worker.stepstream == re.sub(r"[^A-Za-z0-9._]", "_", __version__)
    assert shown_client(f"{client_of(OLD)}-7c687474703a") == client_of(OLD)
    assert shown_client("other-0123456789ab-1-3-7c68") == "other-0123456789ab-1-3-7c68"
    assert worker_of("stepstream-0123456789ab") == RunningWorker("0123456789ab")
    assert worker_of("stepstream") == worker_of("other-0123456789ab") == RunningWorker()
    assert re.fullmatch(r"[A-Za-z0-9._-]+", instance_of(OLD, "pod-0"))


class RegistryReader(FakeReader):
    """A reader that returns all records of the topic at each read."""

    async def read(self, limit: int, wait_ms: int) -> list[LogRecord]:
        """Return the records."""
        self.positions.clear()
        return await super().read(limit, wait_ms)


class Registry(FakeCluster):
    """A cluster with the topic `functions`, and a group of workers with these releases."""

    def __init__(self, topic: Topic, members: Sequence[App]) -> None:
        super().__init__()
        self.topic = topic
        self.clients = [client_of(app) for app in members]

    async def reader(self, **_: Any) -> FakeReader:
        """Return a new reader of the topic as it is now."""
        self._refresh()
        return RegistryReader(self)

    async def append(self, records: Sequence[NewRecord]) -> None:
        """Append records to the topic."""
        self.topic.append(records)
        self._refresh()

    def _refresh(self) -> None:
        self.records[FUNCTIONS, 0] = [
            LogRecord(FUNCTIONS, 0, offset, *pair, (), 0) for offset, pair in enumerate(self.topic.stored.items())
        ]


@asynccontextmanager
async def registered(
    cluster: Registry, app: App, *, joined: bool = True, timeout_s: float = 5.0
) -> AsyncIterator[None]:
    """Serve a registrar; enter the block once this release or a newer one has registered its functions."""
    registrar = FunctionRegistrar(cluster, app, cluster.append, lambda: joined)
    serving = asyncio.ensure_future(registrar.serve())
    try:
        assert await asyncio.wait_for(registrar.until_registered(asyncio.Event()), timeout_s)
        yield
    finally:
        serving.cancel()
        await asyncio.gather(serving, return_exceptions=True)


async def test_replaced_release_stays_silent_while_its_successor_serves(monkeypatch: pytest.MonkeyPatch) -> None:
    """When no member of the group has the newer release, the older one registers again, without a restart."""
    monkeypatch.setattr(registrar_module, "_CHECK_S", 0.0)
    topic = Topic()
    topic.register(OLD)
    topic.register(NEW)
    cluster = Registry(topic, [OLD, NEW])
    async with registered(cluster, OLD):
        assert topic.serving == {"a", "c"}
        cluster.clients.pop()
        await until(lambda: topic.serving == {"a", "b"})


async def test_group_is_queried_periodically() -> None:
    """Not at every read of the topic."""
    topic = Topic()
    topic.register(OLD)
    topic.register(NEW)
    cluster = Registry(topic, [OLD, NEW])
    async with registered(cluster, OLD):
        await iterate(20)
        assert cluster.calls.count["members"] == 1


async def test_new_release_registers_at_once() -> None:
    """It was never replaced, so the group is not queried."""
    topic = Topic()
    topic.register(OLD)
    cluster = Registry(topic, [OLD])
    async with registered(cluster, NEW):
        assert topic.serving == {"a", "c"}
        assert cluster.calls.count["members"] == 0


async def test_worker_outside_the_group_registers_nothing() -> None:
    """Other releases would not find it in the group, and register their own functions."""
    topic = Topic()
    with pytest.raises(TimeoutError):
        async with registered(Registry(topic, []), OLD, joined=False, timeout_s=0.05):
            pass
    assert topic.stored == {}


async def test_function_of_another_serving_app_is_refused() -> None:
    """The two apps would replace each other's function; once the other no longer serves, its function may be taken."""
    topic = Topic()
    topic.register(OLD)
    cluster = Registry(topic, [OLD])
    same = shop("b", name="other")
    registrar = FunctionRegistrar(cluster, same, cluster.append, lambda: True)
    with pytest.raises(DefinitionError, match="function 'b' of app 'other' is already a function of app 'shop'"):
        await registrar.check(topic.stored.values())
    cluster.clients.clear()
    await registrar.check(topic.stored.values())
    topic.register(same)
    assert topic.known["b"].app == "other"


async def test_app_that_gateways_serve_is_refused() -> None:
    """A member of their group without its code would hold its runs; without gateways the app may have Python code."""
    topic = Topic()
    functions = [FunctionRegistered("shop-a", "shop", endpoint="http://example.com/api/inngest?fnId=shop-a")]
    topic.append(changes({"shop": functions}, []))
    cluster = Registry(topic, [])
    cluster.clients = [client_of_release(GATEWAY_RELEASE)]
    registrar = FunctionRegistrar(cluster, OLD, cluster.append, lambda: True)
    with pytest.raises(DefinitionError, match="app 'shop' is an app of an Inngest SDK"):
        await registrar.check(topic.stored.values())
    cluster.clients.clear()
    await registrar.check(topic.stored.values())


async def test_log_counts_the_functions_that_changed(caplog: pytest.LogCaptureFixture) -> None:
    """Every function is registered with each release; the log counts those that are new, changed or retired."""
    caplog.set_level(logging.INFO, registrar_module.logger.name)
    cluster = Registry(Topic(), [])
    first, second, third = shop("a", "b"), shop("a", "b"), shop("a", "c")
    for function in second:
        if function.id == "b":
            function.triggers = (on("other"),)
    for app in (first, second, third, third):
        async with registered(cluster, app):
            pass
    assert [message.rpartition(": ")[2] for message in caplog.messages] == ["2 new", "1 changed", "1 new, 1 retired"]
