"""Asks an app to register: the PUT to its URL, and what the app does then."""

import asyncio
import uuid
from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from typing import Any

import aiohttp

from stepstream.contract.errors import InvalidInput, StepstreamError
from stepstream.gateway.runs import transport as calls
from stepstream.gateway.runs.bodies import read_body
from stepstream.gateway.runs.peers import PASSED_ON, Peers, client_at
from stepstream.gateway.runs.redirects import REDIRECTS_MAX, is_same_host, redirected
from stepstream.gateway.sync.registry import Synced
from stepstream.gateway.sync.signing_keys import EXPECTED_KIND, SYNC_KIND, SigningKeys
from stepstream.gateway.sync.sync_failures import SyncFailures
from stepstream.gateway.wire.canonical import canonical
from stepstream.gateway.wire.registration import (
    REGISTRATION_BYTES_MAX,
    AppRegistration,
    engine_app_name,
    read_in_band,
)

SYNC_S_MAX = 10.0
REGISTER_PATH = "/fn/register"
# The parameter of a request to an app, with which the app registers.
DEPLOY = "deployId"
_PASSED_HEADERS = frozenset({"authorization", "content-type", EXPECTED_KIND.lower()})
IN_BAND = "in_band"
_TEXT_CHARACTERS_MAX = 300


class SyncError(StepstreamError):
    """An app could not be registered; the message says why, and what to do."""

    code = "sync"


class Unreachable(SyncError):
    """No app answers at this URL."""


Register = Callable[[AppRegistration], Awaitable[Synced]]


