"""What pages read and act on, and the answers they share."""

from collections.abc import Callable
from dataclasses import dataclass

import htpy as h
from starlette.responses import HTMLResponse, RedirectResponse, Response

from stepstream.api.bodies import BodyBudget
from stepstream.api.facade import EngineFacade
from stepstream.runtime.readmodel.index import RunIndex


@dataclass(frozen=True, slots=True)
class Site:
    """The engine and the read model behind the page; `now_ms` is the time (Unix ms)."""

    engine: EngineFacade
    runs: RunIndex
    bodies: BodyBudget
    now_ms: Callable[[], int]


class PageError(Exception):
    """A request that cannot be answered: its status, and what is wrong and how to fix it."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


def html(document: h.Renderable, status: int = 200) -> Response:
    """Return a document as a response."""
    return HTMLResponse(str(document), status)


def see(location: str) -> Response:
    """Return the answer to a form: the browser requests another page, so that a reload does not repeat the action."""
    return RedirectResponse(location, 303)
