"""An engine whose wall clock is ahead or behind by the seconds in a file, as if someone had set it."""

import os
import time
from contextlib import suppress
from pathlib import Path

from stepstream.cli.main import main
from stepstream.runtime.clocks import SystemClock
from tests.kafka.cluster.fleet import CLOCK_FILE

_FILE = Path(os.environ.get(CLOCK_FILE, "/nonexistent"))
_LOOK_S = 0.1
_real_ns = time.time_ns


class _Hands:
    """The wall clock that the process reads; the file is read at most every tenth of a second."""

    def __init__(self) -> None:
        self._offset_ns = 0
        self._looked = 0.0

    def time_ns(self) -> int:
        if time.monotonic() - self._looked > _LOOK_S:
            self._looked = time.monotonic()
            with suppress(OSError, ValueError):
                self._offset_ns = int(float(_FILE.read_text()) * 1e9)
        return _real_ns() + self._offset_ns


if __name__ == "__main__":
    hands = _Hands()
    time.time_ns = hands.time_ns
    time.time = lambda: hands.time_ns() / 1e9
    # Its default is the function that was the wall clock when the class was defined.
    _, *others = SystemClock.__init__.__defaults__ or ()
    SystemClock.__init__.__defaults__ = (hands.time_ns, *others)
    main()
