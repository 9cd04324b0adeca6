"""The lease of a worker on the membership of its group: while it lasts, no other worker has its partitions."""

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from stepstream.runtime.kafka.client.cluster import CLIENT
from stepstream.runtime.kafka.client.reader import Reader
from stepstream.runtime.notification import Notification
from stepstream.runtime.ports import LogError

# The lease is shorter than the session, to allow for clocks and for the time that an answer takes.
_LEASE_SESSIONS = 0.8


@dataclass(frozen=True, slots=True)
class MemberOptions:
    """How a worker is a member of its group, or with `alone` reads all partitions without one.

    `instance` is the name of a static member, and `client` the id that brokers see. The membership is confirmed every
    `renew_sessions` sessions. The group expires a member that takes longer than three sessions to release its
    partitions, so work before that ends after `revoke_sessions`. `monotonic` is the clock of the lease, in seconds.

    Offsets are committed every `commit_s` seconds. The successor of a killed worker claims commands after the last
    commit without need; more frequent commits would compete with the reports that are written at the same time.
    """

    alone: bool = False
    instance: str = ""
    client: str = CLIENT
    commit_s: float = 0.25
    renew_sessions: float = 0.25
    revoke_sessions: float = 1.0
    monotonic: Callable[[], float] = time.monotonic


GROUP_MEMBER = MemberOptions()


class GroupLease:
    """Whether a worker is certainly a member: the group has confirmed it recently, and does not rebalance.

    A worker without a group is always certain. `confirmed_at` is the time when the group was asked that last confirmed.
    """

    def __init__(self, session_s: float, options: MemberOptions) -> None:
        self._lease_s = _LEASE_SESSIONS * session_s
        self._renew_s = options.renew_sessions * session_s
        self._options = options
        self.confirmed_at = 0.0
        self.rebalancing = False
        self.ended = False
        self._membership = ("", 0)
        self._confirmed = Notification()
        self._confirm_soon = Notification()

    @property
    def is_held(self) -> bool:
        """Whether the group has confirmed the membership recently, possibly before a rebalance that has begun since."""
        options = self._options
        return options.alone or options.monotonic() - self.confirmed_at < self._lease_s

    @property
    def is_certain(self) -> bool:
        """Whether no other worker can have the partitions."""
        return self.is_held and not self.rebalancing

    async def until_certain(self) -> None:
        """Return when no other worker can have the partitions, or when the lease has ended.

        A process that was frozen may not know that its membership has expired. When it thaws, it must not run what
        other workers have already finished.
        """
        while not (self.is_certain or self.ended):
            await self._confirmed.wait()

    def assigned(self, membership: tuple[str, int]) -> tuple[bool, bool]:
        """End a rebalance that made us this member id in this generation of the group.

        Return whether it follows the last assignment without a gap, and whether the membership had expired. If a
        generation is missing, another member may have had a partition in it. A member that had expired returns with a
        new member id.
        """
        (member, generation), self._membership = self._membership, membership
        self.rebalancing = False
        return membership == (member, generation + 1), membership[0] != member

    def confirm_soon(self) -> None:
        """Ask the group now: code waits for the answer."""
        self._confirm_soon.notify()

    async def keep(self, reader: Reader, on_renewal: Callable[[], None], is_needed: Callable[[], bool]) -> None:
        """Ask the group periodically, without end, and call `on_renewal` before; ask only if a lease is needed."""
        while True:
            await self._confirm_soon.wait(self._renew_s)
            on_renewal()
            asked_at = self._options.monotonic()
            # During a rebalance, or if the membership has expired, this fails, and nothing is certain.
            with suppress(LogError):
                if is_needed():
                    await reader.confirm()
                    self.confirmed_at = asked_at
                    self._confirmed.notify()

    def end(self) -> None:
        """Release what waits: the worker has left its group."""
        self.ended = True
        self._confirmed.notify()
