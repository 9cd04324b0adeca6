"""The slots of a worker: how many of its runs may have code at work, how many more may linger, and who waits."""

from collections import OrderedDict
from dataclasses import dataclass, field

from stepstream.runtime.worker.live_run import LiveRun


@dataclass(slots=True)
class Slots:
    """`active` runs have a slot; those that are `lingering` need none, but stay in memory, so there is a bound.

    Those that are `waiting` for a slot are in the order in which they came; so many of them were `woken`, and go on.
    """

    active_max: int
    lingering_max: int
    active: int = 0
    lingering: int = 0
    woken: int = 0
    waiting: OrderedDict[LiveRun, None] = field(default_factory=OrderedDict)

    @property
    def full(self) -> bool:
        """Tell whether no other run may have code at work now."""
        return self.active >= self.active_max

    @property
    def crowded(self) -> bool:
        """Tell whether no other run may begin now; one that is in memory may go on when there is a slot."""
        return self.full or self.lingering >= self.lingering_max

    def note(self, run: LiveRun, *, active: bool, lingers: bool) -> None:
        """Note how a run is from now on."""
        self.active += active - run.active
        self.lingering += lingers - run.lingers
        run.active, run.lingers = active, lingers

    def take(self, run: LiveRun) -> None:
        """Give a run a slot, whether there is one or not: it is at work, and waits no longer."""
        self.forget(run)
        self.note(run, active=True, lingers=False)

    def wait(self, run: LiveRun) -> None:
        """Have a run wait, behind the others if it does not already."""
        if run not in self.waiting:
            self.waiting[run] = None
            self.woken += bool(run.news)

    def forget(self, run: LiveRun) -> None:
        """Have a run wait no longer."""
        if run in self.waiting:
            del self.waiting[run]
            self.woken -= bool(run.news)

    def next_turn(self) -> LiveRun | None:
        """Take the run that has waited the longest of those that may begin or go on now."""
        if self.full or (self.crowded and not self.woken):
            return None
        run = next((run for run in self.waiting if run.news or not self.crowded), None)
        if run is not None:
            self.forget(run)
        return run
