"""The pages of events: what each started, resumed and cancelled, what matched nothing, and the form that sends one."""

from collections.abc import Mapping, Sequence

import htpy as h
from starlette.responses import Response

from stepstream.api.pages.event_form import SENDER, event_form, send_entered
from stepstream.api.pages.parts.components import (
    Column,
    at,
    event_link,
    event_url,
    facts,
    filter_url,
    known_params,
    labelled,
    listing,
    note,
    row,
    run_link,
    run_state,
    text,
    text_field,
    url,
)
from stepstream.api.pages.parts.context import PageError, Site, Visit, html, see_done
from stepstream.api.pages.parts.fields import ACCEPTED, Refusal
from stepstream.api.pages.parts.json_tree import json_tree
from stepstream.api.pages.parts.layout import document
from stepstream.contract.codec import Json
from stepstream.contract.errors import InvalidInput
from stepstream.contract.ids import is_run_id, sender_of_event
from stepstream.runtime.overview import UnmatchedEvent
from stepstream.runtime.readmodel.tables.seen_events import (
    EFFECTS_MAX,
    Cancelled,
    EventPage,
    Resumed,
    SeenEvent,
    Started,
    WholeEvent,
    is_row_number,
)

ROWS = 50
_SHOWN = 3
_TABS = (
    ("", "started runs"),
    ("resumed", "resumed runs"),
    ("cancelled", "cancelled runs"),
    ("unmatched", "matched nothing"),
)
_COLUMNS = (Column("Event"), *labelled("Name", "Accepted", "Started", "Resumed", "Cancelled"))
_UNMATCHED = (Column("Event"), *labelled("Name", "Sent"), Column("Why", "wide", "why"))
_REASON_CHARACTERS = 1_000


async def show_events(site: Site, visit: Visit) -> Response:
    """Answer with a page of the list."""
    return await _events_page(site, visit, ACCEPTED)


async def send_event(site: Site, visit: Visit, form: Mapping[str, str]) -> Response:
    """Send the event of the form and lead to it, or show the form again with what is wrong."""
    try:
        id = await send_entered(site, visit, form)
    except InvalidInput as error:
        return await _events_page(site, visit, Refusal("", form, error.field, error.reason))
    return see_done(visit, event_url(id), "sent")


async def _events_page(site: Site, visit: Visit, refusal: Refusal) -> Response:
    asked = known_params(visit, "kind", "name", "before")
    if asked["kind"] not in dict(_TABS):
        raise PageError(400, f"kind {asked['kind']!r} is not one of {', '.join(kind for kind, _ in _TABS if kind)}")
    form = event_form(visit, url("events"), refusal)
    content = [
        h.h1["Events"],
        h.details(open=bool(refusal.reason))[h.summary["Send an event"], form] if form else None,
        h.ul(".tabs", aria_label="What the events did")[
            [
                h.li[
                    h.a(href=_list_url(kind, asked["name"]), aria_current="true" if kind == asked["kind"] else None)[
                        name
                    ]
                ]
                for kind, name in _TABS
            ]
        ],
        _unmatched(site.engine.unmatched()) if asked["kind"] == "unmatched" else await _seen_list(site, asked),
    ]
    counts = await site.runs.queries.counts()
    return html(document(visit, "Events", "Events", counts, *content), 400 if refusal.reason else 200)


def _list_url(kind: str, name: str, before: str = "") -> str:
    return url("events", query=[("kind", kind), ("name", name), ("before", before)])


async def _seen_list(site: Site, asked: Mapping[str, str]) -> h.Node:
    kind, name, before = asked["kind"], asked["name"], asked["before"]
    if before and not (is_row_number(before) if kind else is_run_id(before)):
        raise PageError(400, f"before {before!r} is not the end of a page")
    queries = site.runs.queries
    asked_of = {"resumed": queries.resuming_events, "cancelled": queries.cancelling_events}
    page = await asked_of.get(kind, queries.starting_events)(name, before=before, limit=ROWS)
    return [
        h.form(".filters", action=url("events"), role="search", aria_label="Find events")[
            h.input(type="hidden", name="kind", value=kind) if kind else None,
            text_field("name", "Name", name),
            h.button["Find"],
            h.a(href=_list_url(kind, ""))["Clear"],
        ],
        _table(page, site.now_ms()) if page.events else note(_nothing(asked, page)),
        h.nav(".pages", aria_label="Pages of the list")[
            h.a("#earlier", href=_list_url(kind, name))["Newest events"] if before else None,
            h.a("#later", href=_list_url(kind, name, page.next))["Older events"] if page.next else None,
        ],
    ]


def _nothing(asked: Mapping[str, str], page: EventPage) -> str:
    if page.next:
        return "None of the runs that were examined has such an event; older ones may."
    did = f"{asked['kind'] or 'started'} a run"
    return f"No event of this name {did}." if asked["name"] else f"No event {did} yet."


