"""The life cycle as a whole: every transition is shown, can be reached, and none that can happen is missing."""

import importlib

from stepstream import App
from stepstream.runtime.worker.runs.lifecycle import OWNERSHIPS, PHASES, Life
from stepstream.runtime.worker.runs.states import UPDATES, Effect, Event, Ownership, Phase
from stepstream.runtime.worker.worker import Worker
from tests.fakes.worker_log import FakeWorkerLog
from tests.runtime.worker.harness import options
from tests.runtime.worker.runs.life_tables import TABLE, WAYS, Transition, follow, lead_to, play
from tests.tidy_rules import ROOT

State = tuple[Phase, Ownership]
_SPECIFIED: set[Transition] = {
    *((phase, event) for phase, moves in PHASES.items() for event in moves),
    *((ownership, event) for ownership, moves in OWNERSHIPS.items() for event in moves),
}


def test_every_transition_is_exercised_by_a_table() -> None:
    """The tables of this folder, and the events that are tried in each phase, make each transition."""
    paths = (ROOT / "tests" / "runtime" / "worker").rglob("test_life_of_*.py")
    modules = [importlib.import_module(".".join(path.relative_to(ROOT).with_suffix("").parts)) for path in paths]
    tables = [vars(test)[TABLE] for module in modules for test in vars(module).values() if TABLE in dir(test)]
    made = {transition for lines in tables for transition in follow(lines)}
    for phase in WAYS:
        for happens in ("stop", "taken", "reload", "expired", "lost", "revoked"):
            life = lead_to(phase)
            if happens in ("taken", "reload", "expired") and life.ownership is Ownership.DRAINING:
                continue  # No command is read.
            play(life, happens)
            made |= set(life.made)
    assert sorted(_SPECIFIED - made) == [], "no table shows these transitions"


_LIVE = {Phase.ACTIVE, Phase.SUSPENDING, Phase.UNLOADING, Phase.DETACHING, Phase.PARKED, Phase.DETACHED}
_LIVE |= {Phase.WOKEN, Phase.LEAVING, Phase.RELOADING, Phase.EXPIRING, Phase.YIELDING}
# What code does that waits for the engine: in the cache, without one, and in a run with limits on work.
_WAITS = (Event.SUSPENDED, Event.UNLOADED, Event.YIELDED)
_DRAINS = {Ownership.DRAINING, Ownership.RETIRING}
_FIRST = {Event.FRESH, Event.DELIVERED, Event.UNRUNNABLE, Event.TAKEN, Event.RESUMED, Event.UPDATED, Event.RELOAD}
_FIRST |= {Event.STOP, Event.EXPIRED}
# Where a body may be running. A thread may request one while its run ends.
_BODIES = {Phase.ACTIVE, Phase.LEAVING, Phase.EXPIRING, Phase.RELOADING, Phase.ENDING}


def possible(phase: Phase, ownership: Ownership, waits_by: Event) -> set[Event]:
    """Return what can happen to a run whose code waits for the engine by the event `waits_by`."""
    if phase is Phase.ABSENT:
        return _FIRST
    if phase is Phase.STOPPED:
        return set()
    drains = ownership in _DRAINS
    read = {*UPDATES, Event.STOP, *([Event.GRANTED, Event.UNRUNNABLE] if phase is Phase.CLAIMING else [])}
    waits = {waits_by, Event.CONTINUED, Event.DETACHED, Event.ENDED}
    events = {
        Event.DISPLACED if drains else Event.SLOT: phase in (Phase.QUEUED, Phase.OUTDATED, Phase.WOKEN),
        Event.EVICTED: phase is Phase.PARKED,
        Event.BODY_REQUESTED: phase in _BODIES or phase is Phase.RETURNING,
        Event.CONFIRMED: (phase in _BODIES or phase is Phase.RETURNING) and ownership is not Ownership.MOVING,
        Event.LEASE: phase in _BODIES,
        Event.RENEW: phase in _BODIES,
        Event.QUIESCENT: Event.SETTLED in PHASES[phase],
        Event.DURABLE: Event.FINISHED in PHASES[phase],
    }
    always = {Event.KEPT, Event.REVOKED, Event.LOST, Event.DRAIN}
    found = always | {event for event, may in events.items() if may} | (set() if drains else read)
    return found | (waits if phase in _LIVE else set()) | ({Event.ENDED} if phase is Phase.ENDING else set())


def explore(waits_by: Event) -> tuple[set[State], set[Transition]]:
    """Return the states that can be reached, and the transitions made; raise IllegalTransition for one that is not."""
    found: set[State] = {(Phase.ABSENT, Ownership.HELD)}
    made: set[Transition] = set()
    pending = list(found)
    while pending:
        state = pending.pop()
        for event in possible(*state, waits_by):
            life = Life("run", *state)
            life.on(event)
            decision = OWNERSHIPS[state[1]].get(event)
            made |= {(state[1], event)} if decision else {(state[0], event)}
            made |= {(state[0], decision.passes)} if decision and decision.passes else set()
            after = (life.phase, life.ownership)
            pending += {after} - found
            found.add(after)
    return found, made


def test_every_possible_event_has_a_transition_and_none_is_unreachable() -> None:
    """In every state that a run can reach, each event that can happen is in the tables, and they have no others."""
    made = set().union(*(explore(waits_by)[1] for waits_by in _WAITS))
    assert sorted(_SPECIFIED - made) == []


def test_a_worker_performs_every_effect() -> None:
    """It writes leases in one go, for all runs of a rebalance."""
    assert {*Worker(FakeWorkerLog(), App("shop"), options())._effects, Effect.LEASE} == set(Effect)


def test_a_run_that_waits_without_a_slot_has_no_lease() -> None:
    """A lease is for running bodies: nothing is left of it when the run parks or waits for a slot."""
    found = set().union(*(explore(waits_by)[0] for waits_by in _WAITS))
    idle = {Phase.CLAIMING, Phase.QUEUED, Phase.OUTDATED, Phase.PARKED, Phase.DETACHED, Phase.WOKEN}
    assert {ownership for phase, ownership in found if phase in idle} == {Ownership.HELD, Ownership.DRAINING}


def test_a_run_is_dropped_once_and_its_commands_have_one_fate() -> None:
    """Each transition to the end acknowledges the commands, leaves them to another worker, or claims the run again."""
    fates = {(Effect.ACKNOWLEDGE, Effect.DROP), (Effect.FORGET, Effect.DROP), (Effect.RECLAIM,), (Effect.DROP,)}
    ends = [move.effects for moves in PHASES.values() for move in moves.values() if move.to is Phase.STOPPED]
    assert set(ends) == fates
    # A parked run has acknowledged its commands.
    assert [phase for phase in PHASES if (Effect.DROP,) in {move.effects for move in PHASES[phase].values()}] == [
        Phase.PARKED
    ]
