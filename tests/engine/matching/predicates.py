"""Predicates of waits, one for each kind of bucket, and waits by them."""

from stepstream.contract.ids import StepRef
from stepstream.contract.matching import Predicate, WaitClosed, WaitOpened
from stepstream.engine.matching.waits import bucket_of
from stepstream.expressions.predicates import index_key

EVENT = "come"
ONE = index_key(1) or ""
BUCKETS = (
    Predicate((("data.id", ONE),)),
    Predicate((("data.id", ONE),), residual="async.data.big > 1"),
    Predicate(residual="async.data.big > 1"),
    Predicate(residual="async.data.big >= 2"),
    Predicate(),
)


def wait_opened(
    run_id: str, predicate: Predicate, expires_at: int = 1_000, lookback_from: int = 0, trigger: str = ""
) -> WaitOpened:
    """Return the wait of a run for EVENT."""
    waiter = StepRef(run_id, "s")
    return WaitOpened(waiter, bucket_of(EVENT, predicate), predicate, expires_at, lookback_from, trigger)


def wait_closed(run_id: str, predicate: Predicate, *, looking_back: bool = False, expired: bool = False) -> WaitClosed:
    """Return the end of the wait of a run."""
    return WaitClosed(StepRef(run_id, "s"), bucket_of(EVENT, predicate), looking_back, expired)
