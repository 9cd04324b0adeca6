"""Where a process listens, and how it ends."""

import asyncio
import gc
import logging
import os
import signal
import socket
import sys
from typing import NoReturn

from stepstream.host.settings import SettingsError

EXIT_INTERRUPTED = 130
# Python's own thresholds made garbage collection a fifth of the CPU time of three-step runs; these, a twentieth.
_GC_THRESHOLDS = (5_000, 20, 20)


def listen(host: str, port: int, option: str = "--port") -> socket.socket:
    """Bind a port; raise SettingsError if that fails, naming the option for another one."""
    try:
        # `::` means every address, IPv4 included.
        both = host == "::" and socket.has_dualstack_ipv6()
        return socket.create_server((host, port), family=_family(host, port), dualstack_ipv6=both)
    except OSError as error:
        message = f"port {port} on {host} cannot be bound ({error.strerror}); choose another with {option}"
        raise SettingsError(message) from None


def _family(host: str, port: int) -> socket.AddressFamily:
    """Return the family of an address; a name with addresses of both is bound by IPv4."""
    return min(found[0] for found in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))


def address_of(host: str, port: int) -> str:
    """Return the URL of an address."""
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def collect_garbage_seldom() -> None:
    """Exempt what the process has loaded from garbage collection, and collect the rest less often."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_GC_THRESHOLDS)


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
    """End the process; unlike a normal exit, do not wait for threads that run users' code."""
    logging.shutdown()
    sys.stdout.flush()
    os._exit(0)
