"""The gateways that share the runs: an app may report steps to another one than the one that calls it."""

import hmac
from collections.abc import Sequence
from dataclasses import dataclass, field

import aiohttp

from stepstream.gateway.runs.transport import Unreachable
from stepstream.gateway.wire.signing import SigningKey

PASSED_ON = "X-Stepstream-Passed-On"
# The app waits meanwhile, and reports again if it gets no answer.
_ANSWER_S_MAX = 10.0
# Between the parts of the id of a queue item, which an app returns with each report.
_END = "|"
# Without a signing key only programs on this machine can send requests.
_NO_KEY = SigningKey("00")


@dataclass(frozen=True, slots=True)
class Peers:
    """The other gateways, at the URLs that are in the ids of queue items; `url` is that of this one.

    The first of the keys signs the URL, so that an app cannot name another one; any of them may have signed it.
    """

    session: aiohttp.ClientSession = field(repr=False)
    url: str = ""
    keys: Sequence[SigningKey] = ()

    @property
    def place(self) -> str:
        """What the calls of this gateway say of it, after the id of a queue item; empty if others do not reach it."""
        return f"{_END}{self.url}{_END}{_seal(self._keys[0], self.url)}" if self.url else ""

    @property
    def _keys(self) -> Sequence[SigningKey]:
        return self.keys or (_NO_KEY,)

    def of(self, item: str) -> str:
        """Return the URL of the other gateway that has made a call, by its queue item; empty if there is none."""
        _, url, seal = ["", "", *item.split(_END)][-3:]
        is_sealed = any(hmac.compare_digest(_seal(key, url).encode(), seal.encode()) for key in self._keys)
        return url if is_sealed and self.url not in ("", url) else ""

    async def pass_on(self, url: str, path: str, body: bytes, authorization: str) -> int:
        """Send a report to another gateway and return the status of its answer; raise Unreachable if there is none."""
        headers = {"Content-Type": "application/json", "Authorization": authorization, PASSED_ON: "1"}
        sending = self.session.post(
            url + path,
            data=body,
            headers=headers,
            timeout=aiohttp.ClientTimeout(total=_ANSWER_S_MAX),
            allow_redirects=False,
        )
        try:
            async with sending as answer:
                return answer.status
        except (aiohttp.ClientError, OSError) as error:
            raise Unreachable(f"the gateway at {url} does not answer: {type(error).__name__}") from None


def _seal(key: SigningKey, url: str) -> str:
    return key.sign(f"gateway {url} ".encode(), 0).rpartition("=")[2]
