"""The keys that gateway and apps share, and the mode in which the gateway serves."""

import time
from collections.abc import Mapping
from dataclasses import dataclass

from stepstream.gateway.wire.signing import ServerKind, SigningKey

SIGNATURE, AUTHORIZATION = "x-inngest-signature", "authorization"
SERVER_KIND, EXPECTED_KIND, SYNC_KIND = (
    "x-inngest-server-kind",
    "x-inngest-expected-server-kind",
    "x-inngest-sync-kind",
)


@dataclass(frozen=True, slots=True)
class SigningKeys:
    """The signing key, with which the gateway signs, and one more that it accepts; without keys the mode is `dev`."""

    current: SigningKey | None = None
    fallback: SigningKey | None = None

    @classmethod
    def of(cls, current: str, fallback: str) -> "SigningKeys":
        """Return the keys of these texts; an empty one is no key."""
        return cls(*(SigningKey(text) if text else None for text in (current, fallback)))

    @property
    def kind(self) -> ServerKind:
        """The mode."""
        return ServerKind.CLOUD if self.current else ServerKind.DEV

    def accept(self, headers: Mapping[str, str]) -> bool:
        """Return whether a request of an SDK carries one of the keys; without keys, any request does."""
        return not self.current or any(key.accepts(headers.get(AUTHORIZATION, "")) for key in self.all)

    def verify(self, headers: Mapping[str, str], body: bytes) -> bool:
        """Return whether the answer of an app is signed by one of the keys; without keys, any answer is fine."""
        signature, now_s = headers.get(SIGNATURE, ""), int(time.time())
        return not self.current or any(key.verify(signature, body, now_s) for key in self.all)

    def headers(self, body: bytes) -> dict[str, str]:
        """Return the headers of a request to an app."""
        signed = {SIGNATURE: self.current.sign(body, int(time.time()))} if self.current else {}
        return {SERVER_KIND: self.kind, **signed}

    @property
    def all(self) -> list[SigningKey]:
        """The keys, the current one first."""
        return [key for key in (self.current, self.fallback) if key]
