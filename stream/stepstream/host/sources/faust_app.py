"""The Faust app that hosts a process: it starts and stops the parts that serve; others read sources.

No workflow state lives in Faust: whatever its agents repeat has the same result. It opens no port, keeps no table and
creates no topic.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import faust
from faust.transport.drivers.aiokafka import AIOKafkaConsumerThread, Consumer
from mode import Service

from stepstream.runtime.kafka.client.cluster import Cluster
from stepstream.runtime.kafka.client.patches import patch_faust
from stepstream.runtime.kafka.client.settings import KafkaSettings
from stepstream.runtime.ports import LogError
from stepstream.runtime.supervision import keep_serving

# How often Faust looks for topics that were created since the last time.
REFRESH_MS = 10_000

patch_faust(faust.App, Consumer, AIOKafkaConsumerThread)


class Part(Service):
    """A part of the process that Faust starts and stops; a part that fails is restarted after a moment."""

    logger = logging.getLogger("mode.part")

    def __init__(self, name: str, serve: Callable[[], Awaitable[None]]) -> None:
        super().__init__()
        self._name = name
        self._serve = serve
        self._serving: asyncio.Task[None] | None = None

    @property
    def label(self) -> str:
        """The name of the part in the log."""
        return self._name

    async def on_start(self) -> None:
        """Start serving, until the part is stopped."""
        self._serving = asyncio.ensure_future(keep_serving(self._name, self._serve))

    async def on_stop(self) -> None:
        """Stop serving, and wait until that is done."""
        if self._serving is not None:
            self._serving.cancel()
            await asyncio.gather(self._serving, return_exceptions=True)


def make_faust(cluster: Cluster, name: str) -> faust.App:
    """Return a Faust app that opens no port and has no tables or topics; `name` is its consumer group."""
    settings = cluster.settings
    logging.getLogger("faust").setLevel(logging.WARNING)
    logging.getLogger("mode").setLevel(logging.WARNING)
    return faust.App(
        settings.name(name),
        broker=[f"aiokafka://{place.strip()}" for place in settings.bootstrap.split(",")],
        broker_credentials=_credentials(settings),
        broker_session_timeout=settings.session_s,
        broker_heartbeat_interval=settings.session_s / 5,
        broker_commit_interval=1.0,
        consumer_auto_offset_reset="earliest",
        consumer_metadata_max_age_ms=REFRESH_MS,
        store="memory://",
        web_enabled=False,
        topic_disable_leader=True,
        topic_allow_declare=False,
    )


def _credentials(settings: KafkaSettings) -> Any:
    context = settings.client_options().get("ssl_context")
    if settings.security_protocol.startswith("SASL"):
        return faust.SASLCredentials(
            username=settings.sasl_username,
            password=settings.sasl_password,
            mechanism=settings.sasl_mechanism,
            ssl_context=context,
        )
    return faust.SSLCredentials(context) if context else None


@asynccontextmanager
async def hosted(host: faust.App, **parts: Callable[[], Awaitable[None]]) -> AsyncIterator[None]:
    """Run the parts in Faust while the block runs; if Faust itself crashes, the block ends with LogError."""
    # This app has no agents and only supervises.
    host.producer_only = True
    for name, serve in parts.items():
        await host.add_runtime_dependency(Part(name.replace("_", " "), serve))
    ended: list[BaseException] = []
    watching = asyncio.ensure_future(_watch(host, ended, asyncio.current_task()))
    try:
        yield
    except asyncio.CancelledError:
        if ended:
            raise LogError(f"Faust ended: {ended[0]}") from ended[0]
        raise
    finally:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
        await host.stop()


async def _watch(host: faust.App, ended: list[BaseException], block: "asyncio.Task[Any] | None") -> None:
    """Run Faust; if it fails or ends by itself, cancel the task `block`."""
    try:
        await host.start()
        await host.wait_until_stopped()
        ended.append(host.crash_reason or RuntimeError("it stopped by itself"))
    except Exception as error:  # noqa: BLE001 - the block raises it
        ended.append(error)
    if block is not None:
        block.cancel()
