"""The transport of the calls of one app: over HTTP to a URL, or to a connected worker."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import parse_qs, urlsplit

from stepstream.gateway.connect import frames_pb2 as pb
from stepstream.gateway.connect.worker_calls import WorkerCalls
from stepstream.gateway.rest.sdk_shapes import ACCOUNT_ID, ENVIRONMENT_ID
from stepstream.gateway.runs.transport import Request, Response, Transport, Unreachable
from stepstream.gateway.wire.calls import CALL_BYTES_MAX, app_uuid, function_uuid, is_connect_url

# An app that hangs holds no more connections, whatever host it shares with others; its other calls wait.
HTTP_CALLS_MAX = 256
# Workers return it, and some send it where JSON is expected.
_NO_TRACE = b"{}"


@dataclass(frozen=True, slots=True)
class ConnectTransport:
    """Carries the calls of an app, by its name in the engine.

    Those to a URL go over `http`, a limited number at a time.
    """

    app: str
    http: Transport
    calls: WorkerCalls
    _open: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(HTTP_CALLS_MAX), repr=False)

    async def request(self, request: Request) -> Response:
        """Make a request for an app, unsigned, and return the response; raise Unreachable if there is none."""
        async with self._open:
            return await self.http.request(request)

    async def post(self, url: str, headers: Mapping[str, str], body: bytes) -> Response:
        """Send a call and return the response; raise Unreachable if there is none."""
        if not is_connect_url(url):
            async with self._open:
                return await self.http.post(url, headers, body)
        if len(body) > CALL_BYTES_MAX:
            raise Unreachable(f"the call has {len(body):,} bytes; a worker takes at most {CALL_BYTES_MAX:,}")
        return await self.calls.call(self.app, self._request(url, headers, body))

    def _request(self, url: str, headers: Mapping[str, str], body: bytes) -> pb.GatewayExecutorRequestData:
        function = "".join(parse_qs(urlsplit(url).query).get("fnId", [])[:1])
        return pb.GatewayExecutorRequestData(
            request_id=headers["X-Request-ID"],
            account_id=ACCOUNT_ID,
            env_id=ENVIRONMENT_ID,
            app_id=app_uuid(self.app),
            function_id=function_uuid(function),
            function_slug=function,
            step_id=headers["X-Inngest-Step-ID"],
            request_payload=body,
            system_trace_ctx=_NO_TRACE,
            user_trace_ctx=_NO_TRACE,
            run_id=headers["X-Run-ID"],
            job_id=headers["X-Inngest-Job-ID"],
        )
