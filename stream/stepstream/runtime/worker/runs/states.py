"""The words of a worker's life cycle: the states of a run in a worker, the events, and the effects."""

from enum import StrEnum


class Phase(StrEnum):
    """What the code of a run can do next."""

    ABSENT = "absent"  # Unknown to this worker.
    CLAIMING = "claiming"  # Claimed, and the engine has not granted the claim.
    QUEUED = "queued"  # The worker has the state of the run, and starts its code when there is a slot.
    OUTDATED = "outdated"  # Queued with a state that is out of date: it is claimed again when there is a slot.
    ACTIVE = "active"  # The code or one of its bodies is running.
    SUSPENDING = "suspending"  # The code waits for the engine, and some of its reports are not durable yet.
    UNLOADING = "unloading"  # Like suspending, but the code cannot be resumed: the run is dropped afterwards.
    YIELDING = "yielding"  # Like suspending, but the code is stopped afterwards, and the run is reported as parked.
    DETACHING = "detaching"  # The code waits on external work, and some of its reports are not durable yet.
    PARKED = "parked"  # The code waits for the engine; its commands are acknowledged, and it may be evicted.
    DETACHED = "detached"  # The code waits on external work without a slot; its commands are not acknowledged.
    WOKEN = "woken"  # The code was parked or detached, and is resumed when there is a slot.
    LEAVING = "leaving"  # A body was refused; the run leaves the worker when the other bodies have ended.
    EXPIRING = "expiring"  # The time of the run is exceeded; its code may end with the results of running bodies.
    RELOADING = "reloading"  # The run is claimed again when the bodies that run have ended; no other one starts.
    RETURNING = "returning"  # The code is stopped, and the report that releases the lease is not durable yet.
    ENDING = "ending"  # The code has ended or was stopped, and the last report of the run is not durable yet.
    STOPPED = "stopped"  # Dropped by this worker.


class Ownership(StrEnum):
    """Which worker may run the run, and for how long that is this one."""

    HELD = "held"  # The partition of the run is assigned to this worker.
    MOVING = "moving"  # The group reassigns partitions, and the run has a lease because a body is running.
    AWAY = "away"  # The partition is assigned to another worker; by its lease the run stays here for its bodies.
    BACK = "back"  # Like away, and commands of the run were read since: the run is claimed again afterwards.
    DRAINING = "draining"  # The worker drains.
    RETIRING = "retiring"  # The worker drains, and the run has a lease so that the worker may leave the group.


class Event(StrEnum):
    """What happens to a run."""

    # A command of the run was read.
    FRESH = "fresh"  # It starts the run, and no other worker can have started it.
    DELIVERED = "delivered"  # It starts the run, which another worker may have done.
    GRANTED = "granted"  # It grants the claim of this worker.
    UNRUNNABLE = "unrunnable"  # Like fresh or granted, but this worker does not have the function.
    TAKEN = "taken"  # It grants the claim of another worker.
    RESUMED = "resumed"  # It brings what the code waits for.
    UPDATED = "updated"  # It brings results that do not wake the code by themselves.
    RELOAD = "reload"  # It has the run claimed again once no body is running: the run is paused, or was.
    EXPIRED = "expired"  # Like reload, but code that is running may still end the run: its time is exceeded.
    STALE = "stale"  # It brings nothing new.
    STOP = "stop"  # The run has ended, or waits for its next attempt.
    # The worker makes room.
    SLOT = "slot"  # A slot is free for the run.
    DISPLACED = "displaced"  # The worker drains, and the run still waits for a slot.
    EVICTED = "evicted"  # The cache is full.
    # The code of the run.
    CONTINUED = "continued"  # It asks for steps.
    ALLOWED = "allowed"  # It may start a body.
    REFUSED = "refused"  # It may not start another body.
    SUSPENDED = "suspended"  # It waits for the engine.
    UNLOADED = "unloaded"  # It waits for the engine, and cannot be resumed.
    YIELDED = "yielded"  # It waits for the engine, and returns its permits of limits on work.
    DETACHED = "detached"  # It waits on external work.
    ENDED = "ended"  # It has returned or failed.
    # The reports of the run.
    SETTLED = "settled"  # All are durable, no body is running, and the run may stay.
    RETURNED = "returned"  # All are durable, no body is running, and the run has to leave.
    FINISHED = "finished"  # All are durable, the last one included.
    RECLAIMED = "reclaimed"  # Like finished, and some commands of the run were not processed.
    LOST = "lost"  # The run belongs to another worker, even if a body is running.

    # Events that the ownership decides on; those above go to the phase.
    BODY_REQUESTED = "body-requested"  # The code asks to start a body.
    CONFIRMED = "membership-confirmed"  # The group confirmed that this worker is a member.
    QUIESCENT = "quiescent"  # The code waits, all reports are durable, and no body is running.
    DURABLE = "end-durable"  # The code is over, and all reports are durable.
    LEASE = "lease"  # A body is running while the group reassigns partitions, or when a draining worker leaves it.
    RENEW = "renew"  # A body is running, and a lease would expire soon.
    KEPT = "kept"  # The group has reassigned the partitions: that of the run stayed.
    REVOKED = "revoked"  # The group has reassigned the partitions: that of the run is another worker's.
    DRAIN = "drain"  # The worker drains.


class Effect(StrEnum):
    """What the worker does about an event."""

    CLAIM = "claim"  # Claim the run.
    RECLAIM = "reclaim"  # Drop the run without acknowledging its commands, and claim it again.
    POSTPONE = "postpone"  # Report that this worker does not have the function.
    REPORT_END = "report-end"  # Report how the code ended, or that the run is parked.
    ASK_WAKE = "ask-wake"  # Have the engine send a command, so that the log has one for code that is running.
    LEASE = "lease"  # Report that no other worker may have the run for a while.
    RELEASE_LEASE = "release-lease"  # Report that other workers may have the run.
    KEEP_RESULTS = "keep-results"  # Keep the results of the command for the code.
    QUEUE_START = "queue-start"  # Wait for a slot to start the code.
    QUEUE_RESUME = "queue-resume"  # Wait for a slot to resume the code, which is in memory.
    WITHDRAW = "withdraw"  # Wait for a slot no longer.
    TAKE_SLOT = "take-slot"  # Occupy a slot.
    DETACH = "detach"  # Release the slot, and count the run among those that have to stay in memory.
    PARK = "park"  # Release the slot, and let the run be evicted.
    UNPARK = "unpark"  # No longer let the run be evicted.
    START_CODE = "start-code"  # Start the code from the state of the run.
    RESUME_CODE = "resume-code"  # Pass the results that were kept to the code.
    STOP_CODE = "stop-code"  # Cancel the code.
    CONFIRM = "confirm-membership"  # Wait until the group confirms that this worker is a member.
    START_BODY = "start-body"  # Run the body.
    ACKNOWLEDGE = "acknowledge"  # Acknowledge the commands of the run.
    FORGET = "forget"  # Leave the commands of the run to the worker that reads the partition next.
    DROP = "drop"  # Stop the code, release the slot, and remove the run from the worker.


# Commands of a run that this worker has, other than those that start or stop it.
UPDATES = (Event.TAKEN, Event.RESUMED, Event.UPDATED, Event.RELOAD, Event.EXPIRED, Event.STALE)
