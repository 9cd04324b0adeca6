"""Which release of an app speaks for its functions, when several are up at once or come back."""

import asyncio
import logging
from collections.abc import Sequence

import pytest

from stepstream import App, Context, on
from stepstream.contract.functions import FunctionRegistered, readable_functions
from stepstream.contract.limits import RELEASES_REPLACED_MAX
from stepstream.runtime.kafka import registrar
from stepstream.runtime.kafka.registrar import FunctionRegistrar, client_of, instance_of
from stepstream.runtime.ports import LogRecord, NewRecord, Offsets
from stepstream.runtime.registrations import registrations, release_of, replaced_by
from stepstream.sdk.errors import DefinitionError


def shop(*functions: str, name: str = "shop") -> App:
    """Make a release of an app with these functions."""
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

    def announce(self, *apps: App) -> list[str]:
        """Append what apps say of their functions; return the ids."""
        records = registrations(apps, self.stored.values())
        self.append(records)
        return [record.key.decode() for record in records]

    def append(self, records: Sequence[NewRecord]) -> None:
        """Write records."""
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


def test_a_release_without_functions_retires_them_all() -> None:
    """As of an app that is taken down: no event starts any, and the release before is known as replaced."""
    topic = Topic()
    topic.announce(OLD)
    assert topic.announce(shop()) == ["a", "b"]
    assert topic.serving == set()
    assert replaced_by(OLD, topic.stored.values()) == release_of(shop())


def test_a_release_takes_the_place_of_the_one_before() -> None:
    """All its functions carry it, those that are gone are retired, and the same again says nothing."""
    topic = Topic()
    assert topic.announce(OLD, OTHER) == ["a", "b", "x"]
    assert topic.announce(OLD, OTHER) == []
    assert replaced_by(OLD, topic.stored.values()) == ""
    assert topic.announce(NEW) == ["a", "c", "b"]
    assert topic.serving == {"a", "c", "x"}
    assert replaced_by(OLD, topic.stored.values()) == release_of(NEW)
    assert replaced_by(NEW, topic.stored.values()) == ""
    assert {topic.known[id].replaced for id in "abc"} == {(release_of(OLD),)}


def test_a_way_back_is_a_release_like_any_other() -> None:
    """Then the newer one is what was replaced."""
    topic = Topic()
    topic.announce(OLD)
    topic.announce(NEW)
    topic.announce(OLD)
    assert topic.serving == {"a", "b"}
    assert topic.known["a"].replaced == (release_of(NEW),)
    assert replaced_by(NEW, topic.stored.values()) == release_of(OLD)


def test_what_was_replaced_is_remembered_within_a_bound() -> None:
    """The oldest are forgotten: they are announced like new ones."""
    topic = Topic()
    releases = [shop(f"f{number}") for number in range(RELEASES_REPLACED_MAX + 2)]
    for app in releases:
        topic.announce(app)
    assert replaced_by(releases[0], topic.stored.values()) == ""
    assert replaced_by(releases[1], topic.stored.values()) == release_of(releases[-1])


def test_other_code_of_a_function_is_another_release() -> None:
    """A release is known by the triggers, the code and the queues of its functions."""
    changed = App("shop")
    for each in ("a", "b"):

        async def handler(ctx: Context) -> str:
            """Do something else."""
            return "changed"

        changed.function(on("go"), id=each)(handler)
    assert release_of(OLD) == release_of(shop("b", "a"))
    assert len({release_of(OLD), release_of(NEW), release_of(changed)}) == 3


def test_an_instance_with_other_code_is_another_member() -> None:
    """The broker tells of a member that it knows again the client's name that it had before."""
    assert instance_of(OLD, "pod-0") != instance_of(NEW, "pod-0")
    assert instance_of(OLD, "") == ""


class Cluster:
    """A cluster with the topic `functions` and the workers of an app."""

    def __init__(self, topic: Topic, members: Sequence[App]) -> None:
        self.topic = topic
        self.clients = [client_of(app) for app in members]
        self.looked = 0
        self._read = False

    async def reader(self) -> "Cluster":
        """Return what reads the topic from its start."""
        self._read = False
        return self

    def assign(self, _: object) -> None:
        """Do nothing."""

    def seek(self, _: Offsets) -> None:
        """Do nothing."""

    async def ends(self, places: Sequence[tuple[str, int]]) -> Offsets:
        """Return the end of the topic."""
        return dict.fromkeys(places, len(self.topic.stored))

    async def position(self, _: object) -> int:
        """Return how far it was read."""
        return len(self.topic.stored) if self._read else 0

    async def read(self, _limit: int, _wait_ms: int) -> list[LogRecord]:
        """Return all that is there, again and again."""
        await asyncio.sleep(0)
        self._read = True
        return [LogRecord("functions", 0, at, *pair, (), 0) for at, pair in enumerate(self.topic.stored.items())]

    async def members(self, group: str) -> list[str]:
        """Return the clients of the group's members."""
        assert group == "worker-shop"
        self.looked += 1
        return self.clients

    async def append(self, records: Sequence[NewRecord]) -> None:
        """Write records of the topic."""
        self.topic.append(records)

    async def close(self) -> None:
        """Do nothing."""


