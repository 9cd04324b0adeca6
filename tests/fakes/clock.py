"""A clock on which time passes with each reading."""

from stepstream.runtime.clocks import VirtualClock


class TickingClock(VirtualClock):
    """The clock of a slow machine: each reading is `step_ms` later than the one before."""

    def __init__(self, now_ms: int, step_ms: int) -> None:
        super().__init__(now_ms)
        self._step_ms = step_ms

    def now_ms(self) -> int:
        """Return the time."""
        self.advance_to(super().now_ms() + self._step_ms)
        return super().now_ms()


class Now:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.s = 0.0

    def __call__(self) -> float:
        """Return the time."""
        return self.s
