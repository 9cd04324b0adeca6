"""The registry of SDK apps: a view of the topic `functions`, and the writer of their registrations."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from msgspec.structs import replace

from stepstream.contract.codec import encode
from stepstream.contract.errors import Conflict, InvalidInput, StepstreamError
from stepstream.contract.functions import FunctionRegistered, readable_functions
from stepstream.contract.topics import FUNCTIONS
from stepstream.gateway.sync.addresses import AddressPolicy
from stepstream.gateway.sync.sync_failures import SyncFailures
from stepstream.gateway.wire.calls import is_connect_url
from stepstream.gateway.wire.registration import AppRegistration, without_query
from stepstream.runtime.ports import NewRecord
from stepstream.runtime.registrations import changes, describe_changes, owners

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Synced:
    """A registration: the name of the app, how many functions it has, and whether that changed anything."""

    app: str
    functions: int
    modified: bool


class PartlyRefused(InvalidInput):
    """Some functions of an app cannot run here; the others are registered."""


@dataclass(frozen=True, slots=True)
class RegistryPorts:
    """What a registry needs of its process.

    `prepare` returns once an app can be served, and raises a StepstreamError if it cannot. `append` writes records.
    `serves` returns whether other workers than gateways serve an app. `changed` is called with the name of each app
    whose functions change; it may no longer have any.
    """

    prepare: Callable[[str], Awaitable[None]]
    append: Callable[[Sequence[NewRecord]], Awaitable[object]]
    serves: Callable[[str], Awaitable[bool]]
    changed: Callable[[str], None]


class AppRegistry:
    """The functions of all apps that gateways serve, by the records of `functions` that `fold` was given so far."""

    def __init__(self, ports: RegistryPorts, addresses: AddressPolicy, failures: SyncFailures) -> None:
        self.failures = failures
        self._ports = ports
        self._addresses = addresses
        self._stored: dict[str, FunctionRegistered] = {}
        self._values: dict[str, bytes] = {}
        self._writing = asyncio.Lock()

    def fold(self, values: Iterable[bytes]) -> None:
        """Apply records of `functions`, in their order."""
        touched = dict[str, None]()
        for value in values:
            for record in readable_functions([value]):
                if self._values.get(record.id) != value:
                    # The function may have been one of another app, or of an app that an SDK served.
                    both = (self._stored.get(record.id), record)
                    touched |= {each.app: None for each in both if each and each.endpoint}
                # The latest record is the last one, as the functions of a release are compared in this order.
                self._values.pop(record.id, None)
                self._stored[record.id], self._values[record.id] = record, value
        for app in touched:
            self._ports.changed(app)

    def apps(self) -> Mapping[str, Sequence[FunctionRegistered]]:
        """Return the functions of each app, retired ones included: their open runs continue."""
        found: dict[str, list[FunctionRegistered]] = {}
        for record in self._stored.values():
            if record.endpoint:
                found.setdefault(record.app, []).append(record)
        return found

    def urls(self) -> Mapping[str, str]:
        """Return where each app is that can be asked to register, by the URL of one of its functions."""
        known = (each for each in self._stored.values() if each.endpoint and not each.retired)
        return {each.app: without_query(each.endpoint) for each in known if not is_connect_url(each.endpoint)}

    async def register(self, app: AppRegistration) -> Synced:
        """Replace the functions of an app; one that cannot run here stays as it was registered before.

        Raise InvalidInput for a URL that is not allowed, and PartlyRefused for functions that cannot run here, once the
        others are registered. Raise Conflict if other workers serve the app, or another app has one of its functions.
        What is raised is among the `failures` until the app registers.
        """
        try:
            synced = await self._register(app)
            if app.refused:
                raise PartlyRefused(f"app {app.name!r}: {app.refusal}")
        except StepstreamError as error:
            self.failures.failed(error, app.topic_name, app.url)
            raise
        self.failures.registered(app.topic_name, app.url)
        return synced

    async def _register(self, app: AppRegistration) -> Synced:
        functions = [each.registered for each in app.functions]
        for url in {without_query(each) for each in (app.url, *(each.endpoint for each in functions))}:
            if not is_connect_url(url):
                await self._addresses.check(url)
        await self._ports.prepare(app.topic_name)
        async with self._writing:
            functions += self._earlier(app)
            await self._check(app.topic_name, functions)
            stored = list(self._values.values())
            if records := changes({app.topic_name: functions}, stored):
                await self._ports.append(records)
                changed = describe_changes(stored, records)
                logger.info("app %s (%s) at %s is registered: %s", app.name, app.sdk, app.url, changed)
                self.fold(record.value for record in records)
            if moved := self._moved([each.id for each in functions]):
                await self._ports.append(moved)
                self.fold(record.value for record in moved)
        return Synced(app.name, len(functions), modified=bool(records))

    def _earlier(self, app: AppRegistration) -> list[FunctionRegistered]:
        """Return the refused functions of an app as they were registered before, at the URL that it has now."""
        stored = (self._stored.get(each.id) for each in app.refused)
        found = [each for each in stored if each and each.app == app.topic_name and each.endpoint and not each.retired]
        url = without_query(app.functions[0].url if app.functions else app.url)
        return [_moved_to(each, url, release="", replaced=()) for each in found]

    def _moved(self, functions: Sequence[str]) -> list[NewRecord]:
        """Return the records by which the retired functions of an app, whose open runs continue, move to its URL."""
        if not functions:
            return []
        current = self._stored[functions[0]]
        url = without_query(current.endpoint)
        common = {"release": current.release, "replaced": current.replaced}
        moved = [
            _moved_to(each, url, **common)
            for each in self._stored.values()
            if each.app == current.app and each.retired and each.endpoint and without_query(each.endpoint) != url
        ]
        return [NewRecord(FUNCTIONS, 0, each.id.encode(), encode(each)) for each in moved]

    async def remove(self, url: str) -> bool:
        """Retire the functions of the app at a URL, and forget what is wrong with it; return whether one is there."""
        names = {
            each.app
            for each in self._stored.values()
            if not each.retired and without_query(each.endpoint) == without_query(url)
        }
        for name in names:
            self.failures.registered(name, url)
            async with self._writing:
                records = changes({name: ()}, list(self._values.values()))
                await self._ports.append(records)
                self.fold(record.value for record in records)
        return bool(names)

    async def _check(self, app: str, functions: Sequence[FunctionRegistered]) -> None:
        others = (each for each in self._stored.values() if each.app == app and not each.endpoint and not each.retired)
        if any(others) and await self._ports.serves(app):
            raise Conflict(f"workers that run Python code serve an app {app!r}; rename one of them")
        for function, owner in owners(app, [each.id for each in functions], self._values.values()).items():
            if self._is_remote(function) or await self._ports.serves(owner):
                raise Conflict(f"function {function!r} of app {app!r} is a function of app {owner!r}; change its id")

    def _is_remote(self, function: str) -> bool:
        return bool(self._stored[function].endpoint)


def _moved_to(function: FunctionRegistered, url: str, **more: Any) -> FunctionRegistered:
    endpoint = function.endpoint.replace(without_query(function.endpoint), url, 1)
    return replace(function, endpoint=endpoint, **more)
