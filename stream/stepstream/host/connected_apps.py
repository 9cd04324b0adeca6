"""When a gateway serves an app on Kafka: while it can call the app, by a URL or because a worker is connected.

An app whose functions have moved to workers with Python code has no URL left.
"""

import asyncio

from stepstream.gateway.connect.connect_server import ConnectServer
from stepstream.gateway.runs.app import RemoteApp
from stepstream.gateway.wire.calls import is_connect_url
from stepstream.host.gateway_workers import GatewayWorkers

# A gateway whose last worker of an app is gone for so long leaves the runs of the app to other gateways.
GONE_S = 60.0


async def keep_serving_app(
    app: RemoteApp, workers: GatewayWorkers, connect: ConnectServer, drain_s: float, gone_s: float = GONE_S
) -> None:
    """Serve an app while it can be called, until cancelled; when it no longer can, calls get `drain_s` to end.

    So runs come to gateways to which workers of their app are connected; while there is none, they wait in the log.
    """
    changed = connect.calls.changed

    def can_call() -> bool:
        by_url = app.functions and not any(is_connect_url(each.endpoint) for each in app)
        return bool(by_url) or connect.calls.serves(app.name)

    while True:
        await changed.until(can_call)
        workers.start(app)
        while await changed.until(can_call, gone_s):
            await changed.until(lambda: not can_call())
        releasing = asyncio.ensure_future(connect.release(app.name))
        try:
            await workers.leave(app.name, drain_s)
        finally:
            releasing.cancel()
