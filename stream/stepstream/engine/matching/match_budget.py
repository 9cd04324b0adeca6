"""Where events and waits meet: whether one fulfils the other, and how much of that one record may do."""

from stepstream.contract.codec import Json, load_json
from stepstream.contract.inbox import Predicate
from stepstream.contract.limits import (
    EXPRESSION_CHARACTERS_PER_RECORD_MAX,
    MET_BYTES_PER_RECORD_MAX,
    MET_VISITS_PER_RECORD_MAX,
)
from stepstream.engine.state.draft import Draft
from stepstream.expressions.predicates import EvaluationError, holds, index_key, lookup

# Smaller bindings are parsed sooner than they are found again, and few enough to be free.
LARGE_BYTES_MIN = 1_024
# So many bytes are read in the time in which one is parsed.
READ_PER_PARSED = 8


class MatchBudget:
    """The work of one record, which is to stop where it is `full`, of bytes or of the work of expressions."""

    __slots__ = ("_bytes_left", "_characters_left", "_draft", "_parsed", "_sources", "full", "visits")

    def __init__(self, draft: Draft) -> None:
        self._draft = draft
        self._bytes_left = MET_BYTES_PER_RECORD_MAX
        self._characters_left = EXPRESSION_CHARACTERS_PER_RECORD_MAX
        self.visits = 0
        self._sources: set[str] = set()
        self._parsed: dict[bytes, Json] = {}
        self.full = False

    def charge(self, size_bytes: int) -> None:
        """Charge for what is parsed, or has been, of a row."""
        self._bytes_left -= size_bytes
        if self._bytes_left <= 0:
            self.full = True

    def fulfils(self, predicate: Predicate, fields: dict[str, Json]) -> bool:
        """Tell whether the fields of an event fulfil what a wait asks; an expression that fails is no match."""
        for path, value in predicate.equalities:
            if index_key(lookup(fields, path)) != value:
                return False
        source = predicate.residual
        if not source:
            return True
        if source not in self._sources:
            self._parse(source)
        small = len(predicate.bindings) < LARGE_BYTES_MIN
        bindings = load_json(predicate.bindings) if small else self._load(bytes(predicate.bindings))
        try:
            return holds(source, {**(bindings if isinstance(bindings, dict) else {}), "async": fields}, self)
        except EvaluationError:
            self._draft.count("match_errors")
            return False
        finally:
            if self.visits >= MET_VISITS_PER_RECORD_MAX:
                self.full = True

    def _parse(self, source: str) -> None:
        """Charge for an expression."""
        self._sources.add(source)
        self._characters_left -= len(source)
        if self._characters_left <= 0:
            self.full = True

    def _load(self, raw: bytes) -> Json:
        """Parse large bindings, and charge for them; those that are equal to others are only read."""
        if raw not in self._parsed:
            self.charge(len(raw))
            self._parsed[raw] = load_json(raw)
        return self._parsed[raw]
