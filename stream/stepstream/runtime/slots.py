"""The slots of a worker: how many of its runs may have code at work, how many more may linger, and who waits."""

from collections import OrderedDict
from dataclasses import dataclass, field

from stepstream.runtime.live import LiveRun


@dataclass(slots=True)
class Slots:
    """`active` runs have a slot; those that are `lingering` need none, but stay in memory, so there is a bound.

    Those that are `waiting` for a slot are in the order in which they came.
    """

    active_max: int
    lingering_max: int
    active: int = 0
    lingering: int = 0
    waiting: OrderedDict[LiveRun, None] = field(default_factory=OrderedDict)

    @property
    def full(self) -> bool:
        """Tell whether no other run may begin now."""
        return self.active >= self.active_max or self.lingering >= self.lingering_max

    def note(self, run: LiveRun, *, active: bool, lingers: bool) -> None:
        """Note how a run is from now on."""
        self.active += active - run.active
        self.lingering += lingers - run.lingers
        run.active, run.lingers = active, lingers

    def next_turn(self) -> LiveRun | None:
        """Take the run that has waited the longest, if it may begin now."""
        return self.waiting.popitem(last=False)[0] if self.waiting and not self.full else None
