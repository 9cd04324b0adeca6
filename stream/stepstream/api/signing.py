"""Tokens that are signed with a secret derived from the API key, so that any engine reads them and none stores them."""

import base64
import binascii
import hashlib
import hmac
from dataclasses import dataclass, field
from typing import TypeVar

import msgspec

from stepstream.contract.errors import InvalidInput
from stepstream.contract.text.durations import duration_ms

TOKEN_CHARACTERS_MAX = 4_096
T = TypeVar("T", bound=msgspec.Struct)


@dataclass(frozen=True, slots=True)
class TokenSigner:
    """Signs tokens for one purpose: a token for another one, or of another API key, is not valid."""

    purpose: str
    api_key: str = field(repr=False)

    def token(self, value: msgspec.Struct) -> str:
        """Return a value with its signature, as characters that a URL may contain."""
        body = base64.urlsafe_b64encode(msgspec.json.encode(value)).decode().rstrip("=")
        return f"{body}.{self._signature(body)}"

    def value(self, token: str, kind: type[T]) -> T | None:
        """Return the value of a token, in a time that reveals nothing about its signature; None if it is not valid."""
        body, _, signature = token.rpartition(".")
        given, expected = signature.encode(errors="replace"), self._signature(body).encode()
        if len(token) > TOKEN_CHARACTERS_MAX or not hmac.compare_digest(given, expected):
            return None
        try:
            return msgspec.json.decode(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)), type=kind)
        except (msgspec.MsgspecError, binascii.Error, UnicodeError):
            return None

    def _signature(self, body: str) -> str:
        secret = hashlib.sha256(f"stepstream {self.purpose}\0{self.api_key}".encode()).digest()
        signed = hmac.new(secret, body.encode(errors="replace"), hashlib.sha256).digest()
        return base64.urlsafe_b64encode(signed).decode().rstrip("=")


def expiry(expires: str, longest: str, now_ms: int) -> int:
    """Return when a token expires (Unix ms); raise InvalidInput unless `expires` is a duration of at most `longest`."""
    try:
        length_ms = duration_ms(expires)
    except InvalidInput as error:
        raise InvalidInput(error.reason, "expires") from None
    if not 0 < length_ms <= duration_ms(longest):
        raise InvalidInput(f"use a duration of at most {longest}", "expires")
    return now_ms + length_ms
