"""The slots of a worker: how many of its runs may have code at work, and how many more may linger."""

from dataclasses import dataclass

from stepstream.runtime.live import LiveRun


@dataclass(slots=True)
class Slots:
    """`active` runs have a slot; those that are `lingering` need none, but stay in memory, so there is a bound."""

    active_max: int
    lingering_max: int
    active: int = 0
    lingering: int = 0

    @property
    def full(self) -> bool:
        """Tell whether no other run may begin now."""
        return self.active >= self.active_max or self.lingering >= self.lingering_max

    def note(self, run: LiveRun, *, active: bool, lingers: bool) -> None:
        """Note how a run is from now on."""
        self.active += active - run.active
        self.lingering += lingers - run.lingers
        run.active, run.lingers = active, lingers
