"""Keeps apps registered while they are developed: registers those that start or change, and finds local ones."""

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from urllib.parse import urlsplit

import aiohttp

from stepstream.contract.errors import StepstreamError
from stepstream.contract.text.wording import counted
from stepstream.gateway.sync.app_client import AppClient, Unreachable
from stepstream.gateway.sync.registry import Synced

POLL_S = 5.0
_LOOK_S_MAX = 1.0
# An app that has just registered is not asked again for this many rounds.
_RESTS = 2
# Where frameworks serve apps by default, and where SDKs mount their handler.
PORTS = (3000, 3001, 3002, 3333, 4000, 4321, 5000, 5001, 5173, 7071, 8000, 8001, 8080, 8081, 8787, 8888, 9000, 9999)
PATHS = ("/api/inngest", "/x/inngest", "/.netlify/functions/inngest", "/.redwood/functions/inngest")
_MARKS = ("x-inngest-sdk", "x-inngest-sdk-handled")


@dataclass(slots=True)
class _Polled:
    """What is known of a URL: its app, once that has registered, and the last line that was reported.

    An app that has just registered by itself is skipped for `rests` rounds.
    """

    app: str = ""
    reported: str = ""
    rests: int = 0


class AppPoller:
    """Asks apps to register periodically, so that one that starts or changes is registered within a few seconds.

    `report` receives a line about each app that appears, changes, fails or stops answering. Of `ports` on this machine,
    those that an SDK answers are polled too.
    """

    def __init__(
        self,
        client: AppClient,
        session: aiohttp.ClientSession,
        report: Callable[[str], None],
        ports: Iterable[int] = (),
    ) -> None:
        self._client = client
        self._session = session
        self._report = report
        self._ports = tuple(ports)
        self._polled: dict[str, _Polled] = {}

    def add(self, url: str, app: str = "") -> None:
        """Poll one more URL; if its app has registered already, `app` is its name, and it is skipped at first."""
        self._polled.setdefault(url, _Polled(app, rests=_RESTS if app else 0))

    async def serve(self) -> None:
        """Poll until cancelled."""
        while True:
            await self.poll()
            await asyncio.sleep(POLL_S)

    async def poll(self) -> None:
        """Look for apps on local ports, and ask all known ones to register."""
        known = {urlsplit(url).port for url in self._polled}
        for url in await asyncio.gather(*(self._look(port) for port in self._ports if port not in known)):
            if url:
                self.add(url)
        await asyncio.gather(*(self._ask(url, polled) for url, polled in list(self._polled.items())))

    async def _look(self, port: int) -> str:
        """Return the URL at which an SDK answers on a port of this machine, empty if none does."""
        for path in PATHS:
            url = f"http://127.0.0.1:{port}{path}"
            try:
                async with (
                    asyncio.timeout(_LOOK_S_MAX),
                    self._session.get(url, allow_redirects=False) as answer,
                ):
                    if any(mark in answer.headers for mark in _MARKS):
                        return url
            except (aiohttp.ClientError, OSError, TimeoutError):
                return ""
        return ""

    async def _ask(self, url: str, polled: _Polled) -> None:
        if polled.rests:
            polled.rests -= 1
            return
        try:
            synced = await self._client.sync(url)
        except Unreachable:
            line = f"app {polled.app} at {url} does not answer" if polled.app else f"no app answers at {url} yet"
        except StepstreamError as error:
            line = str(error)
        else:
            line = _line(url, synced)
            polled.reported = "" if synced.modified and polled.app else polled.reported
            polled.app = synced.app
        if line != polled.reported:
            polled.reported = line
            self._report(line)


def _line(url: str, synced: Synced) -> str:
    return f"app {synced.app} at {url} is registered: {counted(synced.functions, 'function')}"
