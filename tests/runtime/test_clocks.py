"""The system clock under wall clocks that jump back and ahead."""

import asyncio
import logging

import pytest

from stepstream.runtime.clocks import SystemClock
from stepstream.runtime.notification import Notification

HOUR_S = 3_600
START_S = 1_800_000_000


class Hands:
    """The two time sources of a machine, in seconds, as a test sets them."""

    def __init__(self) -> None:
        self.wall_s = float(START_S)
        self.elapsed_s = 0.0
        self.clock = SystemClock(lambda: int(self.wall_s * 1e9), lambda: int(self.elapsed_s * 1e9))

    def run(self, seconds: float) -> None:
        """Let time pass on both sources."""
        self.wall_s += seconds
        self.elapsed_s += seconds

    def now_s(self) -> float:
        """Return the clock's time in seconds since the start."""
        return self.clock.now_ms() / 1_000 - START_S


def test_a_process_frozen_between_two_readings_is_not_ahead_afterwards(caplog: pytest.LogCaptureFixture) -> None:
    """The two sources are read one after the other, and the process may be frozen in between: no clock was set."""
    hands, frozen_s = Hands(), [0.0]

    def reading(source: str) -> int:
        found = int(getattr(hands, source) * 1e9)
        hands.run(frozen_s.pop() if frozen_s else 0)
        return found

    clock = SystemClock(lambda: reading("wall_s"), lambda: reading("elapsed_s"))
    for seconds in (0.0, 13.0):
        frozen_s.append(seconds)
        clock.now_ms()
    assert clock.now_ms() / 1_000 - START_S == 13
    assert caplog.records == []


@pytest.mark.parametrize("back_s", [HOUR_S, 7 * 24 * HOUR_S])
def test_time_continues_while_the_wall_clock_is_behind(back_s: int, caplog: pytest.LogCaptureFixture) -> None:
    """A sleep that begins after the step takes its own time, and the step is logged once with its size."""
    hands = Hands()
    hands.run(10)
    assert hands.now_s() == 10
    hands.wall_s -= back_s
    for passed in range(1, 61):
        hands.run(1)
        assert hands.now_s() == 10 + passed
    assert [record.message for record in caplog.records] == [
        f"the system clock stepped back by {back_s:.1f} s; time continues without it until it has caught up"
    ]


def test_time_follows_the_wall_clock_again_once_it_has_caught_up() -> None:
    """A wall clock that jumped ahead and came back ends where it began: no sleep is late by the jump."""
    hands = Hands()
    hands.now_s()
    hands.wall_s += HOUR_S
    assert hands.now_s() == HOUR_S
    hands.wall_s -= HOUR_S
    hands.run(60)
    assert hands.now_s() == HOUR_S + 60
    hands.wall_s += HOUR_S + 5
    assert hands.now_s() == HOUR_S + 65


def test_only_what_is_beyond_catching_up_is_a_jump_ahead(caplog: pytest.LogCaptureFixture) -> None:
    """A wall clock that is set right again lets no timer fire early, so nothing is logged about it."""
    hands = Hands()
    hands.wall_s -= HOUR_S
    hands.now_s()
    hands.wall_s += HOUR_S
    hands.run(1)
    assert hands.now_s() == 1
    assert len(caplog.records) == 1, "the step back"
    hands.wall_s -= 60
    hands.now_s()
    hands.wall_s += 60 + 5
    assert hands.now_s() == 6
    assert caplog.records[-1].message == "the system clock jumped ahead by 5.0 s; timers due in that time fire now"


def test_a_jump_ahead_is_logged_with_its_size(caplog: pytest.LogCaptureFixture) -> None:
    """Timers that are due in the jump fire at once, so the log says how large it was."""
    hands = Hands()
    hands.run(5)
    hands.now_s()
    hands.wall_s += 90
    assert hands.now_s() == 95
    assert [record.message for record in caplog.records] == [
        "the system clock jumped ahead by 90.0 s; timers due in that time fire now"
    ]


def test_small_steps_are_neither_logged_nor_followed_back(caplog: pytest.LogCaptureFixture) -> None:
    """An ordinary correction of some milliseconds is no news, and time does not go back by it."""
    hands = Hands()
    with caplog.at_level(logging.DEBUG):
        for _ in range(20):
            hands.run(1)
            before = hands.now_s()
            hands.wall_s -= 0.004
            assert hands.now_s() >= before
    assert not caplog.records


def test_small_steps_that_add_up_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    """A wall clock that falls behind in small steps is as late as after a large one, and the log says so."""
    hands = Hands()
    for _ in range(8):
        hands.wall_s -= 0.3
        hands.now_s()
    # What it catches up and loses again counts again.
    for change_s in (3, -0.6, -0.6):
        hands.wall_s += change_s
        hands.now_s()
    sizes = [record.message.partition(" by ")[2].partition(" s;")[0] for record in caplog.records]
    assert sizes == ["1.2", "1.2", "1.2"]


async def test_a_wait_ends_by_the_clock_that_continues() -> None:
    """A wait after a step back measures what is left by the clock's own time, not by the wall clock."""
    hands = Hands()
    hands.wall_s -= HOUR_S
    until_ms = hands.clock.now_ms() + 1
    async with asyncio.timeout(60):
        await hands.clock.wait(Notification(), until_ms)