class AppClient:
    """Asks apps to register; what they then send to this process on their own is passed to `arrived`.

    Failed attempts are recorded in `failures`. What an app sends to another one of the `peers`, because a load balancer
    chooses, is passed on to this process.
    """

    def __init__(
        self,
        session: aiohttp.ClientSession,
        keys: SigningKeys,
        register: Register,
        failures: SyncFailures,
        peers: Peers | None = None,
    ) -> None:
        self._session = session
        self._keys = keys
        self._register = register
        self._failures = failures
        self._peers = peers
        # The names in the engine of the apps that have registered, by the URL at which they were asked.
        self._apps: dict[str, str] = {}
        self._outcomes: dict[str, Synced | StepstreamError | None] = {}
        # The URLs of apps that answer in band only to a signed request, which the SDK for Python did up to 0.5.18.
        self._plain: set[str] = set()

    def arrived(self, deploy: str, outcome: Synced | StepstreamError) -> None:
        """Note how the registration ended that an app sent because of the request `deploy`."""
        if deploy in self._outcomes:
            self._outcomes[deploy] = outcome

    async def passed_on(self, deploy: str, headers: Mapping[str, str], body: bytes) -> tuple[int, bytes] | None:
        """Let the gateway that asked an app to register answer its request; return the answer, None if there is none.

        Then the app registers here: the registration is as good, but the command that asked for it fails.
        """
        url = self._peers.asked_by(deploy) if self._peers and PASSED_ON not in headers else ""
        if not self._peers or not url:
            return None
        passed = {name: value for name, value in headers.items() if name.lower() in _PASSED_HEADERS}
        try:
            return await self._peers.hand_over(url, REGISTER_PATH, {DEPLOY: deploy}, body, passed)
        except calls.Unreachable:
            return None

    async def sync(self, url: str) -> Synced:
        """Register the app at a URL; raise SyncError, or InvalidInput with what is wrong in its configuration.

        The answer of the app says nothing about a registration that it sent on its own: only its arrival counts.
        """
        try:
            outcome = await self._outcome(url)
        except StepstreamError as error:
            self._failures.failed(error, self._apps.get(url, ""), url)
            raise
        if isinstance(outcome, StepstreamError):
            raise outcome
        synced = await self._register(outcome) if isinstance(outcome, AppRegistration) else outcome
        self._apps[url] = engine_app_name(synced.app)
        self._failures.registered(self._apps[url], url)
        return synced

    async def _outcome(self, url: str) -> AppRegistration | Synced | StepstreamError:
        """Return the registration in the answer of an app, or how the one ended that it sent on its own."""
        deploy = client_at(uuid.uuid4().hex, self._peers.signed_url if self._peers else "")
        self._outcomes[deploy] = None
        try:
            answer, content = await self._ask(url, deploy)
        finally:
            outcome = self._outcomes.pop(deploy)
        if answer.ok and answer.headers.get(SYNC_KIND) == IN_BAND:
            return self._read(url, answer, content)
        if outcome is None:
            raise SyncError(_refusal(url, answer.status, content))
        return outcome

    async def _ask(self, url: str, deploy: str) -> tuple[aiohttp.ClientResponse, bytes]:
        """Ask for an answer in band; without a key, ask an app that requires a signature to register itself instead."""
        is_plain = url in self._plain
        answer, content = await self._put(url, deploy, {} if is_plain else {SYNC_KIND: IN_BAND})
        if answer.status == HTTPStatus.UNAUTHORIZED and not is_plain and self._keys.current is None:
            answer, content = await self._put(url, deploy, {})
            if answer.ok:
                self._plain.add(url)
        return answer, content

    async def _put(self, url: str, deploy: str, kind: Mapping[str, str]) -> tuple[aiohttp.ClientResponse, bytes]:
        """Send one request, also to where the app redirects within its host; return the answer and its body."""
        body = canonical({"url": url})
        headers = {"content-type": "application/json", **kind, **self._keys.headers(body)}
        target, query = url, {DEPLOY: deploy}
        try:
            async with asyncio.timeout(SYNC_S_MAX):
                for _ in range(REDIRECTS_MAX + 1):
                    answer, content = await self._once(target, query, body, headers)
                    if not (300 <= answer.status < 400 and (location := answer.headers.get("Location"))):
                        break
                    target, query = _followed(url, str(answer.url), location), {}
        except TimeoutError:
            raise Unreachable(f"{url} does not answer within {SYNC_S_MAX:g} s") from None
        except (aiohttp.ClientError, OSError) as error:
            raise Unreachable(f"{url} cannot be reached: {error}") from None
        if len(content) > REGISTRATION_BYTES_MAX:
            raise InvalidInput(f"the answer has more than {REGISTRATION_BYTES_MAX:,} bytes", "body")
        return answer, content

    async def _once(
        self, url: str, query: Mapping[str, str], body: bytes, headers: Mapping[str, str]
    ) -> tuple[aiohttp.ClientResponse, bytes]:
        options: Any = {"params": query, "data": body, "headers": headers, "allow_redirects": False}
        async with self._session.put(url, **options) as answer:
            return answer, await read_body(answer, REGISTRATION_BYTES_MAX, SYNC_S_MAX)

    def _read(self, url: str, answer: aiohttp.ClientResponse, content: bytes) -> AppRegistration:
        if not self._keys.verify(answer.headers, content):
            raise SyncError(f"the answer of {url} has no valid signature; its INNGEST_SIGNING_KEY is another one")
        return read_in_band(content)


def _followed(url: str, target: str, location: str) -> str:
    """Return where a redirect leads; raise SyncError for another host, whose app would take the place of this one."""
    found = redirected(target, location)
    if not is_same_host(found, url):
        other = found.partition("?")[0][:_TEXT_CHARACTERS_MAX]
        raise SyncError(f"{url} redirects to another host; register {other} instead if that is the app")
    return found


def _refusal(url: str, status: int, content: bytes) -> str:
    match status:
        case 200:
            remedy = "set INNGEST_BASE_URL, or INNGEST_DEV, of the app to the URL of this server"
            balanced = "behind a load balancer it may have registered at another gateway; give each one --peer-url"
            return f"{url} answers, but has not registered here; {remedy}; {balanced}"
        case 401:
            return f"{url} refuses the signature; set its INNGEST_SIGNING_KEY to STEPSTREAM_SIGNING_KEY of this server"
        case 404 | 405:
            return f"{url} is not the URL of an SDK: it answers {status}; most apps serve it at /api/inngest"
    return f"{url} answers {status}: {content.decode(errors='replace')[:_TEXT_CHARACTERS_MAX]}"
