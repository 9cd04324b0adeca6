"""Functions that the code of a run defers: they start when the run has ended."""

from collections.abc import Sequence

from stepstream.contract.codec import Raw, encode, load_json
from stepstream.contract.events import EventRecord
from stepstream.contract.plans import SendPlan
from stepstream.gateway.wire.ops import DeferAbortOp, DeferOp, Op

DEFERRED = "inngest/deferred.schedule"
DEFERS_PER_RUN_MAX = 20


class Defers:
    """What the code has deferred so far, and whether each may still be aborted (`known`), by the hash of its op.

    An app repeats what is not in `known`, so that nothing is lost with this object.
    """

    def __init__(self) -> None:
        self.known: dict[str, bool] = {}
        self._ops: dict[str, DeferOp] = {}

    def note(self, ops: Sequence[Op]) -> None:
        """Take in the defers among some ops; what is beyond the limit is dropped."""
        for op in ops:
            if isinstance(op, DeferOp) and op.step not in self.known and len(self.known) < DEFERS_PER_RUN_MAX:
                self.known[op.step] = True
                self._ops[op.step] = op
            elif isinstance(op, DeferAbortOp) and op.target in self.known:
                self.known[op.target] = False
                self._ops.pop(op.target, None)

    def plans(self, run_id: str, function: str, app: str) -> tuple[SendPlan, ...]:
        """Return the plans that send the events by which the deferred functions start."""
        parent = {"parent_app_id": app, "parent_fn_id": function, "parent_fn_slug": function, "parent_run_id": run_id}
        return tuple(SendPlan(op.step, op.id, (_event(op, parent),)) for op in self._ops.values())


def _event(op: DeferOp, parent: dict[str, str]) -> EventRecord:
    given = load_json(op.input)
    data = given if isinstance(given, dict) else {}
    return EventRecord(DEFERRED, Raw(encode({**data, "_inngest": {"fn_slug": op.function, **parent}})), meta=op.meta)
