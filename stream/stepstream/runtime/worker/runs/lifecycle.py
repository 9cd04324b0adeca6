"""The life cycle of a run in a worker, as two tables: the phase of its code, and its ownership.

The phase says what the code of the run can do next. The ownership says whether another worker may get the run: its
partition may be revoked while a body is running, and the worker may drain. An event goes to the ownership first. Where
the ownership has an entry for it, that entry applies, and may pass a second event to the phase, such as `allowed` or
`refused` for `membership-confirmed`. Any other event goes to the phase directly. Effects are returned for a worker to
perform.

A step that was dispatched to a queue has the same life cycle. It uses fewer of its phases.
"""

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Generic, NamedTuple, TypeVar

from stepstream.contract.errors import StepstreamError
from stepstream.runtime.worker.runs.states import UPDATES, Effect, Event, Ownership, Phase

S = TypeVar("S", Phase, Ownership)


class Move(NamedTuple, Generic[S]):
    """What an event does: the next state, the effects, and the event that an ownership passes to the phase."""

    to: S
    effects: tuple[Effect, ...] = ()
    passes: Event | None = None


def _to(state: S, *effects: Effect, passes: Event | None = None) -> Move[S]:
    return Move(state, effects, passes)


def _stay(state: S, *events: Event) -> dict[Event, Move[S]]:
    return {event: Move(state) for event in events}


_STOP = {
    Event.STOP: _to(Phase.STOPPED, Effect.ACKNOWLEDGE, Effect.DROP),
    Event.LOST: _to(Phase.STOPPED, Effect.FORGET, Effect.DROP),
}
_RECLAIM = _to(Phase.STOPPED, Effect.RECLAIM)
_ABANDON = _to(Phase.STOPPED, Effect.FORGET, Effect.DROP)
_RETURN = _to(Phase.RETURNING, Effect.STOP_CODE, Effect.RELEASE_LEASE)
_END = _to(Phase.ENDING, Effect.REPORT_END)

