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
    """A TLS context for clients whose connections use what some files contain when they begin.

    Kafka clients keep one context for all of their connections, and a context keeps the certificates that it has read:
    without this, a broker would refuse the expired one at the next connection, until the process is restarted.

    `build` returns a context that has read the files, and is called again once any of them has changed. While it
    raises, the context of before is used: the certificate may be renewed before its key is.
    """

    def __new__(cls, *_: object) -> "RenewedContext":
        """Make the object, whose base class knows other arguments."""
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
