"""Tables of the life cycle of a run in a worker: events, the states they lead to, and their effects."""

import inspect
from collections.abc import Callable
from functools import wraps
from typing import NamedTuple

from stepstream.runtime.worker.runs.lifecycle import OWNERSHIPS, Life
from stepstream.runtime.worker.runs.states import Effect, Event, Ownership, Phase

TABLE = "life_table"
# A worker writes these in the background, and counts them until they are durable.
REPORTS = {Effect.CLAIM, Effect.POSTPONE, Effect.REPORT_END, Effect.RELEASE_LEASE}

Transition = tuple[Phase | Ownership, Event]


_BODY = ["fresh", "slot", "body-requested", "membership-confirmed"]
# For each phase in which a worker has a run, what leads to it.
WAYS = {
    Phase.CLAIMING: ["delivered"],
    Phase.QUEUED: ["fresh"],
    Phase.OUTDATED: ["fresh", "resumed"],
    Phase.ACTIVE: ["fresh", "slot"],
    Phase.SUSPENDING: ["fresh", "slot", "report", "suspended"],
    Phase.UNLOADING: ["fresh", "slot", "report", "unloaded"],
    Phase.YIELDING: ["fresh", "slot", "report", "yielded"],
    Phase.DETACHING: ["fresh", "slot", "report", "detached"],
    Phase.PARKED: ["fresh", "slot", "suspended"],
    Phase.DETACHED: ["fresh", "slot", "detached"],
    Phase.WOKEN: ["fresh", "slot", "suspended", "resumed"],
    Phase.LEAVING: [*_BODY, "drain", "body-requested"],
    Phase.EXPIRING: ["fresh", "slot", "expired"],
    Phase.RELOADING: [*_BODY, "reload"],
    Phase.RETURNING: [*_BODY, "lease", "revoked", "body-requested", "body ended"],
    Phase.ENDING: ["fresh", "slot", "ended"],
}


class Line(NamedTuple):
    """A line of a table: what happens, and the state and the effects expected after it."""

    happens: str
    state: str
    effects: list[str]


class WatchedLife(Life):
    """A life that notes each transition that it makes."""

    def __init__(self, name: str = "run") -> None:
        super().__init__(name)
        self.made: list[Transition] = []

    def on(self, event: Event) -> tuple[Effect, ...]:
        """Apply an event."""
        phase, decision = self.phase, OWNERSHIPS[self.ownership].get(event)
        if decision is not None:
            self.made.append((self.ownership, event))
        if decision is None or decision.passes:
            self.made.append((phase, decision.passes if decision and decision.passes else event))
        return super().on(event)


def play(life: Life, happens: str) -> list[str]:
    """Apply one line as a worker does, which counts bodies and reports; return the effects."""
    effects: tuple[Effect, ...] = ()
    match happens:
        case "report":
            life.reports += 1
        case "reports durable":
            life.reports = 0
        case "body ended":
            life.bodies -= 1
        case "lease" | "renew":
            effects = (Effect.LEASE,) if life.lease(Event(happens)) else ()
        case _:
            effects = life.on(Event(happens))
    life.reports += len(REPORTS.intersection(effects))
    settled = life.settle()
    life.reports += len(REPORTS.intersection(settled))
    return [str(effect) for effect in effects + settled]


def lead_to(phase: Phase) -> WatchedLife:
    """Return a life in a phase."""
    life = WatchedLife()
    for happens in WAYS[phase]:
        play(life, happens)
    assert life.phase is phase
    return life


def read_table(text: str) -> list[Line]:
    """Return the lines of the table in a docstring; a line without a state leaves it as it was."""
    cells = [[cell.strip() for cell in line.split("|")] for line in text.splitlines() if line.count("|") == 2]
    lines: list[Line] = []
    for happens, state, effects in cells:
        lines.append(Line(happens, state or (lines[-1].state if lines else "absent held"), effects.split()))
    return lines


def follow(lines: list[Line]) -> list[Transition]:
    """Play a table and compare each line; return the transitions that it made."""
    life = WatchedLife()
    for number, line in enumerate(lines, 1):
        effects = play(life, line.happens)
        found = (f"{life.phase} {life.ownership}", effects)
        assert found == (line.state, line.effects), f"line {number}, {line.happens}"
    return life.made


def life_table(test: Callable[[], None]) -> Callable[[], None]:
    """Make a test of a function whose docstring states a behaviour and shows it in a table.

    A line has what happens, the phase and the ownership after it, and the effects. Apart from the events there are
    `report` (one is written in the background), `reports durable`, and `body ended`.
    """
    lines = read_table(inspect.getdoc(test) or "")
    assert lines, f"{test.__name__} has no table"

    @wraps(test)
    def followed() -> None:
        follow(lines)

    followed.__dict__[TABLE] = lines
    return followed
