"""What pages read and act on, who visits them, and the answers they share."""

import hashlib
import hmac
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from urllib.parse import urlencode

import htpy as h
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from stepstream.api.approval_links import NO_LINKS, ApprovalLinks
from stepstream.api.bodies import BodyBudget
from stepstream.api.facade import EngineFacade
from stepstream.api.pages.parts.sessions import Role, Session
from stepstream.api.streams import Streams
from stepstream.contract.limits import DEFAULT_LIMITS, Limits
from stepstream.runtime.ports import StoreError
from stepstream.runtime.readmodel.index import RunIndex

_SIGNATURE_CHARACTERS = 32
# How long a URL states what a form did.
DONE_MS = 60_000


@dataclass(frozen=True, slots=True)
class Site:
    """The engine and the read model behind the page; `now_ms` is the time (Unix ms)."""

    engine: EngineFacade
    runs: RunIndex
    bodies: BodyBudget
    now_ms: Callable[[], int]
    streams: Streams
    limits: Limits = DEFAULT_LIMITS
    links: ApprovalLinks = NO_LINKS


@dataclass(frozen=True, slots=True)
class Visit:
    """One request of a visitor: what the visitor may do, who it is (for history), the token of forms, and its time.

    `now_ms` is Unix ms.
    """

    request: Request
    session: Session
    role: Role
    user: str
    token: str
    now_ms: int
    # Whether there is something to log out of.
    is_logged_in: bool = False

    @property
    def may_operate(self) -> bool:
        """Whether pages have forms that act."""
        return self.role == Role.OPERATE

    def param(self, name: str) -> str:
        """Return a parameter of the query, or ""."""
        return self.request.query_params.get(name, "")

    def done(self, page: str) -> str:
        """Return what a form just did that led this session to a page with the URL `page`; "" if none did.

        A crafted URL, one of another session or page, and one that is older than DONE_MS states nothing.
        """
        stated, _, signature = self.param("done").rpartition(".")
        outcome, _, until = stated.rpartition(".")
        expected = self._signature(page, stated)
        known = hmac.compare_digest(signature.encode(errors="replace"), expected.encode())
        return outcome if known and int(until) > self.now_ms else ""

    def done_url(self, page: str, outcome: str) -> str:
        """Return the URL of a page, a URL without `done`, that says what a form did."""
        stated = f"{outcome}.{self.now_ms + DONE_MS}"
        done = urlencode({"done": f"{stated}.{self._signature(page, stated)}"})
        return f"{page}{'&' if '?' in page else '?'}{done}"

    def _signature(self, page: str, stated: str) -> str:
        signed = hmac.new(self.token.encode(), f"{page}\0{stated}".encode(errors="replace"), hashlib.sha256)
        return signed.hexdigest()[:_SIGNATURE_CHARACTERS]


class PageError(Exception):
    """A request that cannot be answered: its status, what is wrong and how to fix it, and what to search for."""

    def __init__(self, status: int, message: str, requested: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.requested = requested


async def known_counts(site: Site, visit: Visit | None) -> Mapping[str, int]:
    """Return the numbers of the header of a page that is shown without the read model too, or to strangers.

    There are none if the read model cannot be used, and for strangers, who see no navigation.
    """
    if visit is None or visit.role == Role.NONE:
        return {}
    try:
        return await site.runs.queries.counts()
    except StoreError:
        return {}


def html(document: h.Renderable, status: int = 200) -> Response:
    """Return a document as a response."""
    return HTMLResponse(str(document), status)


def see(location: str) -> Response:
    """Return a redirect in response to a form, so that a reload of the next page does not repeat the action."""
    return RedirectResponse(location, 303)


def see_done(visit: Visit, page: str, outcome: str) -> Response:
    """Return a redirect in response to a form to a page, a URL without `done`, that says what the form did."""
    return see(visit.done_url(page, outcome))
