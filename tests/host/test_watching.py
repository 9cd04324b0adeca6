"""What keeps the sources' consumer from reading is taken from it, so that it tries again, and told."""

import asyncio
import logging
from types import SimpleNamespace
from typing import Any

import pytest

from stepstream.host.sources.watching import GroupWatch

GROUP = "ns.sources-shop"


class GroupAuthorizationFailedError(Exception):
    """Named as the client's own error."""


class OverError(Exception):
    """All that was to be seen has been seen."""


class StandIn:
    """A Faust app, as it is seen at each look: the error that its client keeps, and its generation in the group."""

    def __init__(self, *looks: tuple[Exception | None, int]) -> None:
        self.looks = list(looks)
        self.crashed: list[BaseException] = []
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.coordinator = SimpleNamespace(generation=-1, check_errors=self._check, _coordination_task=self.ended)
        client = SimpleNamespace(_coordinator=self.coordinator, assignment=lambda: {1, 2})
        self.consumer = SimpleNamespace(_thread=SimpleNamespace(_consumer=client, call_thread=self._call))
        self._error: Exception | None = None

    async def _call(self, ask: Any) -> Any:
        if not self.looks:
            raise OverError
        self._error, self.coordinator.generation = self.looks.pop(0)
        return await ask()

    def _check(self) -> None:
        if self._error:
            raise self._error

    async def crash(self, error: BaseException) -> None:
        """Note that the app has ended."""
        self.crashed.append(error)


async def test_a_missing_right_is_told_until_the_group_is_joined(caplog: pytest.LogCaptureFixture) -> None:
    """The error names the right and the group; no coordinator is told, too, and once that all is well again."""
    caplog.set_level(logging.INFO)
    host = StandIn((GroupAuthorizationFailedError(GROUP), -1), (None, -1), (None, 3), (None, 3))
    with pytest.raises(OverError):
        await GroupWatch(host, GROUP, {"orders"}, look_s=0).serve()
    assert [(record.levelno, record.getMessage()) for record in caplog.records] == [
        (
            logging.ERROR,
            f"sources of orders are not read, group {GROUP}: the right READ on this consumer group is missing "
            f"(GroupAuthorizationFailedError: {GROUP}); it is tried again every 0 s",
        ),
        (
            logging.ERROR,
            f"sources of orders are not read, group {GROUP}: it has no coordinator, or is not joined yet; "
            "it is tried again every 0 s",
        ),
        (logging.INFO, f"group {GROUP} is joined, and has 2 partitions"),
    ]
    assert host.crashed == []


async def test_a_client_that_ended_ends_the_reading() -> None:
    """Nobody would try again: the app of the sources crashes, and its part begins with a new one."""
    host = StandIn((ValueError("a bug"), 3))
    host.ended.set_result(None)
    await GroupWatch(host, GROUP, {"orders"}, look_s=0).serve()
    assert [str(error) for error in host.crashed] == ["a bug"]


async def test_a_client_that_is_not_there_yet_is_waited_for(caplog: pytest.LogCaptureFixture) -> None:
    """While no broker answers Faust has no client."""
    host = StandIn((None, 3))
    host.consumer._thread._consumer = None
    with pytest.raises(OverError):
        await GroupWatch(host, GROUP, {"orders"}, look_s=0).serve()
    assert "it has no coordinator" in caplog.text
    assert host.crashed == []
