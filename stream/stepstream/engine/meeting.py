"""Where events and waits meet: whether one fulfils the other, and how much of that one record may do."""

from stepstream.contract.codec import Json, load_json
from stepstream.contract.inbox import Predicate
from stepstream.contract.limits import MET_BYTES_PER_RECORD_MAX, MET_VISITS_PER_RECORD_MAX
from stepstream.engine.draft import Draft
from stepstream.expressions.predicates import EvaluationError, Meter, holds, index_key, lookup


class Meeting:
    """The work of one record: it meets so many rows, bytes and visits of expressions, and one row in any case."""

    __slots__ = ("_bytes_left", "_draft", "_meter", "_rows", "_rows_max")

    def __init__(self, draft: Draft, rows_max: int) -> None:
        self._draft = draft
        self._rows = 0
        self._rows_max = rows_max
        self._bytes_left = MET_BYTES_PER_RECORD_MAX
        self._meter = Meter()

    def takes(self, size_bytes: int) -> bool:
        """Charge for one row more; False when it is too much and is to be left to the next record."""
        self._rows += 1
        self._bytes_left -= size_bytes
        within = self._rows <= self._rows_max and self._bytes_left >= 0
        return self._rows == 1 or (within and self._meter.visits < MET_VISITS_PER_RECORD_MAX)

    def fulfils(self, predicate: Predicate, fields: dict[str, Json]) -> bool:
        """Tell whether the fields of an event fulfil what a wait asks; an expression that fails is no match."""
        for path, value in predicate.equalities:
            if index_key(lookup(fields, path)) != value:
                return False
        if not predicate.residual:
            return True
        bindings = load_json(predicate.bindings)
        variables = {**(bindings if isinstance(bindings, dict) else {}), "async": fields}
        try:
            return holds(predicate.residual, variables, self._meter)
        except EvaluationError:
            self._draft.count("match_errors")
            return False