async def until_announced(
    cluster: Cluster, app: App, *, joined: bool = True, seconds: float = 5.0
) -> "asyncio.Task[None]":
    """Begin to announce an app; return when it is announced, or another release speaks for it."""
    announcer = FunctionRegistrar(cluster, app, cluster.append, lambda: joined)  # type: ignore[arg-type]  # As far as it is used.
    serving = asyncio.ensure_future(announcer.serve())
    assert await asyncio.wait_for(announcer.until_registered(asyncio.Event()), seconds)
    return serving


async def end(serving: "asyncio.Task[None]") -> None:
    """Stop an announcer."""
    serving.cancel()
    await asyncio.gather(serving, return_exceptions=True)


async def test_a_replaced_release_keeps_quiet_while_its_successor_serves(monkeypatch: pytest.MonkeyPatch) -> None:
    """When no member of the group is of the newer one any more, it speaks, without being begun again."""
    monkeypatch.setattr(registrar, "_CHECK_S", 0.0)
    topic = Topic()
    topic.announce(OLD)
    topic.announce(NEW)
    cluster = Cluster(topic, [OLD, NEW])
    serving = await until_announced(cluster, OLD)
    assert topic.serving == {"a", "c"}
    cluster.clients.pop()
    async with asyncio.timeout(5):
        while topic.serving != {"a", "b"}:  # noqa: ASYNC110 - nobody tells when it is so
            await asyncio.sleep(0)
    await end(serving)


async def test_a_group_is_asked_for_now_and_then() -> None:
    """Not at every look at the topic."""
    topic = Topic()
    topic.announce(OLD)
    topic.announce(NEW)
    cluster = Cluster(topic, [OLD, NEW])
    serving = await until_announced(cluster, OLD)
    for _ in range(20):
        await asyncio.sleep(0)
    assert cluster.looked == 1
    await end(serving)


async def test_a_new_release_speaks_at_once() -> None:
    """Whoever serves: it was never replaced, and nobody is asked."""
    topic = Topic()
    topic.announce(OLD)
    cluster = Cluster(topic, [OLD])
    await end(await until_announced(cluster, NEW))
    assert topic.serving == {"a", "c"}
    assert cluster.looked == 0


async def test_who_is_in_no_group_announces_nothing() -> None:
    """Others would look for it in the group in vain, and speak for themselves."""
    topic = Topic()
    with pytest.raises(TimeoutError):
        await until_announced(Cluster(topic, []), OLD, joined=False, seconds=0.05)
    assert topic.stored == {}


async def test_a_function_of_another_app_that_serves_is_not_taken() -> None:
    """Both would start by turns. One that nobody serves any more, as after another name was given, may be taken."""
    topic = Topic()
    topic.announce(OLD)
    cluster = Cluster(topic, [OLD])
    same = shop("b", name="other")
    announcer = FunctionRegistrar(cluster, same, cluster.append, lambda: True)  # type: ignore[arg-type]  # As far as it is used.
    with pytest.raises(DefinitionError, match="function 'b' of app 'other' is already a function of app 'shop'"):
        await announcer.check(topic.stored.values())
    cluster.clients.clear()
    await announcer.check(topic.stored.values())
    topic.announce(same)
    assert topic.known["b"].app == "other"


async def test_the_log_counts_the_functions_that_changed(caplog: pytest.LogCaptureFixture) -> None:
    """Every function is registered with each release; the log counts those that are new, changed or retired."""
    caplog.set_level(logging.INFO, registrar.logger.name)
    topic = Topic()
    cluster = Cluster(topic, [])
    first, second, third = shop("a", "b"), shop("a", "b"), shop("a", "c")
    for function in second:
        if function.id == "b":
            function.triggers = (on("other"),)
    for app in (first, second, third, third):
        await end(await until_announced(cluster, app))
    assert [message.rpartition(": ")[2] for message in caplog.messages] == ["2 new", "1 changed", "1 new, 1 retired"]
