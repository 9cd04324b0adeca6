"""The other gateways of the cluster: a request of an app may reach a gateway that did not call the app."""

import asyncio
import hmac
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, NamedTuple

import aiohttp

from stepstream.contract.limits import MIB
from stepstream.gateway.runs.bodies import read_body
from stepstream.gateway.runs.transport import Unreachable
from stepstream.gateway.wire.signing import SigningKey

PASSED_ON = "X-Stepstream-Passed-On"
# The epoch under which a gateway has a run.
EPOCH = "X-Stepstream-Epoch"
# The app waits meanwhile, and sends its request again if it gets no answer.
_ANSWER_S_MAX = 10.0
# A machine that is gone refuses no connection.
_CONNECT_S_MAX = 2.0
# The memos of a run have at most 32 MiB of results; error objects and names add to that.
_INPUT_BYTES_MAX = 64 * MIB
# Between the parts of the id of a queue item, which an app returns with each report.
_END = "|"
# Without a signing key only programs on this machine can send requests.
_NO_KEY = SigningKey("00")


class RunInput(NamedTuple):
    """The events or the memos of a run as JSON, and the epoch under which a gateway has the run."""

    body: bytes
    epoch: int


async def no_clients() -> Iterable[str]:
    """Return no client ids: there is no other gateway."""
    return ()


def signed_url(url: str, keys: Sequence[SigningKey]) -> str:
    """Return what a gateway says of itself: its URL, signed with the first of the keys; empty without a URL."""
    return f"{_END}{url}{_END}{_seal((keys or (_NO_KEY,))[0], url)}" if url else ""


def client_at(client: str, signed: str) -> str:
    """Return the client id of a gateway in the groups of its apps, which contains its signed URL for the others."""
    return f"{client}-{signed.encode().hex()}" if signed else client


@dataclass(frozen=True, slots=True)
class Peers:
    """The other gateways, at the URLs that are in the ids of queue items; `url` is that of this one.

    The first of the keys signs the URL, so that an app cannot name another one; any of them may have signed it.
    `clients` returns the client ids of all gateways.
    """

    session: aiohttp.ClientSession = field(repr=False)
    url: str = ""
    keys: Sequence[SigningKey] = ()
    clients: Callable[[], Awaitable[Iterable[str]]] = no_clients

    @property
    def signed_url(self) -> str:
        """What the calls of this gateway say of it, after the id of a queue item; empty if others do not reach it."""
        return signed_url(self.url, self.keys)

    def of(self, item: str) -> str:
        """Return the URL of the other gateway that has made a call, by its queue item; empty if there is none."""
        _, url, seal = ["", "", *item.split(_END)][-3:]
        keys = self.keys or (_NO_KEY,)
        is_sealed = any(hmac.compare_digest(_seal(key, url).encode(), seal.encode()) for key in keys)
        return url if is_sealed and self.url not in ("", url) else ""

    async def others(self) -> list[str]:
        """Return the URLs of the other gateways, by their client ids."""
        if not self.url:
            return []
        return sorted({url for client in await self.clients() if (url := self.of(_signed_url_in(client)))})

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
            raise _unreachable(url, type(error).__name__) from None

    def asked_by(self, deploy: str) -> str:
        """Return the URL of the other gateway that has asked an app to register, by what the app returns of that."""
        return self.of(_signed_url_in(deploy))

    async def hand_over(
        self, url: str, path: str, query: Mapping[str, str], body: bytes, headers: Mapping[str, str]
    ) -> tuple[int, bytes]:
        """Let another gateway answer a request; return its answer. Raise Unreachable if there is none."""
        timeout = aiohttp.ClientTimeout(total=_ANSWER_S_MAX, sock_connect=_CONNECT_S_MAX)
        options: Any = {"params": query, "data": body, "timeout": timeout, "allow_redirects": False}
        try:
            async with self.session.post(url + path, headers={**headers, PASSED_ON: "1"}, **options) as answer:
                return answer.status, await read_body(answer, MIB, _ANSWER_S_MAX)
        except (aiohttp.ClientError, OSError) as error:
            raise Unreachable(f"the gateway at {url} does not answer: {type(error).__name__}") from None

    async def fetch(self, path: str, authorization: str) -> RunInput | None:
        """Return the input of a run that another gateway has at a path, None if none has the run.

        A gateway that has lost the run may not know it yet: the latest epoch counts. Raise Unreachable if none has the
        run, but one does not answer.
        """
        requests = (self._get(url, path, authorization) for url in await self.others())
        answers = await asyncio.gather(*requests, return_exceptions=True)
        found = [each for each in answers if isinstance(each, RunInput)]
        for error in (each for each in answers if isinstance(each, BaseException)):
            if not found or not isinstance(error, Unreachable):
                raise error
        return max(found, key=lambda each: each.epoch, default=None)

    async def _get(self, url: str, path: str, authorization: str) -> RunInput | None:
        headers = {"Authorization": authorization, PASSED_ON: "1"}
        timeout = aiohttp.ClientTimeout(total=_ANSWER_S_MAX, sock_connect=_CONNECT_S_MAX)
        try:
            async with self.session.get(url + path, headers=headers, timeout=timeout, allow_redirects=False) as answer:
                if answer.status == HTTPStatus.GONE:
                    return None
                body = await read_body(answer, _INPUT_BYTES_MAX, _ANSWER_S_MAX)
        except (aiohttp.ClientError, OSError) as error:
            raise _unreachable(url, type(error).__name__) from None
        if not answer.ok or EPOCH not in answer.headers or len(body) > _INPUT_BYTES_MAX:
            raise _unreachable(url, f"status {answer.status}, {len(body):,} bytes")
        return RunInput(body, int(answer.headers[EPOCH]))


def _unreachable(url: str, why: str) -> Unreachable:
    return Unreachable(f"the gateway at {url} does not answer with the input of the run: {why}")


def _signed_url_in(client: str) -> str:
    try:
        return bytes.fromhex(client.rpartition("-")[2]).decode()
    except ValueError:
        return ""


def _seal(key: SigningKey, url: str) -> str:
    return key.sign(f"gateway {url} ".encode(), 0).rpartition("=")[2]