def _table(page: EventPage, now_ms: int) -> h.Element:
    return listing("Table of events", _COLUMNS, [_row(event, now_ms) for event in page.events])


def _row(event: SeenEvent, now_ms: int) -> h.Element:
    return row(
        _COLUMNS,
        event_link(event.id),
        text(event.name),
        at(event.at),
        _some([_started(each, now_ms) for each in event.started]),
        _some([_resumed(each) for each in event.resumed]),
        _some([_cancelled(each) for each in event.cancelled]),
    )


def _some(items: Sequence[h.Node]) -> h.Node:
    more = len(items) - _SHOWN
    # More than EFFECTS_MAX are not read.
    rest = f"{more} more" if len(items) < EFFECTS_MAX else f"{more} or more others"
    return h.ul(".plain")[[h.li[item] for item in items[:_SHOWN]], h.li[rest] if more > 0 else None] if items else None


def _started(each: Started, now_ms: int) -> h.Node:
    return [run_link(each.run_id), " ", text(each.function), " ", run_state(each, now_ms)]


def _resumed(each: Resumed) -> h.Node:
    return [run_link(each.run_id), " ", text(each.function), ", step ", text(each.id)]


def _cancelled(each: Cancelled) -> h.Node:
    return [run_link(each.run_id), " ", text(each.function)]


def _unmatched(events: Sequence[UnmatchedEvent] | None) -> h.Node:
    if events is None:
        return note(
            [
                "An engine on Kafka keeps no record of events that match nothing. ",
                h.code["stepstream dev"],
                " lists them here, each with the reason.",
            ]
        )
    if not events:
        return note("Each event that was sent to this process since its start has matched something.")
    rows = [
        row(
            _UNMATCHED,
            event_link(event.id),
            text(event.name),
            at(event.at),
            text(event.reason, _REASON_CHARACTERS),
        )
        for event in events
    ]
    return [
        h.p(".hint")["The latest events that were sent to this process and started, resumed and cancelled nothing."],
        listing("Events that matched nothing", _UNMATCHED, rows),
    ]


async def show_event(site: Site, visit: Visit) -> Response:
    """Answer with the page of an event."""
    asked = known_params(visit, "id", "done")
    found = await site.runs.queries.event(asked["id"])
    is_sent = bool(visit.done(event_url(asked["id"])))
    was_sent = note("The event was sent.", "good") if is_sent else None
    counts = await site.runs.queries.counts()
    if found is None:
        unmatched = next((each for each in site.engine.unmatched() or () if each.id == asked["id"]), None)
        reason = f"It matched nothing: {unmatched.reason}" if unmatched else _UNKNOWN
        said = [h.h1[text(asked["id"])], was_sent, note(text(reason, _REASON_CHARACTERS))]
        status = 200 if is_sent or unmatched else 404
        return html(document(visit, "Event", "Events", counts, *said), status)
    seen, value = found.seen, found.value if isinstance(found.value, dict) else {}
    sent_at, meta = value.get("ts"), value.get("meta")
    sender = meta.get(SENDER) if isinstance(meta, dict) else None
    did = "Accepted" if seen.started else "Resumed" if seen.resumed else "Cancelled"
    content: list[h.Node] = [
        h.h1[text(seen.name)],
        was_sent,
        facts(
            [
                ("Id", text(seen.id)),
                ("Time of the event", at(sent_at) if isinstance(sent_at, int) else None),
                ("Sent by", text(sender) if isinstance(sender, str) else None),
                ("Sent by run", run_link(run_id) if (run_id := sender_of_event(seen.id)) else None),
                (did, at(seen.at)),
            ]
        ),
        _effects("Started", [_started(each, site.now_ms()) for each in seen.started]),
        _effects("Resumed", [_resumed(each) for each in seen.resumed]),
        _effects("Cancelled", [_cancelled(each) for each in seen.cancelled]),
        h.p[h.a(href=filter_url("event_id", seen.id))["All runs of the event"]],
        h.section[h.h2["Data"], _data(found, value.get("data"))],
    ]
    return html(document(visit, f"Event {seen.name}", "Events", counts, *content))


def _data(found: WholeEvent, data: Json) -> h.Node:
    if not found.part:
        return note("The data of an event is kept with the runs that it starts or resumes, not with those it cancels.")
    return json_tree(data, "Data of the event", url("runs", found.run_id, "raw", query=[("part", found.part)]))


_UNKNOWN = (
    "Nothing that is kept was started, resumed or cancelled by this event. If it was sent a moment ago, reload this "
    "page; else it matched nothing, or its runs were dropped after their retention."
)


def _effects(heading: str, items: Sequence[h.Node]) -> h.Node:
    if not items:
        return None
    return h.section[
        h.h2[heading],
        h.ul(".plain")[[h.li(data_row=True)[item] for item in items]],
        h.p[f"{EFFECTS_MAX} are listed; there may be more."] if len(items) == EFFECTS_MAX else None,
    ]
