"""The app of the chaos tests of gateways as a worker that connects: python -m tests.kafka.chaos.connected_app."""

import asyncio
import os

from inngest.connect import ConnectionState, connect

from tests.kafka.chaos.scene import UP
from tests.kafka.chaos.sdk_app import CLIENT, answer, work


async def main() -> None:
    """Serve the functions until the process ends."""
    # A process that replaces a killed one does not know its calls, so it is another instance.
    worker = connect([(CLIENT, [work, answer])], instance_id=f"worker-{os.getpid()}", shutdown_signals=[])
    running = asyncio.ensure_future(worker.start())
    await worker.wait_for_state(ConnectionState.ACTIVE)
    print(UP["app"], flush=True)
    await running


if __name__ == "__main__":
    asyncio.run(main())
