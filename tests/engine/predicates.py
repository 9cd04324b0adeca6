"""Predicates of waits, one for each kind of bucket."""

from stepstream.contract.inbox import Predicate
from stepstream.expressions.predicates import index_key

ONE = index_key(1) or ""
BUCKETS = (
    Predicate((("data.id", ONE),)),
    Predicate((("data.id", ONE),), residual="async.data.big > 1"),
    Predicate(residual="async.data.big > 1"),
    Predicate(residual="async.data.big >= 2"),
    Predicate(),
)
