"""Decides who visits the page and with what role, and checks that a form was sent by the page itself."""

from dataclasses import dataclass
from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.responses import Response

from stepstream.api.actors import actor_of
from stepstream.api.guards import Keys, bearer_token, foreign_reason
from stepstream.api.page_options import DEFAULT_PAGE, ROOT, PageMode, PageOptions
from stepstream.api.pages.parts.context import PageError, Visit
from stepstream.api.pages.parts.sessions import SESSION_MS, Role, Session, SessionKeys

COOKIE = "stepstream_session"


@dataclass(frozen=True, slots=True)
class Access:
    """How the page is guarded: without an API key only programs on this machine are served, and all may operate."""

    keys: SessionKeys
    is_loopback_only: bool = True
    options: PageOptions = DEFAULT_PAGE

    def visit(self, request: Request, now_ms: int) -> Visit:
        """Return who sends a request; raise PageError for one from elsewhere if there are no keys."""
        if self.is_loopback_only and (reason := foreign_reason(request.headers)):
            raise PageError(403, reason)
        known = self.keys.session(request.cookies.get(COOKIE, ""), now_ms)
        if not self.keys.api:
            session = known or self.keys.new(Role.OPERATE, now_ms)
            if session.role != Role.OPERATE:
                session = self.keys.new(Role.OPERATE, now_ms)
        elif "authorization" in request.headers:
            session = self.keys.keyed(self.keys.role_of(bearer_token(request.headers)), now_ms)
        else:
            session = known or self.keys.new(Role.NONE, now_ms)
        role = session.role
        if role == Role.OPERATE and self.options.mode == PageMode.READ_ONLY:
            role = Role.READ
        header = self.options.user_header if self.is_proxied(request) else ""
        stated = actor_of(request.headers, header, has_key=bool(self.keys.api))
        user = stated if header in request.headers else session.user or stated
        logged_in = bool(self.keys.api and known and known.role != Role.NONE)
        return Visit(request, session, role, user, self.keys.form_token(session), now_ms, logged_in)

    def is_proxied(self, request: Request) -> bool:
        """Return whether a request comes from a trusted proxy."""
        return self.options.trusts(request.client and request.client.host)

    def keep(self, response: Response, session: Session, request: Request) -> None:
        """Set the cookie that carries a session."""
        value = self.keys.cookie(session)
        forwarded = request.headers.get("x-forwarded-proto", "") if self.is_proxied(request) else ""
        is_secure = "https" in (request.url.scheme, forwarded)
        response.set_cookie(
            COOKIE, value, SESSION_MS // 1_000, path=ROOT, secure=is_secure, httponly=True, samesite="strict"
        )


def access_of(keys: Keys, options: PageOptions) -> Access:
    """Return how the page is guarded with these keys."""
    signed = SessionKeys(keys.api, keys.read)
    is_loopback_only = not (keys.event and keys.api)
    return Access(signed, is_loopback_only, options)


def check_origin(request: Request) -> None:
    """Raise PageError for a form that a page of another origin sent, on another port of this machine too."""
    origin = request.headers.get("origin")
    site = request.headers.get("sec-fetch-site", "same-origin")
    if site != "same-origin" or (origin is not None and urlsplit(origin).netloc != request.headers.get("host", "")):
        raise PageError(403, "This form was sent by a page of another site.")


def is_link_from_elsewhere(request: Request) -> bool:
    """Return whether a reader followed a link on another site: browsers then leave out the cookie of the session."""
    headers = request.headers
    return headers.get("sec-fetch-site") == "cross-site" and headers.get("sec-fetch-mode") == "navigate"
