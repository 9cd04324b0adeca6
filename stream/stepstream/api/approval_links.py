"""Links by which a person without a key answers one approval until a time: signed, so no engine stores them."""

from dataclasses import dataclass

import msgspec

from stepstream.api.bodies import decode_body
from stepstream.api.signing import TokenSigner, expiry
from stepstream.contract.errors import Conflict, InvalidInput
from stepstream.runtime.decisions import NAME_CHARACTERS_MAX

_LONGEST = "30d"
_NO_KEY = "links are signed with the API key, and this engine has none; set STEPSTREAM_API_KEY"
_NO_PAGE = "this engine serves no page that acts, and the link leads to one; start it without --page"


class ApprovalLink(msgspec.Struct, frozen=True, array_like=True):
    """The approval that a link answers, until when (Unix ms), and in whose name, empty for a name that is asked for."""

    run_id: str
    step: str
    expires_at: int
    by: str = ""


class LinkBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of a request for a link."""

    expires: str = "24h"
    by: str = ""


@dataclass(frozen=True, slots=True)
class ApprovalLinks:
    """Signs links with a secret that is derived from the API key. All links end when the key changes.

    `is_served` says whether the process has a page that acts.
    """

    api_key: str = ""
    is_served: bool = False

    @property
    def _signer(self) -> TokenSigner:
        return TokenSigner("approval link", self.api_key)

    def check(self) -> None:
        """Raise Conflict if this process has no links."""
        if not self.api_key:
            raise Conflict(_NO_KEY)
        if not self.is_served:
            raise Conflict(_NO_PAGE)

    def token(self, link: ApprovalLink) -> str:
        """Return a link as the last part of its URL; raise Conflict if this process has no links."""
        self.check()
        return self._signer.token(link)

    def link(self, token: str) -> ApprovalLink | None:
        """Return the link of a token, also if it has expired; None if it is not of this key."""
        self.check()
        return self._signer.value(token, ApprovalLink)


NO_LINKS = ApprovalLinks()


def parse_link(body: bytes, now_ms: int) -> tuple[int, str]:
    """Return when a link expires (Unix ms) and in whose name it answers; raise InvalidInput for a wrong request."""
    parsed = decode_body(body.strip() or b"{}", LinkBody)
    if len(parsed.by) > NAME_CHARACTERS_MAX:
        raise InvalidInput(f"use at most {NAME_CHARACTERS_MAX} characters", "by")
    return expiry(parsed.expires, _LONGEST, now_ms), parsed.by.strip()
