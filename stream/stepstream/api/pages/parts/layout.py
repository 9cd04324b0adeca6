"""The frame of every page: header, navigation, main part and footer."""

import json
import time
from collections.abc import Mapping, Sequence

import htpy as h

from stepstream import __version__
from stepstream.api.pages.parts.assets import asset_url
from stepstream.api.pages.parts.components import at, text, url
from stepstream.api.pages.parts.context import Visit
from stepstream.api.pages.parts.forms import session_form
from stepstream.api.pages.parts.sessions import Role
from stepstream.contract.kinds import OPEN_RUN_STATUSES, RunStatus
from stepstream.contract.text.printable import printable
from stepstream.runtime.readmodel.queries import OPEN_APPROVALS
from stepstream.runtime.readmodel.search.search import StatusCounts

# htmx evaluates attributes only where they have code; none has, the policy of the page forbids it, and its own style
# sheet is left out. Elements that readers opened stay open when a part of the page is replaced.
_HTMX = json.dumps(
    {
        "includeIndicatorCSS": False,
        "history": False,
        "extensions": "no-eval",
        "morphIgnore": ["open", "hidden", "data-htmx-powered"],
    }
)
_FIND = "Find a run by its id, the end of its id, the id of its event, or the whole value of an attribute"
_ENTRIES = (
    ("Runs", "runs"),
    ("Waiting", "waiting"),
    ("Functions", "functions"),
    ("Performance", "performance"),
    ("Limits", "limits"),
    ("Events", "events"),
    ("Errors", "errors"),
    ("Workers", "workers"),
    ("Dead letters", "dead-letters"),
)
# An engine whose clock is far from that of its machine serves a folder whose clock its events have set.
_CLOCKS_DIFFER_MS = 120_000
_REPLAYED = "Its folder was replayed: its clock was set by the recorded events, and continues from their end."
_KEYS = (
    ("j", "next row"),
    ("k", "previous row"),
    ("o or Enter", "open the row"),
    ("[", "earlier part of the timeline, or newer runs"),
    ("]", "later part of the timeline, or older runs"),
    ("/", "search"),
    ("?", "show or hide these keys"),
)


def document(visit: Visit | None, title: str, current: str, counts: Mapping[str, int], *content: h.Node) -> h.Element:
    """Return a whole page; `current` is the entry of the navigation it belongs to. Strangers see no navigation."""
    known = visit if visit and visit.role != Role.NONE else None
    return h.html(lang="en")[
        h.head[
            h.meta(charset="utf-8"),
            h.meta(name="viewport", content="width=device-width, initial-scale=1"),
            h.meta(name="color-scheme", content="light dark"),
            h.meta(name="htmx-config", content=_HTMX),
            h.title[f"{printable(title)} · stepstream"],
            h.link(rel="stylesheet", href=asset_url("page.css")),
            h.link(rel="icon", href="data:,"),
            h.script(src=asset_url("vendor/htmx.min.js"), defer=True),
            h.script(src=asset_url("page.js"), type="module"),
        ],
        h.body[
            h.a(".skip", href="#main")["Skip to the content"],
            _header(known, current, counts),
            _clock(known) if known else None,
            h.main("#main", tabindex="-1")[content],
            _footer(known),
            _keys(),
        ],
    ]


def _header(visit: Visit | None, current: str, counts: Mapping[str, int]) -> h.Element:
    brand = h.a(".brand", href=url("runs"))["stepstream"]
    if visit is None:
        return h.header(".top")[brand]
    return h.header(".top")[
        brand,
        navigation(current, counts),
        h.form(".find", action=url("find"), role="search", aria_label="Find a run")[
            h.input(
                "#find",
                type="search",
                name="id",
                placeholder="Run id or its end, event id or value",
                title=_FIND,
                aria_label=_FIND,
                autocomplete="off",
            )
        ],
        _visitor(visit),
    ]


def navigation(current: str, counts: Mapping[str, int]) -> h.Element:
    """Return the links to the pages, with the numbers of what is open."""
    still = sum(counts.get(status, 0) for status in OPEN_RUN_STATUSES)
    approvals = counts.get(OPEN_APPROVALS, 0)
    numbers = {
        "Runs": (still, "open", "runs that have not ended"),
        "Waiting": (approvals, "to decide", "approvals that wait for a decision"),
    }
    entries = [(name, url(path), *numbers.get(name, (0, "", ""))) for name, path in _ENTRIES]
    return h.nav("#pages", aria_label="Pages")[
        h.ul[
            [
                h.li[
                    h.a(href=link, aria_current="page" if name == current else None)[
                        name, h.span(".count", title=meaning)[f"{count:,} {what}"] if count else None
                    ]
                ]
                for name, link, count, what, meaning in entries
            ]
        ]
    ]


def _visitor(visit: Visit) -> h.Element | None:
    """Return who reads, what they may do, and the way out."""
    if visit.role == Role.OPERATE and not visit.is_logged_in:
        return None
    leave = session_form(visit, url("logout"), "Log out", h.button["Log out"]) if visit.is_logged_in else None
    return h.div(".visitor")[h.span["read only" if visit.role == Role.READ else text(visit.user)], leave]


def _clock(visit: Visit) -> h.Element:
    """Return the notice that page.js shows to readers whose clock has another time than the engine's."""
    return h.p("#clock", hidden=True, data_now=str(visit.now_ms))[
        "The clock of the engine was at ",
        at(visit.now_ms),
        " when this page was loaded; that of your browser differs. ",
        _REPLAYED if abs(visit.now_ms - time.time() * 1_000) > _CLOCKS_DIFFER_MS else None,
    ]


def _footer(visit: Visit | None) -> h.Element:
    zone = time.strftime("%Z (UTC%z)")
    now = [" · engine time ", at(visit.now_ms)] if visit else None
    return h.footer[f"stepstream {__version__} · times in {zone}", now, " · ", h.kbd["?"], " shows the keys"]


def _keys() -> h.Element:
    return h.dialog("#keys", aria_labelledby="keys-title")[
        h.h2("#keys-title")["Keys"],
        h.dl[[(h.dt[h.kbd[key]], h.dd[what]) for key, what in _KEYS]],
        h.form(method="dialog")[h.button["Close"]],
    ]


# A run that waits has the status running; its row says what it waits for.
_STATUS_WORDS: Mapping[str, str] = {RunStatus.RUNNING: "running or waiting"}


def status_counts(counts: StatusCounts, selected: str, links: Mapping[str, str]) -> h.Element:
    """Return the numbers of runs by status, as far as they are known, each a link that filters by it."""
    shown: Sequence[str] = [status.value for status in RunStatus]

    def number(status: str) -> h.Node:
        runs = counts.runs.get(status, 0)
        return [" ", h.span(".count")[f"{runs:,}{'' if counts.exact else '+'}"]] if runs or counts.exact else None

    return h.ul("#statuses.tabs", aria_label="Runs by status")[
        h.li[h.a(href=links[""], aria_current="true" if not selected else None)["all"]],
        [
            h.li[
                h.a(href=links[status], aria_current="true" if status == selected else None)[
                    _STATUS_WORDS.get(status, status), number(status)
                ]
            ]
            for status in shown
        ],
    ]
