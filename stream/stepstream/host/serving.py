"""Where a process listens, and how it ends."""

import asyncio
import gc
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable
from typing import NoReturn

from stepstream.host.settings import SettingsError

# As a shell reports a process that a signal has ended.
_EXIT_SIGNALLED = 128
# Python's own thresholds made garbage collection a fifth of the CPU time of three-step runs; these, a twentieth.
_GC_THRESHOLDS = (5_000, 20, 20)


def listen(host: str, port: int, option: str = "--port") -> socket.socket:
    """Bind a port; raise SettingsError if that fails, naming the option for another one."""
    try:
        # `::` means every address, IPv4 included.
        both = host == "::" and socket.has_dualstack_ipv6()
        listener = socket.create_server((host, port), family=_family(host, port), dualstack_ipv6=both)
    except OSError as error:
        message = f"port {port} on {host} cannot be bound ({error.strerror}); choose another with {option}"
        raise SettingsError(message) from None
    # Accepted connections inherit it. asyncio sets it only for sockets that name their protocol, and without it the
    # body of a response waits for the client to acknowledge the headers, which takes 40 ms.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


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


class StopSignal(asyncio.Event):
    """An event that SIGINT and SIGTERM set; a second signal ends the process at once, and says what it abandons.

    All state is durable, and code that hangs must not keep the process: so the handler does not need the event loop,
    which a coroutine that never awaits blocks. `bodies` returns how many step bodies are running.
    """

    def __init__(self) -> None:
        super().__init__()
        self.bodies: Callable[[], int] = lambda: 0
        self._signals = 0
        self._loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._handle)

    def _handle(self, number: int, _frame: object) -> None:
        if self._loop.is_closed():
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
            return
        self._signals += 1
        if self._signals > 1:
            self._end(signal.Signals(number))
        self._loop.call_soon_threadsafe(self.set)

    def _end(self, number: signal.Signals) -> NoReturn:
        # The code that was interrupted may hold the locks of logging and of the streams.
        ended = "the process ends at once; step bodies that were running, and will run again"
        os.write(2, f"{number.name} again: {ended}: {self.bodies()}\n".encode())
        os._exit(_EXIT_SIGNALLED + number)


def stop_on_signals() -> StopSignal:
    """Return an event that SIGINT and SIGTERM set; a second signal ends the process at once."""
    return StopSignal()


def end_process() -> NoReturn:
    """End the process; unlike a normal exit, do not wait for threads that run users' code."""
    logging.shutdown()
    sys.stdout.flush()
    os._exit(0)
