"""The page of workers and shards: which run, what waits, and how far each shard is."""

from collections.abc import Mapping, Sequence

import htpy as h
from starlette.responses import Response

from stepstream import __version__
from stepstream.api.pages.parts.components import Column, known_params, listing, note, row, text, url
from stepstream.api.pages.parts.context import PageError, Site, Visit, html, see_done
from stepstream.api.pages.parts.fields import ACCEPTED, Refusal
from stepstream.api.pages.parts.layout import document
from stepstream.api.pages.scope_forms import (
    change_pause,
    pause_changes,
    pause_form,
    pause_message,
    pause_of_scope,
    pause_text,
)
from stepstream.api.routes.workers import (
    WORKERS_MAX,
    RunningVersions,
    ShardStatus,
    WorkersView,
    history_lag,
    shard_views,
    workers_views,
)
from stepstream.contract.errors import InvalidInput
from stepstream.contract.operators.control import queue_scope
from stepstream.contract.text.printable import printable
from stepstream.contract.text.wording import counted, duration_text
from stepstream.runtime.overview import THIS_PROCESS, Overview
from stepstream.runtime.readmodel.search.filters import Filter

_WORKERS = (
    Column("App or queue"),
    Column("Running", label="running"),
    Column("Lag (commands)", "number", "lag", "Commands that wait for a worker"),
    Column("Functions", "number", "functions"),
    Column("Release", label="release"),
    Column("Versions"),
    Column("Pause"),
)
_SHARDS = (
    Column("Shard", label="shard"),
    Column("Engine", label="engine"),
    Column("State"),
    Column("Left to recover", "number", "left to recover"),
    Column("Lag (records)", "number", "lag", "Records that wait in the inputs of the shard"),
    Column("Age of the oldest record", "number", "oldest record", "How long the first of these records has waited"),
    Column("Standby lag", "number", "standby lag", "Rows that the warm copy in this engine has not read"),
)
_OF_WORKERS = (
    "A worker is a process that runs the code of an app, or the steps of one of its queues. Each app and queue is "
    "listed with its workers, and with the commands that wait for one (its lag)."
)
_OF_SHARDS = (
    "A shard is a part of the runs and their limits: one engine at a time serves it, and processes its records."
)
_REASON_CHARACTERS = 1_000
_OPEN = Filter().having("status", "open")


async def show_workers(site: Site, visit: Visit) -> Response:
    """Answer with the page."""
    known_params(visit, "done")
    return await _workers_page(site, visit, ACCEPTED)


async def pause_queue(site: Site, visit: Visit, form: Mapping[str, str]) -> Response:
    """Pause or resume a queue; or show the form again with what is wrong."""
    name = visit.param("name")
    view = next((each for each in await workers_views(site.engine) if each.queue and each.name == name), None)
    if view is None:
        raise PageError(404, "There is no queue of this name.")
    try:
        done = await change_pause(site, visit, form, queue_scope(view.app, view.queue))
    except InvalidInput as error:
        return await _workers_page(site, visit, Refusal(name, form, error.field, error.reason))
    return see_done(visit, url("workers"), done)


async def _workers_page(site: Site, visit: Visit, refusal: Refusal) -> Response:
    workers, shards, lag = await workers_views(site.engine), shard_views(site.engine), history_lag(site.engine)
    unready = site.engine.unready()
    content = [
        pause_message(visit.done(url("workers"))),
        h.h1["Workers and shards"],
        note(["This engine is not ready: ", text(unready, _REASON_CHARACTERS)], "bad") if unready else None,
        _mixed(workers),
        h.h2["Workers"],
        h.p(".hint")[_OF_WORKERS],
        _workers_table(site, visit, workers, refusal) if workers else note(_no_workers(shards)),
        h.h2["Shards"],
        h.p(".hint")[_OF_SHARDS],
        _shards_table(shards),
        h.p(".hint")[_seen(shards)],
        h.p(".hint")[
            "The list of runs is up to date."
            if not lag
            else f"The list of runs is {counted(lag, 'record')} of history behind."
        ]
        if lag is not None
        else None,
    ]
    page = document(visit, "Workers and shards", "Workers", await site.runs.queries.counts(), *content)
    return html(page, 400 if refusal.reason else 200)


def _no_workers(shards: Sequence[ShardStatus]) -> str:
    if any(shard.view.is_own and not shard.view.unready for shard in shards):
        return "No function is registered yet: start a worker."
    return "This engine serves no shard now, so it does not know which workers exist; ask another engine."


def _workers_table(site: Site, visit: Visit, workers: Sequence[WorkersView], refusal: Refusal) -> h.Node:
    cut = len(workers) == WORKERS_MAX
    # Apps have no pause of their own.
    columns = _WORKERS if any(each.queue for each in workers) else _WORKERS[:-1]
    rows = [_worker_row(columns, each, _pause(visit, each, site.engine.overview, refusal)) for each in workers]
    return [
        listing("Table of workers", columns, rows),
        h.p(".hint")[f"The first {WORKERS_MAX} names are listed; there may be more."] if cut else None,
    ]


