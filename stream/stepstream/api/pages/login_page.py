"""The login: it exchanges a key for a session, and ends one."""

import logging
from collections.abc import Mapping

import htpy as h
from starlette.responses import Response

from stepstream.api.page_options import ROOT
from stepstream.api.pages.parts.components import note, url
from stepstream.api.pages.parts.context import Site, Visit, html, known_counts, see
from stepstream.api.pages.parts.forms import session_form
from stepstream.api.pages.parts.layout import document
from stepstream.api.pages.parts.sessions import USER_CHARACTERS_MAX, Role, Session, SessionKeys

logger = logging.getLogger(__name__)


def next_page(given: str) -> str:
    """Return where to go after the login: a path of the page, whatever was given."""
    is_ours = given.startswith(f"{ROOT}/") and not set(given) & set("\\\r\n\t") and "//" not in given
    return given if is_ours else url("runs")


async def login_page(site: Site, visit: Visit, target: str, message: str = "", status: int = 200) -> Response:
    """Answer with the form of the login."""
    content = [
        h.h1["Log in"],
        note(message, "bad") if message else None,
        session_form(
            visit,
            url("login"),
            "Log in",
            h.input(type="hidden", name="next", value=target),
            h.label["Key of the engine", h.input(type="password", name="key", required=True, autofocus=True)],
            h.label[
                "Your name, for the history of runs",
                h.input(name="user", maxlength=USER_CHARACTERS_MAX, autocomplete="username"),
            ],
            h.button["Log in"],
        ),
        h.p["The key is STEPSTREAM_API_KEY of the engine, or STEPSTREAM_READ_KEY to read only."],
    ]
    return html(document(visit, "Log in", "", await known_counts(site, visit), *content), status)


async def log_in(
    site: Site, visit: Visit, form: Mapping[str, str], keys: SessionKeys
) -> tuple[Response, Session | None]:
    """Return the answer to the form, and the session that it starts; None if the key is wrong."""
    target = next_page(form.get("next", ""))
    role = keys.role_of(form.get("key", "").strip())
    if role == Role.NONE:
        logger.warning("a login to the page was refused: the key is wrong")
        return await login_page(site, visit, target, "The key is wrong.", 401), None
    user = " ".join(form.get("user", "").split())
    return see(target), keys.new(role, site.now_ms(), user)