PHASES: Mapping[Phase, Mapping[Event, Move[Phase]]] = {
    Phase.ABSENT: {
        Event.FRESH: _to(Phase.QUEUED, Effect.QUEUE_START),
        Event.UNRUNNABLE: _to(Phase.ENDING, Effect.POSTPONE),
        Event.DELIVERED: _to(Phase.CLAIMING, Effect.CLAIM),
        Event.TAKEN: _to(Phase.CLAIMING, Effect.CLAIM),
        Event.RESUMED: _to(Phase.CLAIMING, Effect.CLAIM),
        Event.RELOAD: _to(Phase.CLAIMING, Effect.CLAIM),
        Event.EXPIRED: _to(Phase.CLAIMING, Effect.CLAIM),
        Event.UPDATED: _to(Phase.STOPPED, Effect.ACKNOWLEDGE, Effect.DROP),
        Event.STOP: _to(Phase.STOPPED, Effect.ACKNOWLEDGE, Effect.DROP),
    },
    Phase.CLAIMING: {
        Event.GRANTED: _to(Phase.QUEUED, Effect.QUEUE_START),
        Event.UNRUNNABLE: _to(Phase.ENDING, Effect.POSTPONE),
        **_stay(Phase.CLAIMING, *UPDATES),
        **_STOP,
    },
    Phase.QUEUED: {
        Event.SLOT: _to(Phase.ACTIVE, Effect.TAKE_SLOT, Effect.START_CODE),
        Event.TAKEN: _to(Phase.OUTDATED),
        Event.RESUMED: _to(Phase.OUTDATED),
        Event.UPDATED: _to(Phase.OUTDATED),
        Event.RELOAD: _to(Phase.OUTDATED),
        Event.EXPIRED: _to(Phase.OUTDATED),
        Event.DISPLACED: _ABANDON,
        **_stay(Phase.QUEUED, Event.STALE),
        **_STOP,
    },
    Phase.OUTDATED: {
        Event.SLOT: _to(Phase.CLAIMING, Effect.CLAIM),
        Event.DISPLACED: _ABANDON,
        **_stay(Phase.OUTDATED, *UPDATES),
        **_STOP,
    },
    Phase.ACTIVE: {
        Event.RESUMED: _to(Phase.ACTIVE, Effect.KEEP_RESULTS, Effect.RESUME_CODE),
        Event.UPDATED: _to(Phase.ACTIVE, Effect.KEEP_RESULTS, Effect.RESUME_CODE),
        Event.TAKEN: _RECLAIM,
        Event.EXPIRED: _to(Phase.EXPIRING),
        Event.RELOAD: _to(Phase.RELOADING),
        Event.ALLOWED: _to(Phase.ACTIVE, Effect.START_BODY),
        Event.REFUSED: _to(Phase.LEAVING),
        Event.SUSPENDED: _to(Phase.SUSPENDING),
        Event.UNLOADED: _to(Phase.UNLOADING),
        Event.YIELDED: _to(Phase.YIELDING),
        Event.DETACHED: _to(Phase.DETACHING),
        Event.ENDED: _END,
        **_stay(Phase.ACTIVE, Event.STALE, Event.CONTINUED),
        **_STOP,
    },
    Phase.SUSPENDING: {
        Event.SETTLED: _to(Phase.PARKED, Effect.ACKNOWLEDGE, Effect.PARK),
        Event.RETURNED: _RETURN,
        Event.RESUMED: _to(Phase.ACTIVE, Effect.KEEP_RESULTS, Effect.RESUME_CODE),
        Event.UPDATED: _to(Phase.ACTIVE, Effect.KEEP_RESULTS, Effect.RESUME_CODE),
        Event.TAKEN: _RECLAIM,
        Event.RELOAD: _to(Phase.RELOADING),
        Event.EXPIRED: _to(Phase.RELOADING),
        Event.CONTINUED: _to(Phase.ACTIVE),
        Event.DETACHED: _to(Phase.DETACHING),
        Event.ENDED: _END,
        **_stay(Phase.SUSPENDING, Event.STALE, Event.SUSPENDED),
        **_STOP,
    },
    Phase.UNLOADING: {
        Event.SETTLED: _to(Phase.STOPPED, Effect.ACKNOWLEDGE, Effect.DROP),
        Event.RETURNED: _RETURN,
        Event.RESUMED: _RECLAIM,
        Event.TAKEN: _RECLAIM,
        Event.RELOAD: _to(Phase.RELOADING),
        Event.EXPIRED: _to(Phase.RELOADING),
        Event.CONTINUED: _to(Phase.ACTIVE),
        Event.DETACHED: _to(Phase.DETACHING),
        Event.ENDED: _END,
        **_stay(Phase.UNLOADING, Event.UPDATED, Event.STALE, Event.UNLOADED),
        **_STOP,
    },
    # The code is stopped before the report is written: otherwise it could continue while another run has the permit.
    # A command that brings news first has the run claimed, because the report would have the number of earlier news.
    Phase.YIELDING: {
        Event.SETTLED: _to(Phase.ENDING, Effect.STOP_CODE, Effect.REPORT_END),
        Event.RETURNED: _RETURN,
        Event.RESUMED: _RECLAIM,
        Event.UPDATED: _RECLAIM,
        Event.TAKEN: _RECLAIM,
        Event.RELOAD: _to(Phase.RELOADING),
        Event.EXPIRED: _to(Phase.RELOADING),
        Event.CONTINUED: _to(Phase.ACTIVE),
        Event.DETACHED: _to(Phase.DETACHING),
        Event.ENDED: _END,
        **_stay(Phase.YIELDING, Event.STALE, Event.YIELDED),
        **_STOP,
    },
    Phase.DETACHING: {
        Event.SETTLED: _to(Phase.DETACHED, Effect.DETACH),
        Event.RETURNED: _RETURN,
        Event.RESUMED: _to(Phase.ACTIVE, Effect.KEEP_RESULTS, Effect.RESUME_CODE),
        Event.UPDATED: _to(Phase.ACTIVE, Effect.KEEP_RESULTS, Effect.RESUME_CODE),
        Event.TAKEN: _RECLAIM,
        Event.RELOAD: _to(Phase.RELOADING),
        Event.EXPIRED: _to(Phase.RELOADING),
        Event.CONTINUED: _to(Phase.ACTIVE),
        Event.SUSPENDED: _to(Phase.SUSPENDING),
        Event.UNLOADED: _to(Phase.UNLOADING),
        Event.YIELDED: _to(Phase.YIELDING),
        Event.ENDED: _END,
        **_stay(Phase.DETACHING, Event.STALE, Event.DETACHED),
        **_STOP,
    },
    Phase.PARKED: {
        Event.RESUMED: _to(Phase.WOKEN, Effect.KEEP_RESULTS, Effect.UNPARK, Effect.QUEUE_RESUME),
        Event.UPDATED: _to(Phase.WOKEN, Effect.KEEP_RESULTS, Effect.UNPARK, Effect.QUEUE_RESUME),
        Event.STALE: _to(Phase.PARKED, Effect.ACKNOWLEDGE),
        Event.TAKEN: _RECLAIM,
        Event.RELOAD: _RECLAIM,
        Event.EXPIRED: _RECLAIM,
        Event.EVICTED: _to(Phase.STOPPED, Effect.DROP),
        Event.CONTINUED: _to(Phase.ACTIVE, Effect.UNPARK, Effect.TAKE_SLOT, Effect.ASK_WAKE),
        Event.ENDED: _to(Phase.ENDING, Effect.UNPARK, Effect.REPORT_END),
        # It still waits for a step of the engine, or it would have asked for something.
        **_stay(Phase.PARKED, Event.SUSPENDED, Event.DETACHED),
        **_STOP,
    },
    Phase.DETACHED: {
        Event.RESUMED: _to(Phase.WOKEN, Effect.KEEP_RESULTS, Effect.QUEUE_RESUME),
        Event.UPDATED: _to(Phase.WOKEN, Effect.KEEP_RESULTS, Effect.QUEUE_RESUME),
        Event.TAKEN: _RECLAIM,
        Event.RELOAD: _RECLAIM,
        Event.EXPIRED: _RECLAIM,
        Event.CONTINUED: _to(Phase.ACTIVE, Effect.TAKE_SLOT),
        Event.SUSPENDED: _to(Phase.SUSPENDING),
        Event.UNLOADED: _to(Phase.UNLOADING),
        Event.YIELDED: _to(Phase.YIELDING),
        Event.ENDED: _END,
        **_stay(Phase.DETACHED, Event.STALE, Event.DETACHED),
        **_STOP,
    },
    Phase.WOKEN: {
        Event.SLOT: _to(Phase.ACTIVE, Effect.TAKE_SLOT, Effect.RESUME_CODE),
        Event.CONTINUED: _to(Phase.ACTIVE, Effect.TAKE_SLOT, Effect.RESUME_CODE),
        Event.TAKEN: _RECLAIM,
        Event.RELOAD: _RECLAIM,
        Event.EXPIRED: _RECLAIM,
        Event.DISPLACED: _ABANDON,
        Event.ENDED: _to(Phase.ENDING, Effect.WITHDRAW, Effect.REPORT_END),
        Event.RESUMED: _to(Phase.WOKEN, Effect.KEEP_RESULTS),
        Event.UPDATED: _to(Phase.WOKEN, Effect.KEEP_RESULTS),
        **_stay(Phase.WOKEN, Event.STALE, Event.SUSPENDED, Event.UNLOADED, Event.YIELDED, Event.DETACHED),
        **_STOP,
    },
    # A run leaves when its partition is revoked, and then its ownership notes the commands; or when the worker drains,
    # and then none is read.
    Phase.LEAVING: {
        Event.SETTLED: _ABANDON,
        Event.RETURNED: _RETURN,
        Event.ENDED: _END,
        # Code that cancels the step whose body was refused can wait for the engine, or for something else.
        **_stay(Phase.LEAVING, Event.CONTINUED, Event.REFUSED),
        **_stay(Phase.LEAVING, Event.SUSPENDED, Event.UNLOADED, Event.YIELDED, Event.DETACHED),
        **_STOP,
    },
    # The code gets the results of the bodies that are running. Once it waits, or asks for another body, it is over.
    Phase.EXPIRING: {
        Event.RELOAD: _to(Phase.RELOADING),
        Event.TAKEN: _RECLAIM,
        Event.ALLOWED: _to(Phase.RELOADING),
        Event.REFUSED: _to(Phase.RELOADING),
        Event.SUSPENDED: _to(Phase.RELOADING),
        Event.UNLOADED: _to(Phase.RELOADING),
        Event.YIELDED: _to(Phase.RELOADING),
        Event.DETACHED: _to(Phase.RELOADING),
        Event.ENDED: _END,
        **_stay(Phase.EXPIRING, Event.RESUMED, Event.UPDATED, Event.EXPIRED, Event.STALE, Event.CONTINUED),
        **_STOP,
    },
    Phase.RELOADING: {
        Event.SETTLED: _RECLAIM,
        Event.RETURNED: _RETURN,
        Event.TAKEN: _RECLAIM,
        Event.ENDED: _END,
        # The claim has the results. A body that may start only now does not.
        **_stay(Phase.RELOADING, Event.RESUMED, Event.UPDATED, Event.RELOAD, Event.EXPIRED, Event.STALE),
        **_stay(Phase.RELOADING, Event.ALLOWED, Event.REFUSED),
        **_stay(Phase.RELOADING, Event.CONTINUED, Event.SUSPENDED, Event.UNLOADED, Event.YIELDED, Event.DETACHED),
        **_STOP,
    },
    Phase.RETURNING: {
        Event.FINISHED: _ABANDON,
        Event.RECLAIMED: _RECLAIM,
        # A thread may be about to start a body when its code is stopped.
        **_stay(Phase.RETURNING, Event.REFUSED),
        **_STOP,
    },
    Phase.ENDING: {
        Event.FINISHED: _to(Phase.STOPPED, Effect.ACKNOWLEDGE, Effect.DROP),
        Event.RECLAIMED: _RECLAIM,
        Event.RESUMED: _RECLAIM,
        Event.TAKEN: _RECLAIM,
        Event.RELOAD: _RECLAIM,
        Event.EXPIRED: _RECLAIM,
        **_stay(Phase.ENDING, Event.UPDATED, Event.STALE, Event.ALLOWED, Event.REFUSED, Event.ENDED),
        **_STOP,
    },
    Phase.STOPPED: {},
}

