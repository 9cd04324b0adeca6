"""Opens the connections to apps as aiohttp does, but reads HTTP/1.0 responses by the rules of that version.

`BaseConnector._factory` makes the protocol of a connection. Importing this module raises ImportError for a version of
aiohttp that does it in another way.
"""

import asyncio
import functools
import re
from typing import Any

import aiohttp
from aiohttp.client_proto import ResponseHandler

from stepstream.runtime.patching import require

_VERSION = b"HTTP/1.0 "
_HEAD_BYTES_MAX = 64 * 1024
_CHUNKED = re.compile(rb"\r\ntransfer-encoding:[^\r\n]*", re.IGNORECASE)


def check_aiohttp(base: Any, connector: Any, handler: Any) -> None:
    """Raise ImportError unless these classes of aiohttp are as the connector expects them."""
    library = "aiohttp"
    require(library, base, "__init__", "self", uses=["_factory", "ResponseHandler", "partial"])
    require(library, connector, "_create_direct_connection", "self", uses=["_factory", "_wrap_create_connection"])
    require(library, handler, "__init__", "self", "loop")
    require(library, handler, "data_received", "self", "data")
    require(library, handler, "connection_lost", "self", "exc")


check_aiohttp(aiohttp.BaseConnector, aiohttp.TCPConnector, ResponseHandler)


class Connector(aiohttp.TCPConnector):
    """A pool of connections."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        # It is only called.
        self._factory = functools.partial(_Reader, loop=asyncio.get_running_loop())  # type: ignore[assignment]


class _Reader(ResponseHandler):
    """Reads the body of an HTTP/1.0 response up to the end of its connection.

    That version has no chunks. A proxy that speaks it may join the chunks of a server and still pass on its header
    `Transfer-Encoding: chunked`.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop)
        # A connection ends with a response of that version, so only the first one is looked at.
        self._head: bytes | None = b""

    def data_received(self, data: bytes) -> None:
        """Take bytes of a response."""
        if self._head is None:
            super().data_received(data)
            return
        self._head += data
        is_old = self._head[: len(_VERSION)] == _VERSION[: len(self._head)]
        if not is_old or b"\r\n\r\n" in self._head or len(self._head) > _HEAD_BYTES_MAX:
            self._pass_on()

    def connection_lost(self, exc: BaseException | None) -> None:
        """Note that there are no more bytes."""
        if self._head:
            self._pass_on()
        super().connection_lost(exc)

    def _pass_on(self) -> None:
        read, self._head = self._head or b"", None
        if read.startswith(_VERSION):
            head, end, body = read.partition(b"\r\n\r\n")
            read = _CHUNKED.sub(b"", head) + end + body
        super().data_received(read)
