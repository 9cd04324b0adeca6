"""The fault of a system clock that jumps while its process runs."""

import time
from dataclasses import dataclass

from tests.kafka.chaos.scene import CLOCK_AHEAD, CLOCK_BACK, SUSPEND_S_MAX, Scene, until
from tests.kafka.cluster.fleet import Member

# Timers of an engine whose clock is ahead are late, by as much, when their shard moves to another engine: a run that
# has no record for longer than run.STUCK_S is considered stuck.
AHEAD_S = (5, 25)
_WORDS = {"the system clock jumped ahead": CLOCK_AHEAD, "the system clock stepped back": CLOCK_BACK}


@dataclass(frozen=True, slots=True)
class JumpClock:
    """The system clock of a process jumps ahead of the right time, then behind it, and is right again.

    No time goes back within a process, so from then on the process is ahead until it restarts.
    """

    role: str

    async def strike(self, scene: Scene) -> None:
        """Shift the clock of a member while other faults strike."""
        member = await scene.pick(self.role)
        if self.role == "engine":
            scene.jumped_ns = min(scene.jumped_ns, time.monotonic_ns())
        scene.held.append(member)
        scene.continue_beside(self._jump(scene, member, scene.draw.randrange(*AHEAD_S)))

    async def _jump(self, scene: Scene, member: Member, ahead_s: int) -> None:
        for shift_s, words in zip((ahead_s, -ahead_s), _WORDS, strict=True):
            await self._shift(scene, member, shift_s, words)
            await scene.some_work()
        member.set_clock(0)
        scene.held.remove(member)

    async def _shift(self, scene: Scene, member: Member, shift_s: int, words: str) -> None:
        before = member.said(words)
        member.set_clock(shift_s)
        # A clock that is ahead since an earlier fault may not jump again.
        await until(lambda: member.said(words) > before or member.ended, SUSPEND_S_MAX)
        scene.noticed[_WORDS[words]] += member.said(words) > before
