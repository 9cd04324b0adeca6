"""The command `stepstream` with a system clock that a test shifts, as if someone had set it.

`Member.set_clock` writes the file with the shift. The lines of the log have the right time, so that those of several
processes can be ordered.
"""

import os
import time
from contextlib import suppress
from pathlib import Path

from stepstream.cli.main import main
from stepstream.runtime.clocks import SystemClock
from tests.kafka.cluster.fleet import CLOCK_FILE

_FILE = Path(os.environ.get(CLOCK_FILE, "/nonexistent"))
# The clock is read several times for each record; the file is read less often.
_LOOK_NS = 50_000_000
_NS_PER_S = 1_000_000_000
_init = SystemClock.__init__


class _Shifted:
    """The system clock and its shift."""

    def __init__(self) -> None:
        self._shift_ns = self._looked_at = 0

    def wall_ns(self) -> int:
        """Return the shifted time in Unix nanoseconds."""
        now = time.monotonic_ns()
        if now - self._looked_at >= _LOOK_NS:
            self._looked_at = now
            # The file may not exist, or be written at this moment.
            with suppress(OSError, ValueError):
                self._shift_ns = int(float(_FILE.read_text()) * _NS_PER_S)
        return time.time_ns() + self._shift_ns


def _init_shifted(self: SystemClock) -> None:
    _init(self, _Shifted().wall_ns)


def shift_clocks() -> None:
    """Let every clock of this process read the shifted time."""
    SystemClock.__init__ = _init_shifted  # type: ignore[method-assign,assignment]


if __name__ == "__main__":
    shift_clocks()
    main()
