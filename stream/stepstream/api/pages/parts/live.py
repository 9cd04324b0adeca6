"""What keeps a page current: the element that connects it to its stream, and the parts that the stream replaces."""

import htpy as h
from starlette.responses import Response

from stepstream.api.pages.parts.components import Query, url
from stepstream.api.pages.parts.context import Site, Visit
from stepstream.api.streams import Compose

AFTER = "after"


def live_part(mark: str, path: tuple[str, ...], query: Query) -> h.Element:
    """Return the element that keeps the page current, and says so when it cannot; without scripts it shows nothing.

    The stream of the path sends what changes after `mark`, which must be taken before the page is read.
    """
    return h.div("#live", data_live=url(*path, query=[*query, (AFTER, mark)]))[
        h.p("#live-state", role="status", hidden=True)
    ]


def stream(site: Site, visit: Visit, compose: Compose) -> Response:
    """Answer with the stream of a page, which continues after the last message that the browser has."""
    last_id = visit.request.headers.get("last-event-id") or visit.param(AFTER)
    return site.streams.respond(compose, last_id)


def partial(id: str, content: h.Node) -> str:
    """Return what replaces the element with this id, if the page has it, but keeps the focus and what is open."""
    return f'<hx-partial id="{id}" hx-swap="outerMorph">{content}</hx-partial>'