def _pause(visit: Visit, view: WorkersView, known: Overview, refusal: Refusal) -> h.Node:
    """Return the pause of a queue, the form that changes it, and who did before."""
    if not view.queue:
        return None
    scope = queue_scope(view.app, view.queue)
    pause, changes = pause_of_scope(known.pauses(), scope), pause_changes(known.pause_changes(scope))
    action, own = url("queue", "pause", query=[("name", view.name)]), refusal.of(view.name)
    form = pause_form(visit, action, f"the queue {printable(view.name)}", pause, own, f"pause-{view.name}")
    return [h.span(".warn")[pause_text(pause)] if pause else None, form, changes]


def _worker_row(columns: Sequence[Column], view: WorkersView, pause: h.Node) -> h.Element:
    option = f" --queue {view.queue}" if view.queue else ""
    down = h.span(".bad")["none; start one with ", h.code[text(f"stepstream worker FILE{option}")]]
    up = "unknown: no broker answered" if view.running is None else f"{view.running:,}"
    cells: Sequence[h.Node] = (
        h.a(href=url("runs", query=[("filter", str(_OPEN.having("app", view.app)))]))[text(view.name)],
        [down if view.running == 0 else up, _members(view) if view.members else None],
        _measured(view.waiting),
        f"{view.functions:,}",
        _releases(view),
        [h.div[text(_version(each, view.running or 0))] for each in view.running_versions],
        pause,
    )
    return row(columns, *cells[: len(columns)])


def _members(view: WorkersView) -> h.Element:
    more = (view.running or 0) - len(view.members)
    return h.details[
        h.summary["which"],
        h.ul(".plain")[
            [h.li[h.code[text(each.client)], " on ", text(each.host)] for each in view.members],
            h.li[f"{more:,} more"] if more > 0 else None,
        ],
    ]


def _version(versions: RunningVersions, running: int) -> str:
    known = f"stepstream {versions.stepstream}, Python {versions.python}" if versions.stepstream else "unknown"
    return known if versions.workers == running else f"{counted(versions.workers, 'worker')}: {known}"


def _mixed(workers: Sequence[WorkersView]) -> h.Node:
    """Return a notice if the workers, or a worker and this engine, run different versions."""
    running = [each for view in workers for each in view.running_versions if each.stepstream]
    found = {
        "stepstream": {__version__, *(each.stepstream for each in running)},
        "Python": {each.python for each in running},
    }
    mixed = [f"{name} {', '.join(sorted(versions))}" for name, versions in found.items() if len(versions) > 1]
    return note(["Different versions run in this cluster: ", text("; ".join(mixed), 1_000)], "warn") if mixed else None


def _releases(view: WorkersView) -> h.Node:
    """Return the registered release, and the running workers of others: during a rollout, or because one is left."""
    others = [(release, count) for release, count in view.running_releases.items() if release not in view.releases]
    return [
        h.code[text(" ".join(view.releases))],
        [h.span(".warn")[f" {counted(count, 'worker')} of ", h.code[text(release)]] for release, count in others],
    ]


def _measured(value: int | None) -> str:
    return "not measured by this engine" if value is None else f"{value:,}"


def _shards_table(shards: Sequence[ShardStatus]) -> h.Element:
    has_copies = any(shard.copy_rows is not None for shard in shards)
    columns = _SHARDS if has_copies else _SHARDS[:-1]
    return listing("Table of shards", columns, [_shard_row(columns, shard) for shard in shards])


def _shard_row(columns: Sequence[Column], shard: ShardStatus) -> h.Element:
    view = shard.view
    state = "serves" if view.owner else "unknown"
    is_named = view.is_own and view.owner != THIS_PROCESS
    cells: Sequence[h.Node] = (
        f"{view.shard}",
        [text(view.owner) if view.owner else None, " (this engine)" if is_named else None],
        h.span(".bad")[text(view.unready, _REASON_CHARACTERS)] if view.unready else state,
        f"{shard.left_rows:,} rows" if shard.left_rows is not None else None,
        f"{shard.waiting:,}" if shard.waiting is not None else None,
        duration_text(shard.oldest_s * 1_000) if shard.oldest_s is not None else None,
        f"{shard.copy_rows:,} rows" if shard.copy_rows is not None else None,
    )
    return row(columns, *cells[: len(columns)])


def _seen(shards: Sequence[ShardStatus]) -> str:
    """Return what this process cannot see."""
    if all(shard.view.is_own for shard in shards):
        return "This process serves all shards."
    if any(not shard.view.owner and not shard.view.unready for shard in shards):
        return (
            "This engine knows its own shards only: it exchanges no heartbeats with other engines, or has received too "
            "few yet."
        )
    return "Each engine measures its own shards; of others, this one knows by heartbeats which engine serves them."
