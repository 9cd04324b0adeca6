"""What the engine is told of the functions of some apps: those that are new or changed, and those that are gone."""

import hashlib
from collections.abc import Iterable, Sequence

from msgspec.structs import replace

from stepstream.contract.codec import encode
from stepstream.contract.functions import FunctionRegistered, readable_functions
from stepstream.contract.limits import RELEASES_REPLACED_MAX
from stepstream.contract.names import workers_name
from stepstream.contract.topics import FUNCTIONS
from stepstream.runtime.ports import NewRecord
from stepstream.sdk.app import App
from stepstream.sdk.errors import DefinitionError


def check_apps(apps: Sequence[App]) -> None:
    """Raise DefinitionError where some apps, their functions or queues get in each other's way."""
    names = [app.name for app in apps]
    if twice := {name for name in names if names.count(name) > 1}:
        raise DefinitionError(f"two apps are named {twice.pop()!r}; give one of them another name")
    own = [function.registration() for app in apps for function in app]
    owners: dict[str, str] = {}
    for record in own:
        if (other := owners.setdefault(record.id, record.app)) != record.app:
            raise DefinitionError(
                f"apps {other!r} and {record.app!r} both define a function {record.id!r}; give one of them another id="
            )
    _check_queues(own)


def release_of(app: App) -> str:
    """Return a digest of all that the engine is told of an app."""
    records = sorted((function.registration() for function in app), key=lambda record: record.id)
    return hashlib.sha256(b"\n".join(map(encode, records))).hexdigest()[:12]


def replaced_by(app: App, stored: Iterable[bytes]) -> str:
    """Return the release that took the place of this one, or nothing where this one is new, or the latest."""
    latest = _latest(app, readable_functions(stored))
    return latest.release if latest and release_of(app) in latest.replaced else ""


def owners(app: App, stored: Iterable[bytes]) -> dict[str, str]:
    """Return which functions of an app are those of another app now: id to app."""
    known = {record.id: record for record in readable_functions(stored) if record.app != app.name}
    found = {function.id: known[function.id] for function in app if function.id in known}
    return {id: record.app for id, record in found.items() if not record.retired}


def _latest(app: App, records: Iterable[FunctionRegistered]) -> FunctionRegistered | None:
    of_app = [record for record in records if record.app == app.name]
    return of_app[-1] if of_app else None


def registrations(apps: Sequence[App], stored: Iterable[bytes]) -> list[NewRecord]:
    """Return the records to append to `functions`, which holds `stored`, the oldest first.

    Raises DefinitionError where a queue gets in the way of an app of others.
    """
    known = {record.id: record for record in _in_order(stored)}
    own = [record for app in apps for record in _release(app, known.values())]
    names = {app.name for app in apps}
    _check_queues([*own, *(old for old in known.values() if old.app not in names)])
    changed = [record for record in own if known.get(record.id) != record]
    return [NewRecord(FUNCTIONS, 0, record.id.encode(), encode(record)) for record in changed]


def _in_order(stored: Iterable[bytes]) -> list[FunctionRegistered]:
    """Return the last record of each function, in the order in which these were written."""
    last: dict[str, FunctionRegistered] = {}
    for record in readable_functions(stored):
        last.pop(record.id, None)
        last[record.id] = record
    return list(last.values())


def _release(app: App, known: Iterable[FunctionRegistered]) -> list[FunctionRegistered]:
    """Return the functions of an app as its release has them, those that it has no more among them."""
    before = [record for record in known if record.app == app.name]
    release, replaced = release_of(app), before[-1].replaced if before else ()
    if before and before[-1].release != release:
        replaced = tuple(each for each in (*replaced, before[-1].release) if each not in ("", release))
    own = {function.id: function.registration() for function in app}
    gone = [replace(old, retired=True) for old in before if old.id not in own and not old.retired]
    told = {"release": release, "replaced": replaced[-RELEASES_REPLACED_MAX:]}
    return [replace(record, **told) for record in (*own.values(), *gone)]


def _check_queues(records: Sequence[FunctionRegistered]) -> None:
    """An app whose name is that of another with its queue would get the other's commands."""
    apps = {record.app for record in records}
    for record in records:
        for queue in record.queues:
            if (name := workers_name(record.app, queue)) in apps:
                raise DefinitionError(
                    f"queue {queue!r} of app {record.app!r} has the topic of app {name!r}; give it another name"
                )
