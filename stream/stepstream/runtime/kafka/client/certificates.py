"""The certificates of connections to brokers, which may be renewed while processes run."""

import logging
import os
import ssl
from collections.abc import Callable, Sequence
from typing import Any

from stepstream.contract.errors import StepstreamError

logger = logging.getLogger(__name__)
_Stamp = tuple[int, int, int] | None


class RenewedContext(ssl.SSLContext):
    """A TLS context that reads its certificate files again once they have changed.

    A Kafka client keeps one context for all of its connections, and a context keeps the certificates that it has read.
    Without this class, brokers would refuse new connections once that certificate has expired, until a restart.

    `build` returns a context that has read the files, and is called again at the first new connection after any of them
    has changed. While it raises, connections use the earlier context: a certificate may be renewed before its key is.
    """

    def __new__(cls, *_: object) -> "RenewedContext":
        """Create the object; the base class takes the protocol, and none of these arguments."""
        return super().__new__(cls, ssl.PROTOCOL_TLS_CLIENT)

    def __init__(self, build: Callable[[], ssl.SSLContext], files: Sequence[str]) -> None:
        self._build = build
        self._files = files
        self._read = self._refused = self._stamps()
        self._current = build()

    def wrap_bio(self, *arguments: Any, **options: Any) -> ssl.SSLObject:
        """Begin a connection, as event loops do."""
        self._renew()
        return self._current.wrap_bio(*arguments, **options)

    def _renew(self) -> None:
        if (found := self._stamps()) == self._read:
            return
        try:
            self._current = self._build()
            self._read = found
        except StepstreamError as error:
            if self._refused != found:
                logger.warning("renewed certificates are not used, but the earlier ones: %s", error)
            self._refused = found

    def _stamps(self) -> list[_Stamp]:
        return [_stamp(file) for file in self._files]


def _stamp(file: str) -> _Stamp:
    try:
        found = os.stat(file)
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ino, found.st_size
