"""Workers and shards as one process sees them: which run, what waits for them, and how far shards are."""

import dataclasses
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fastapi import FastAPI
from fastapi.params import Depends

from stepstream.api.facade import EngineFacade
from stepstream.contract.text.names import workers_name
from stepstream.contract.topics import HISTORY
from stepstream.runtime.metrics import Reading
from stepstream.runtime.overview import RunningWorker, ShardView

# On Kafka, each name is a request to a broker.
WORKERS_MAX = 100
MEMBERS_MAX = 100


@dataclass(frozen=True, slots=True)
class RunningVersions:
    """How many workers run with these versions of stepstream and Python; "" if they are unknown."""

    stepstream: str
    python: str
    workers: int


@dataclass(frozen=True, slots=True)
class WorkersView:
    """The workers of an app, or of one of its queues.

    `running` is None if no broker answered in time. `waiting` is the number of commands that are not acknowledged, None
    if another engine measures it. `releases` are those of the registered functions; retired ones do not count.
    `running_releases` has the number of running workers by their release, without those whose release is unknown, and
    `running_versions` by the versions of stepstream and Python with which they run. `members` are the first MEMBERS_MAX
    of them whose client id is known.
    """

    name: str
    app: str
    queue: str
    running: int | None
    waiting: int | None
    functions: int
    releases: Sequence[str]
    running_releases: Mapping[str, int]
    running_versions: Sequence[RunningVersions]
    members: Sequence[RunningWorker]


@dataclass(frozen=True, slots=True)
class ShardStatus:
    """A shard with what this process measures of it, None for the rest.

    `left_rows` is what a recovery has left of the changelog, `waiting` are the records that wait in its inputs, and
    `oldest_s` is the age of the oldest one; its own engine measures these. `copy_rows` is how many rows a warm copy in
    this process is behind.
    """

    view: ShardView
    left_rows: int | None
    waiting: int | None
    oldest_s: float | None
    copy_rows: int | None


async def workers_views(engine: EngineFacade) -> Sequence[WorkersView]:
    """Return the workers of the registered functions, ordered by name, WORKERS_MAX at most."""
    functions = [each for each in engine.overview.functions() if not each.retired]
    places = {workers_name(each.app, queue): (each.app, queue) for each in functions for queue in ("", *each.queues)}
    names = sorted(places)[:WORKERS_MAX]
    running = await engine.workers(names) if names else {}
    waiting = _sums(engine.readings(), "commands_lag_records")
    found: list[WorkersView] = []
    for name in names:
        app, queue = places[name]
        own = [each for each in functions if each.app == app]
        releases = sorted({each.release for each in own if each.release})
        lag, workers = waiting.get(name), running.get(name)
        found.append(
            WorkersView(
                *(name, app, queue, None if workers is None else len(workers), None if lag is None else int(lag)),
                *(len(own), releases, dict(Counter(sorted(each.release for each in workers or () if each.release)))),
                _versions(workers or ()),
                _members(workers or ()),
            )
        )
    return found


def _versions(workers: Sequence[RunningWorker]) -> Sequence[RunningVersions]:
    counts = Counter((each.stepstream, each.python) for each in workers)
    return [RunningVersions(*versions, count) for versions, count in sorted(counts.items())]


def _members(workers: Sequence[RunningWorker]) -> Sequence[RunningWorker]:
    known = [each for each in workers if each.client]
    return sorted(known, key=lambda each: (each.host, each.client))[:MEMBERS_MAX]


def shard_views(engine: EngineFacade) -> Sequence[ShardStatus]:
    """Return all shards, in order."""
    readings = list(engine.readings())
    inputs = [each for each in readings if each.labels[-1:] != (HISTORY,)]
    lags, oldest = _sums(inputs, "input_lag_records"), _sums(readings, "input_oldest_seconds")
    left, copies = _sums(readings, "recovery_left_rows"), _sums(readings, "standby_lag_rows")

    def rows(values: Mapping[str, float], shard: int) -> int | None:
        return int(values[str(shard)]) if str(shard) in values else None

    return [
        ShardStatus(
            view,
            rows(left, view.shard),
            rows(lags, view.shard),
            oldest.get(str(view.shard)) if view.is_own else None,
            rows(copies, view.shard),
        )
        for view in engine.overview.shards()
    ]


def history_lag(engine: EngineFacade) -> int | None:
    """Return how many records of history the list of runs has not read; None if that is not measured now."""
    found = [
        each.value for each in engine.readings() if each.name == "input_lag_records" and each.labels[-1] == HISTORY
    ]
    return int(sum(found)) if found else None


def _sums(readings: Iterable[Reading], name: str) -> dict[str, float]:
    """Return the values of a gauge by its first label, added."""
    found: dict[str, float] = {}
    for each in readings:
        if each.name == name:
            found[each.labels[0]] = found.get(each.labels[0], 0) + each.value
    return found


def add_workers(api: FastAPI, engine: EngineFacade, guarded: Sequence[Depends]) -> None:
    """Add the routes."""

    @api.get("/v1/workers", dependencies=guarded, summary="List the workers of each app and queue, by name")
    async def list_workers() -> dict[str, Any]:
        return {"workers": [dataclasses.asdict(view) for view in await workers_views(engine)]}

    @api.get("/v1/shards", dependencies=guarded, summary="List the shards as this engine sees them")
    async def list_shards() -> dict[str, Any]:
        return {"shards": [dataclasses.asdict(view) for view in shard_views(engine)], "history": history_lag(engine)}
