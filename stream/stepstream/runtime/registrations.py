"""What the engine is told of the functions of some apps: those that are new or changed, and those that are gone."""

from collections.abc import Iterable, Sequence

import msgspec

from stepstream.contract.codec import encode
from stepstream.contract.functions import FunctionRegistered, readable_functions
from stepstream.contract.topics import FUNCTIONS, workers_name
from stepstream.runtime.ports import NewRecord
from stepstream.sdk.app import App
from stepstream.sdk.errors import DefinitionError


def check_apps(apps: Sequence[App]) -> None:
    """Raise DefinitionError where some apps, their functions or queues get in each other's way."""
    names = [app.name for app in apps]
    if twice := {name for name in names if names.count(name) > 1}:
        raise DefinitionError(f"two apps are named {twice.pop()!r}; give one of them another name")
    own = _registered(apps)
    owners: dict[str, str] = {}
    for record in own:
        if (other := owners.setdefault(record.id, record.app)) != record.app:
            raise DefinitionError(
                f"apps {other!r} and {record.app!r} both define a function {record.id!r}; give one of them another id="
            )
    _check_queues(own)


def registrations(apps: Sequence[App], stored: Iterable[bytes]) -> list[NewRecord]:
    """Return the records to append to `functions`, which holds `stored`, the oldest first.

    Raises DefinitionError where a queue gets in the way of an app of others.
    """
    known = {record.id: record for record in readable_functions(stored)}
    own = _registered(apps)
    ids, names = {record.id for record in own}, {app.name for app in apps}
    _check_queues([*own, *(old for old in known.values() if old.app not in names)])
    gone = [
        msgspec.structs.replace(old, retired=True)
        for old in known.values()
        if old.app in names and old.id not in ids and not old.retired
    ]
    changed = [record for record in own if known.get(record.id) != record] + gone
    return [NewRecord(FUNCTIONS, 0, record.id.encode(), encode(record)) for record in changed]


def _registered(apps: Sequence[App]) -> list[FunctionRegistered]:
    return [function.registration() for app in apps for function in app]


def _check_queues(records: Sequence[FunctionRegistered]) -> None:
    """An app whose name is that of another with its queue would get the other's commands."""
    apps = {record.app for record in records}
    for record in records:
        for queue in record.queues:
            if (name := workers_name(record.app, queue)) in apps:
                raise DefinitionError(
                    f"queue {queue!r} of app {record.app!r} has the topic of app {name!r}; give it another name"
                )
