"""Sessions of the page: signed cookies, so that every engine accepts them and no restart ends them."""

import base64
import binascii
import hashlib
import hmac
import secrets
from dataclasses import dataclass
from enum import StrEnum

import msgspec
from msgspec.structs import replace

SESSION_MS = 12 * 60 * 60 * 1_000
USER_CHARACTERS_MAX = 100
_COOKIE_CHARACTERS_MAX = 2_048
_TOKEN_CHARACTERS = 32


class Role(StrEnum):
    """What a visitor may do: nothing before the login, read, or act as well."""

    NONE = "none"
    READ = "read"
    OPERATE = "operate"


class Session(msgspec.Struct, frozen=True):
    """A visitor: a role until `expires_at` (Unix ms), the name that the visitor gave, and a random number."""

    role: Role
    expires_at: int
    nonce: str
    user: str = ""


@dataclass(frozen=True, slots=True)
class SessionKeys:
    """Signs sessions and the tokens of forms with a secret that is derived from the keys of the engine.

    A session ends at once when one of the keys changes. The secret reveals neither key, and the read key alone does not
    suffice to forge a session.
    """

    api: str
    read: str

    @property
    def _secret(self) -> bytes:
        return hashlib.sha256(f"stepstream page\0{self.api}\0{self.read}".encode()).digest()

    def role_of(self, key: str) -> Role:
        """Return the role that a key gives, in a time that reveals nothing about the keys."""
        given = key.encode(errors="replace")
        is_api = hmac.compare_digest(given, self.api.encode()) and bool(self.api)
        is_read = hmac.compare_digest(given, self.read.encode()) and bool(self.read)
        return Role.OPERATE if is_api else Role.READ if is_read else Role.NONE

    def new(self, role: Role, now_ms: int, user: str = "") -> Session:
        """Return a session that starts now."""
        return Session(role, now_ms + SESSION_MS, secrets.token_urlsafe(16), user[:USER_CHARACTERS_MAX])

    def keyed(self, role: Role, now_ms: int) -> Session:
        """Return the session of a request that has a key itself: requests with the same key have the same session."""
        session = self.new(role, now_ms)
        return session if role == Role.NONE else replace(session, nonce=f"key {role}")

    def cookie(self, session: Session) -> str:
        """Return the value of the cookie of a session."""
        body = base64.urlsafe_b64encode(msgspec.json.encode(session)).decode()
        return f"{body}.{self._sign('session', body)}"

    def session(self, cookie: str, now_ms: int) -> Session | None:
        """Return the session of a cookie; None if it is not of these keys, or has expired."""
        body, _, signature = cookie.rpartition(".")
        if len(cookie) > _COOKIE_CHARACTERS_MAX or not _same(signature, self._sign("session", body)):
            return None
        try:
            session = msgspec.json.decode(base64.urlsafe_b64decode(body), type=Session)
        except (msgspec.MsgspecError, binascii.Error, UnicodeError):
            return None
        return session if session.expires_at > now_ms else None

    def form_token(self, session: Session) -> str:
        """Return the token without which a form of this session is refused."""
        return self._sign("form", session.nonce)[:_TOKEN_CHARACTERS]

    def is_form_token(self, token: str, session: Session) -> bool:
        """Return whether a form has the token of its session."""
        return _same(token, self.form_token(session))

    def _sign(self, purpose: str, text: str) -> str:
        return hmac.new(self._secret, f"{purpose}\0{text}".encode(errors="replace"), hashlib.sha256).hexdigest()


def _same(given: str, expected: str) -> bool:
    return hmac.compare_digest(given.encode(errors="replace"), expected.encode())
