"""The HTTP server of a process, whose host handles the signals, and how the process ends."""

import asyncio
import contextlib
import logging
import os
import signal
import socket
import sys
from collections.abc import Awaitable, Callable
from typing import NoReturn

import uvicorn

from stepstream.host.settings import SettingsError

EXIT_INTERRUPTED = 130
GRACE_S = 5


class _Server(uvicorn.Server):
    """A server that leaves signals to the process."""

    @contextlib.contextmanager
    def capture_signals(self):  # type: ignore[no-untyped-def]  # The type of the parent's is not exported.
        """Capture no signal."""
        yield


def listen(host: str, port: int, option: str = "--port") -> socket.socket:
    """Bind a port; raise SettingsError if that fails, naming the option for another one."""
    try:
        # `::` stands for every address, of IPv4 too.
        both = host == "::" and socket.has_dualstack_ipv6()
        return socket.create_server((host, port), family=_family(host, port), dualstack_ipv6=both)
    except OSError as error:
        message = f"port {port} on {host} cannot be bound ({error.strerror}); give another by {option}"
        raise SettingsError(message) from None


def _family(host: str, port: int) -> socket.AddressFamily:
    """Return the family of an address; a name with addresses of both is bound by IPv4."""
    return min(found[0] for found in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))


def address_of(host: str, port: int) -> str:
    """Return the URL of an address."""
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def stop_on_signals() -> asyncio.Event:
    """Return an event that SIGINT and SIGTERM set; a second signal ends the process at once."""
    stop = asyncio.Event()

    def interrupt() -> None:
        if stop.is_set():
            # All state is durable, and a body that hangs must not keep the process.
            os._exit(EXIT_INTERRUPTED)
        stop.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, interrupt)
    return stop


def end_process() -> NoReturn:
    """End the process without waiting for threads that still run users' code, as a normal exit would."""
    logging.shutdown()
    sys.stdout.flush()
    os._exit(0)


async def serve_api(
    api: Callable[..., Awaitable[None]],
    listener: socket.socket,
    stop: asyncio.Event,
    ready: Callable[[int], None],
) -> None:
    """Serve until `stop` is set; `ready` is given the port once requests are accepted."""
    config = uvicorn.Config(
        api,
        # Its lines go through the handlers of the process, in their format.
        log_config=None,
        log_level="warning",
        access_log=False,
        lifespan="off",
        timeout_graceful_shutdown=GRACE_S,
    )
    server = _Server(config)
    serving = asyncio.ensure_future(server.serve(sockets=[listener]))
    ready(listener.getsockname()[1])
    stopping = asyncio.ensure_future(stop.wait())
    await asyncio.wait({serving, stopping}, return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    server.should_exit = True
    await serving