_COME_BACK = {event: _to(Ownership.BACK) for event in UPDATES}

OWNERSHIPS: Mapping[Ownership, Mapping[Event, Move[Ownership]]] = {
    Ownership.HELD: {
        Event.BODY_REQUESTED: _to(Ownership.HELD, Effect.CONFIRM),
        Event.CONFIRMED: _to(Ownership.HELD, passes=Event.ALLOWED),
        Event.QUIESCENT: _to(Ownership.HELD, passes=Event.SETTLED),
        Event.DURABLE: _to(Ownership.HELD, passes=Event.FINISHED),
        Event.LEASE: _to(Ownership.MOVING, Effect.LEASE),
        Event.REVOKED: _to(Ownership.HELD, passes=Event.LOST),
        Event.DRAIN: _to(Ownership.DRAINING),
        **_stay(Ownership.HELD, Event.RENEW, Event.KEPT),
    },
    Ownership.MOVING: {
        Event.BODY_REQUESTED: _to(Ownership.MOVING, Effect.CONFIRM),
        Event.DURABLE: _to(Ownership.MOVING, passes=Event.FINISHED),
        Event.LEASE: _to(Ownership.MOVING, Effect.LEASE),
        Event.RENEW: _to(Ownership.MOVING, Effect.LEASE),
        Event.KEPT: _to(Ownership.HELD, Effect.RELEASE_LEASE),
        Event.REVOKED: _to(Ownership.AWAY, Effect.FORGET),
        Event.DRAIN: _to(Ownership.RETIRING),
        # Whether the run may stay is known when the group has reassigned the partitions. Until then, no membership is
        # confirmed either.
        **_stay(Ownership.MOVING, Event.QUIESCENT),
    },
    Ownership.AWAY: {
        Event.BODY_REQUESTED: _to(Ownership.AWAY, passes=Event.REFUSED),
        Event.CONFIRMED: _to(Ownership.AWAY, passes=Event.REFUSED),
        Event.QUIESCENT: _to(Ownership.AWAY, passes=Event.RETURNED),
        Event.DURABLE: _to(Ownership.AWAY, passes=Event.FINISHED),
        Event.LEASE: _to(Ownership.AWAY, Effect.LEASE),
        Event.RENEW: _to(Ownership.AWAY, Effect.LEASE),
        Event.DRAIN: _to(Ownership.RETIRING),
        **_COME_BACK,
        **_stay(Ownership.AWAY, Event.KEPT, Event.REVOKED),
    },
    Ownership.BACK: {
        Event.BODY_REQUESTED: _to(Ownership.BACK, passes=Event.REFUSED),
        Event.CONFIRMED: _to(Ownership.BACK, passes=Event.REFUSED),
        Event.QUIESCENT: _to(Ownership.BACK, passes=Event.RETURNED),
        Event.DURABLE: _to(Ownership.BACK, passes=Event.RECLAIMED),
        Event.LEASE: _to(Ownership.BACK, Effect.LEASE),
        Event.RENEW: _to(Ownership.BACK, Effect.LEASE),
        Event.REVOKED: _to(Ownership.AWAY, Effect.FORGET),
        Event.DRAIN: _to(Ownership.RETIRING, Effect.FORGET),
        **_stay(Ownership.BACK, *UPDATES, Event.KEPT),
    },
    Ownership.DRAINING: {
        Event.BODY_REQUESTED: _to(Ownership.DRAINING, passes=Event.REFUSED),
        Event.CONFIRMED: _to(Ownership.DRAINING, passes=Event.REFUSED),
        Event.QUIESCENT: _to(Ownership.DRAINING, passes=Event.SETTLED),
        Event.DURABLE: _to(Ownership.DRAINING, passes=Event.FINISHED),
        Event.LEASE: _to(Ownership.RETIRING, Effect.LEASE),
        Event.REVOKED: _to(Ownership.DRAINING, passes=Event.LOST),
        **_stay(Ownership.DRAINING, Event.RENEW, Event.KEPT, Event.DRAIN),
    },
    Ownership.RETIRING: {
        Event.BODY_REQUESTED: _to(Ownership.RETIRING, passes=Event.REFUSED),
        Event.CONFIRMED: _to(Ownership.RETIRING, passes=Event.REFUSED),
        # No command is read any longer: the worker that gets the partition reads those of the run again.
        Event.QUIESCENT: _to(Ownership.RETIRING, Effect.FORGET, passes=Event.RETURNED),
        Event.DURABLE: _to(Ownership.RETIRING, passes=Event.FINISHED),
        Event.LEASE: _to(Ownership.RETIRING, Effect.LEASE),
        **_stay(Ownership.RETIRING, Event.RENEW, Event.KEPT, Event.REVOKED, Event.DRAIN),
    },
}
_RESTING = {phase for phase, moves in PHASES.items() if Event.SETTLED in moves}
_OVER = {phase for phase, moves in PHASES.items() if Event.FINISHED in moves}


