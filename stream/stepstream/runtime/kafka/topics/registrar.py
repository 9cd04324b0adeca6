"""Registers the functions of an app, unless a newer release of the app that replaced it still serves."""

import asyncio
import logging
import platform
import re
import time
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence

from stepstream import __version__
from stepstream.contract.functions import readable_functions
from stepstream.contract.topics import FUNCTIONS
from stepstream.runtime.kafka.client.answers import CreationWatch, Extent
from stepstream.runtime.kafka.client.cluster import CLIENT, Cluster
from stepstream.runtime.overview import RunningWorker
from stepstream.runtime.ports import LogError, NewRecord
from stepstream.runtime.registrations import describe_changes, owners, registrations, release_of, replaced_by
from stepstream.sdk.app import App
from stepstream.sdk.errors import DefinitionError

logger = logging.getLogger(__name__)
_READ_MS = 1_000
_RECORDS_PER_READ = 500
# How often a release that was replaced checks whether its successor still serves.
_CHECK_S = 10.0
# A gateway takes the functions of its apps from the topic, so it has no release.
GATEWAY_RELEASE = "gateway"


class FunctionRegistrar:
    """Registers the functions of an app in the topic `functions`, as its newest running release defines them.

    While two releases serve at once, for example during a rollout, the older one does not register its functions,
    even after a restart. After a rollback it registers them again once no member of the workers' group has the
    newer release.
    `append` writes records; `joined` returns whether this worker is in the group.
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
        self._replaced_by = ""
        self._checked_at = 0.0
        self._creation = CreationWatch(FUNCTIONS)
        self._created_again = False
        self.registered = asyncio.Event()

    async def serve(self) -> None:
        """Register once this worker is in its group, and again when the release that replaced it is gone."""
        at = (FUNCTIONS, 0)
        reader = await self._cluster.reader()
        self._stored, self._created_again, registered = {}, False, False
        try:
            reader.assign([at])
            reader.seek({at: 0})
            end = (await reader.ends([at]))[at]
            while True:
                records = await reader.read(_RECORDS_PER_READ, _READ_MS if self.registered.is_set() else 50)
                for record in records:
                    self._store(record.key, record.value)
                if self._created_again:
                    raise LogError(f"topic {self._cluster.settings.name(FUNCTIONS)!r} was deleted and created again")
                # Nothing changes as long as the functions are registered and the topic has no new records.
                pending = records or self._replaced_by or not registered
                if pending and self._joined() and await reader.position(at) >= end:
                    await self._register()
                    registered = True
        finally:
            await reader.close()

    async def check(self, stored: Collection[bytes]) -> None:
        """Raise DefinitionError if a function in `stored`, the records of `functions`, collides with this app's."""
        registrations([self._app], stored)
        if await self._is_of_gateways(stored):
            name = self._app.name
            raise DefinitionError(f"app {name!r} is an app of an Inngest SDK, which gateways serve; rename one of them")
        for function, owner in owners(self._app.name, [each.id for each in self._app], stored).items():
            if await self._members(owner):
                raise DefinitionError(
                    f"function {function!r} of app {self._app.name!r} is already a function of app {owner!r}, "
                    "which serves; change its id="
                )

    async def _is_of_gateways(self, stored: Collection[bytes]) -> bool:
        own = (each for each in readable_functions(stored) if each.app == self._app.name and not each.retired)
        if not any(each.endpoint for each in own):
            return False
        return any(worker_of(client).release == GATEWAY_RELEASE for client in await self._members(self._app.name))

    def watch(self, topics: Mapping[str, Extent]) -> None:
        """Register again if the topic of functions was created again."""
        self._created_again |= self._creation.created_again(topics)

    @property
    def unready(self) -> str:
        """Why an event would start no run of the app; empty once the functions are registered."""
        return "" if self.registered.is_set() else "the functions are not registered yet"

    async def until_registered(self, stop: asyncio.Event) -> bool:
        """Return whether this release or a newer one has registered the functions before `stop` is set."""
        waiting = [asyncio.ensure_future(event.wait()) for event in (self.registered, stop)]
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        for each in waiting:
            each.cancel()
        return self.registered.is_set()

    def _store(self, key: bytes, value: bytes) -> None:
        self._stored.pop(key, None)
        if value:
            self._stored[key] = value

    async def _register(self) -> None:
        newer = replaced_by(self._app, self._stored.values())
        if newer and await self._serves(newer):
            self.registered.set()
            return
        changed = registrations([self._app], self._stored.values())
        if changed:
            await self.check(self._stored.values())
            await self._append(changed)
            changes = describe_changes(self._stored.values(), changed)
            for record in changed:
                self._store(record.key, record.value)
            logger.info("release %s of app %s is registered: %s", release_of(self._app), self._app.name, changes)
        self.registered.set()

    async def _serves(self, release: str) -> bool:
        """Return whether a worker of a release is in the group; the group is queried periodically."""
        if self._replaced_by == release and time.monotonic() - self._checked_at < _CHECK_S:
            return True
        self._checked_at = time.monotonic()
        serves = any(worker_of(client).release == release for client in await self._members(self._app.name))
        if serves and self._replaced_by != release:
            replaced = "release %s of app %s was replaced by %s, which serves: its functions are not registered"
            logger.info(replaced, release_of(self._app), self._app.name, release)
        self._replaced_by = release if serves else ""
        return serves

    async def _members(self, app: str) -> list[str]:
        return await self._cluster.members(f"worker-{app}")


def client_of(app: App) -> str:
    """Return the client id of an app's workers, by which they announce themselves to engines and to one another.

    It has their release, and the versions of stepstream and Python.
    """
    return client_of_release(release_of(app))


def client_of_release(release: str) -> str:
    """Return the client id of the workers of a release."""
    return f"{CLIENT}-{release}-{_VERSIONS}"


def worker_of(client: str) -> RunningWorker:
    """Return what the client id of a worker says; one of an earlier version has its release only, or nothing."""
    name, *parts = client.split("-")
    return RunningWorker(*parts[:_PARTS]) if name == CLIENT else RunningWorker()


def shown_client(client: str) -> str:
    """Return the client id of a worker without what gateways add to theirs for one another."""
    name, *parts = client.split("-")
    return "-".join([name, *parts[:_PARTS]]) if name == CLIENT else client


def instance_of(app: App, name: str) -> str:
    """Return the group instance id of a named worker. It contains what its client id does.

    For a static member that returns, the broker reports the client id that it had before.
    """
    return f"{name}.{release_of(app)}-{_VERSIONS}" if name else ""


# The release, and the versions of stepstream and Python.
_PARTS = 3
# Brokers accept these characters in the id of an instance; the parts of a client id have no hyphen.
_VERSIONS = "-".join(re.sub(r"[^A-Za-z0-9._]", "_", each) for each in (__version__, platform.python_version()))
