"""A worker announces the functions of its app, and keeps quiet while a release that took its place still serves."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Collection, Sequence

from stepstream.contract.topics import FUNCTIONS
from stepstream.runtime.kafka.cluster import CLIENT, Cluster
from stepstream.runtime.ports import NewRecord
from stepstream.runtime.registrations import owners, registrations, release_of, replaced_by
from stepstream.sdk.app import App
from stepstream.sdk.errors import DefinitionError

logger = logging.getLogger(__name__)
_READ_MS = 1_000
_RECORDS_PER_READ = 500
# How often a release that was replaced looks whether its successor still serves.
_LOOK_S = 10.0


class FunctionRegistrar:
    """Keeps the topic `functions` as the newest release of an app that serves has it.

    While two releases are up at once, as during a roll-out, the one that was announced first keeps quiet, also when a
    process of it begins again. After a way back the old one speaks again as soon as no member of the workers' group is
    of the newer one. `append` writes records; `joined` tells whether this worker is in the group.
    """

    def __init__(
        self,
        cluster: Cluster,
        app: App,
        append: Callable[[Sequence[NewRecord]], Awaitable[object]],
        joined: Callable[[], bool],
    ) -> None:
        self._cluster = cluster
        self._app = app
        self._append = append
        self._joined = joined
        self._stored: dict[bytes, bytes] = {}
        self._quiet_for = ""
        self._looked_at = 0.0
        self.announced = asyncio.Event()

    async def serve(self) -> None:
        """Announce once this worker is in its group, and whenever the release that counts has gone; until cancelled."""
        at = (FUNCTIONS, 0)
        reader = await self._cluster.reader()
        self._stored = {}
        try:
            reader.assign([at])
            reader.seek({at: 0})
            end = (await reader.ends([at]))[at]
            while True:
                records = await reader.read(_RECORDS_PER_READ, _READ_MS if self.announced.is_set() else 50)
                for record in records:
                    self._store(record.key, record.value)
                # What was announced and is as it was then need not be looked at again.
                open_still = records or self._quiet_for or not self.announced.is_set()
                if open_still and self._joined() and await reader.position(at) >= end:
                    await self._announce()
        finally:
            await reader.close()

    async def check(self, stored: Collection[bytes]) -> None:
        """Raise DefinitionError where the functions that `functions` holds as `stored` are in the way of ours."""
        registrations([self._app], stored)
        for function, owner in owners(self._app, stored).items():
            if await self._members(owner):
                raise DefinitionError(
                    f"function {function!r} of app {self._app.name!r} is already a function of app {owner!r}, "
                    "which serves; give it another id="
                )

    async def until_announced(self, stop: asyncio.Event) -> bool:
        """Return whether the functions are announced, or another release speaks for them, before `stop` is set."""
        waiting = [asyncio.ensure_future(event.wait()) for event in (self.announced, stop)]
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        for each in waiting:
            each.cancel()
        return self.announced.is_set()

    def _store(self, key: bytes, value: bytes) -> None:
        self._stored.pop(key, None)
        if value:
            self._stored[key] = value

    async def _announce(self) -> None:
        newer = replaced_by(self._app, self._stored.values())
        if newer and await self._serves(newer):
            self.announced.set()
            return
        changed = registrations([self._app], self._stored.values())
        if changed:
            await self.check(self._stored.values())
            await self._append(changed)
            for record in changed:
                self._store(record.key, record.value)
            release = release_of(self._app)
            logger.info("release %s of app %s: %d functions are new or changed", release, self._app.name, len(changed))
        self.announced.set()

    async def _serves(self, release: str) -> bool:
        """Tell whether a worker of a release is in the group; asked now and then."""
        if self._quiet_for == release and time.monotonic() - self._looked_at < _LOOK_S:
            return True
        self._looked_at = time.monotonic()
        serves = _client_name(release) in await self._members(self._app.name)
        if serves and self._quiet_for != release:
            words = "release %s of app %s was replaced by %s, which serves: its functions are not announced"
            logger.info(words, release_of(self._app), self._app.name, release)
        self._quiet_for = release if serves else ""
        return serves

    async def _members(self, app: str) -> list[str]:
        return await self._cluster.members(f"worker-{app}")


def client_of(app: App) -> str:
    """Return what a worker calls itself as a client of Kafka: by its release, which others of its group can see."""
    return _client_name(release_of(app))


def instance_of(app: App, name: str) -> str:
    """Return the instance as which the group knows a named worker again: other code under the name is another member.

    Of a member that it knows again the broker tells the name as a client that it had before.
    """
    return f"{name}.{release_of(app)}" if name else ""


def _client_name(release: str) -> str:
    return f"{CLIENT}-{release}"