class IllegalTransition(StepstreamError):
    """An event reached a run in a state in which it cannot happen: a bug of the worker."""

    code = "illegal-transition"


@functools.cache
def _transition(
    phase: Phase, ownership: Ownership, event: Event
) -> tuple[Phase, Ownership, tuple[Effect, ...], int] | None:
    """Return the states after an event, the effects, and how many bodies start; None where the tables lack the event.

    Each event of each run comes through here, so the combined result of the two tables is cached.
    """
    moves, effects = PHASES[phase], tuple[Effect, ...]()
    if not moves:
        return phase, ownership, effects, 0
    decision = OWNERSHIPS[ownership].get(event)
    if decision is not None:
        ownership, effects = decision.to, decision.effects
        if decision.passes is None:
            return phase, ownership, effects, 0
        event = decision.passes
    if event not in moves:
        return None
    effects += moves[event].effects
    return moves[event].to, ownership, effects, effects.count(Effect.START_BODY)


@dataclass(slots=True)
class Life:
    """Where one run is in its life cycle; `name` is that of the run, or of a dispatched step, in errors.

    `bodies` are running, and `reports` were written in the background and are not durable yet.
    """

    name: str
    phase: Phase = Phase.ABSENT
    ownership: Ownership = Ownership.HELD
    bodies: int = 0
    reports: int = 0

    def on(self, event: Event) -> tuple[Effect, ...]:
        """Apply an event, and return the effects in the order in which to perform them; a stopped run has none.

        Raise IllegalTransition where neither table has the event.
        """
        transition = _transition(self.phase, self.ownership, event)
        if transition is None:
            state = f"{self.phase} and {self.ownership}"
            raise IllegalTransition(f"run {self.name}: {event} cannot happen to a run that is {state}")
        self.phase, self.ownership, effects, started_bodies = transition
        self.bodies += started_bodies
        return effects

    def settle(self) -> tuple[Effect, ...]:
        """Apply what follows once no body is running and all reports are durable, and return the effects.

        To be called after each event, when its effects are performed and the reports among them are counted.
        """
        if self.reports:
            return ()
        if self.phase in _OVER:
            return self.on(Event.DURABLE)
        if self.phase in _RESTING and not self.bodies:
            return self.on(Event.QUIESCENT)
        return ()

    def lease(self, event: Event) -> bool:
        """Apply LEASE or RENEW to a run with running bodies; return whether to report a lease."""
        return self.bodies > 0 and Effect.LEASE in self.on(event)
