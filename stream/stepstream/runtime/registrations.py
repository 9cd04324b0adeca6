"""The records of `functions` by which apps register their functions, change them and retire them."""

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from msgspec.structs import replace

from stepstream.contract.codec import encode
from stepstream.contract.functions import FunctionRegistered, readable_functions
from stepstream.contract.limits import RELEASES_REPLACED_MAX
from stepstream.contract.text.names import workers_name
from stepstream.contract.topics import FUNCTIONS
from stepstream.runtime.ports import NewRecord
from stepstream.sdk.errors import DefinitionError
from stepstream.sdk.served import ServedApp


def check_apps(apps: Sequence[ServedApp]) -> None:
    """Raise DefinitionError if the names of apps, functions or queues collide."""
    names = [app.name for app in apps]
    if twice := {name for name in names if names.count(name) > 1}:
        raise DefinitionError(f"two apps are named {twice.pop()!r}; rename one of them")
    own = [function.registration() for app in apps for function in app]
    owners: dict[str, str] = {}
    for record in own:
        if (other := owners.setdefault(record.id, record.app)) != record.app:
            raise DefinitionError(
                f"apps {other!r} and {record.app!r} both define the function {record.id!r}; change the id= of one"
            )
    _check_queues(own)


def release_of(app: ServedApp) -> str:
    """Return a digest of the registrations of an app's functions."""
    return _digest(function.registration() for function in app)


def _digest(records: Iterable[FunctionRegistered]) -> str:
    in_order = sorted(records, key=lambda record: record.id)
    return hashlib.sha256(b"\n".join(map(encode, in_order))).hexdigest()[:12]


def replaced_by(app: ServedApp, stored: Iterable[bytes]) -> str:
    """Return the release that replaced this one, or "" if this one is new or the latest."""
    latest = _latest(app, readable_functions(stored))
    return latest.release if latest and release_of(app) in latest.replaced else ""


def owners(app: str, functions: Iterable[str], stored: Iterable[bytes]) -> dict[str, str]:
    """Return those functions of an app that another app has registered: id to app."""
    known = {record.id: record for record in readable_functions(stored) if record.app != app}
    found = {id: known[id] for id in functions if id in known}
    return {id: record.app for id, record in found.items() if not record.retired}


def _latest(app: ServedApp, records: Iterable[FunctionRegistered]) -> FunctionRegistered | None:
    of_app = [record for record in records if record.app == app.name]
    return of_app[-1] if of_app else None


def registrations(apps: Sequence[ServedApp], stored: Iterable[bytes]) -> list[NewRecord]:
    """Return the records to append to `functions`, which contains `stored`, oldest first.

    Raise DefinitionError if a queue collides with another app.
    """
    return changes({app.name: [function.registration() for function in app] for app in apps}, stored)


def changes(apps: Mapping[str, Sequence[FunctionRegistered]], stored: Iterable[bytes]) -> list[NewRecord]:
    """Return the records to append so that these apps have exactly these functions; see `registrations`."""
    known = {record.id: record for record in _in_order(stored)}
    own = [record for app, functions in apps.items() for record in _release(app, functions, known.values())]
    _check_queues([*own, *(old for old in known.values() if old.app not in apps)])
    changed = [record for record in own if known.get(record.id) != record]
    return [NewRecord(FUNCTIONS, 0, record.id.encode(), encode(record)) for record in changed]


def describe_changes(stored: Iterable[bytes], records: Iterable[NewRecord]) -> str:
    """Return what records change in `functions`: "1 new, 2 changed, 1 retired", or "no function changed".

    Every record of a release carries its digest, so a record alone does not mean that its function changed.
    """
    known = {record.id: replace(record, release="", replaced=()) for record in readable_functions(stored)}
    counts = Counter[str]()
    for record in readable_functions(each.value for each in records):
        old = known.get(record.id)
        if record.retired:
            counts["retired"] += 1
        elif old is None or old.retired:
            counts["new"] += 1
        elif old != replace(record, release="", replaced=()):
            counts["changed"] += 1
    return ", ".join(f"{counts[kind]} {kind}" for kind in ("new", "changed", "retired") if counts[kind]) or (
        "no function changed"
    )


def _in_order(stored: Iterable[bytes]) -> list[FunctionRegistered]:
    """Return the last record of each function, in the order in which they were written."""
    last: dict[str, FunctionRegistered] = {}
    for record in readable_functions(stored):
        last.pop(record.id, None)
        last[record.id] = record
    return list(last.values())


def _release(
    app: str, functions: Sequence[FunctionRegistered], known: Iterable[FunctionRegistered]
) -> list[FunctionRegistered]:
    """Return the functions of an app in this release, and those that it retires."""
    before = [record for record in known if record.app == app]
    release, replaced = _digest(functions), before[-1].replaced if before else ()
    if before and before[-1].release != release:
        replaced = tuple(each for each in (*replaced, before[-1].release) if each not in ("", release))
    own = {function.id: function for function in functions}
    gone = [replace(old, retired=True) for old in before if old.id not in own and not old.retired]
    common = {"release": release, "replaced": replaced[-RELEASES_REPLACED_MAX:]}
    return [replace(record, **common) for record in (*own.values(), *gone)]


def _check_queues(records: Sequence[FunctionRegistered]) -> None:
    """Raise DefinitionError if an app has the name of another app's queue: it would receive the queue's commands."""
    apps = {record.app for record in records}
    for record in records:
        for queue in record.queues:
            if (name := workers_name(record.app, queue)) in apps:
                raise DefinitionError(
                    f"queue {queue!r} of app {record.app!r} has the same topic as app {name!r}; rename the queue"
                )
