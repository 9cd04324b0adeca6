"""Signing keys: signatures of calls and answers, and the bearer tokens of SDKs."""

import hashlib
import hmac
import re
from enum import StrEnum

from stepstream.contract.errors import InvalidInput

SIGNATURE_AGE_S_MAX = 300
_PREFIX = re.compile(r"^signkey-\w+-", re.ASCII)
_HEX = re.compile(r"(?:[0-9a-fA-F]{2})+")
_HEADER = re.compile(r"t=(\d{1,15})&s=([0-9a-f]{64})")
_BEARER = re.compile(r"bearer\s+(\S+)\s*", re.ASCII | re.IGNORECASE)


class ServerKind(StrEnum):
    """The mode of a server: with `dev` nothing is signed and any request is accepted, with `cloud` keys are needed."""

    DEV = "dev"
    CLOUD = "cloud"


class SigningKey:
    """A signing key, such as `signkey-prod-00112233`; raise InvalidInput unless hex digits follow its prefix.

    The text of the digits is the key of the signature, and the hash of their bytes is the bearer token.
    """

    def __init__(self, text: str) -> None:
        digits = _PREFIX.sub("", text.strip())
        if not _HEX.fullmatch(digits):
            raise InvalidInput("use signkey-NAME- and an even number of hex digits", "signing key")
        self._digits = digits
        self.bearer = hashlib.sha256(bytes.fromhex(digits)).hexdigest()

    def __repr__(self) -> str:
        return "SigningKey(...)"

    def sign(self, body: bytes, t: int) -> str:
        """Return the header X-Inngest-Signature of these bytes at a time in Unix seconds."""
        return f"t={t}&s={self._signature(body, str(t))}"

    def verify(self, header: str, body: bytes, now_s: int) -> bool:
        """Return whether the bytes of an answer have this signature, made at most five minutes ago or ahead."""
        found = _HEADER.fullmatch(header.strip())
        if not found or abs(now_s - int(found[1])) > SIGNATURE_AGE_S_MAX:
            return False
        # The Go SDK appends a line feed after it has signed.
        bodies = (body, body.rstrip(b"\n"))
        return any(hmac.compare_digest(self._signature(each, found[1]), found[2]) for each in bodies)

    def accepts(self, authorization: str) -> bool:
        """Return whether a header Authorization has this key, or its hash, with or without the prefix."""
        found = _BEARER.fullmatch(authorization)
        token = _PREFIX.sub("", found[1]).encode() if found else b""
        # Both are compared, so that the time does not depend on which of them it is.
        return hmac.compare_digest(token, self.bearer.encode()) | hmac.compare_digest(token, self._digits.encode())

    def _signature(self, body: bytes, t: str) -> str:
        return hmac.new(self._digits.encode(), body + t.encode(), hashlib.sha256).hexdigest()
