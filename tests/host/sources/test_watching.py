"""An error that keeps the consumer of sources from reading is taken, so that the client retries, and logged."""

import asyncio
import logging
from types import SimpleNamespace
from typing import Any

import pytest

from stepstream.host.sources.watching import GroupWatch

GROUP = "ns.sources-shop"


class GroupAuthorizationFailedError(Exception):
    """An error with the name of the client's own."""


class OverError(Exception):
    """The prepared states are used up."""


class StandIn:
    """A Faust app with a state for each interval: the error that its client holds, and its generation in the group."""

    def __init__(self, *states: tuple[Exception | None, int]) -> None:
        self.states = list(states)
        self.crashed: list[BaseException] = []
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.coordinator = SimpleNamespace(generation=-1, check_errors=self._check, _coordination_task=self.ended)
        client = SimpleNamespace(_coordinator=self.coordinator, assignment=lambda: {1, 2})
        self.consumer = SimpleNamespace(_thread=SimpleNamespace(_consumer=client, call_thread=self._call))
        self._error: Exception | None = None

    async def _call(self, inspect: Any) -> Any:
        if not self.states:
            raise OverError
        self._error, self.coordinator.generation = self.states.pop(0)
        return await inspect()

    def _check(self) -> None:
        if self._error:
            raise self._error

    async def crash(self, error: BaseException) -> None:
        """Note the crash of the app."""
        self.crashed.append(error)


async def test_a_missing_right_is_logged_until_the_group_is_joined(caplog: pytest.LogCaptureFixture) -> None:
    """The line names the right and the group; a missing coordinator is logged as well, and once the recovery."""
    caplog.set_level(logging.INFO)
    host = StandIn((GroupAuthorizationFailedError(GROUP), -1), (None, -1), (None, 3), (None, 3))
    with pytest.raises(OverError):
        await GroupWatch(host, GROUP, {"orders"}, interval_s=0).serve()
    assert [(record.levelno, record.getMessage()) for record in caplog.records] == [
        (
            logging.ERROR,
            f"sources of orders are not read, group {GROUP}: the ACL operation READ on this consumer group is missing "
            f"(GroupAuthorizationFailedError: {GROUP}); the next check is in 0 s",
        ),
        (
            logging.ERROR,
            f"sources of orders are not read, group {GROUP}: the group has no coordinator, "
            "or the consumer has not joined it yet; the next check is in 0 s",
        ),
        (logging.INFO, f"consumer joined group {GROUP} and was assigned 2 partitions"),
    ]
    assert host.crashed == []


async def test_a_client_that_ended_crashes_its_app() -> None:
    """Such a client never retries; the part of the sources then starts with a new app."""
    host = StandIn((ValueError("a bug"), 3))
    host.ended.set_result(None)
    await GroupWatch(host, GROUP, {"orders"}, interval_s=0).serve()
    assert [str(error) for error in host.crashed] == ["a bug"]


async def test_a_missing_client_is_waited_for(caplog: pytest.LogCaptureFixture) -> None:
    """Faust has no client while no broker answers."""
    host = StandIn((None, 3))
    host.consumer._thread._consumer = None
    with pytest.raises(OverError):
        await GroupWatch(host, GROUP, {"orders"}, interval_s=0).serve()
    assert "the group has no coordinator" in caplog.text
    assert host.crashed == []
