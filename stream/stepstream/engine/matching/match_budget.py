"""Evaluation of predicates within the work that one transition may do."""

from collections.abc import Mapping

from stepstream.contract.codec import Json, load_json
from stepstream.contract.events import EventRecord, event_fields
from stepstream.contract.limits import (
    EXPRESSION_CHARACTERS_PER_RECORD_MAX,
    MATCHED_BYTES_PER_RECORD_MAX,
    MATCHED_VISITS_PER_RECORD_MAX,
)
from stepstream.contract.matching import Predicate
from stepstream.engine.state.draft import Draft
from stepstream.expressions.predicates import EvaluationError, holds, index_key, lookup

# Parsing smaller bindings again takes less time than finding them in a cache.
LARGE_BYTES_MIN = 1_024
# Reading this many bytes takes as long as parsing one.
READ_PER_PARSED = 8


class Candidate:
    """An event that may satisfy predicates; it is parsed at the first use of its fields."""

    __slots__ = ("_fields", "event")

    def __init__(self, event: EventRecord) -> None:
        self.event = event
        self._fields: dict[str, Json] | None = None

    @property
    def fields(self) -> dict[str, Json]:
        """The event as expressions see it."""
        if self._fields is None:
            self._fields = event_fields(self.event)
        return self._fields


class MatchBudget:
    """The budget of one transition: it is `full` after too many bytes, or too much work of expressions."""

    __slots__ = ("_bytes_left", "_characters_left", "_draft", "_parsed", "_sources", "visits")

    def __init__(self, draft: Draft) -> None:
        self._draft = draft
        self._bytes_left = MATCHED_BYTES_PER_RECORD_MAX
        self._characters_left = EXPRESSION_CHARACTERS_PER_RECORD_MAX
        self.visits = 0
        self._sources: set[str] = set()
        self._parsed: dict[bytes, Json] = {}

    @property
    def full(self) -> bool:
        """Whether the rest belongs into a later transition."""
        return self._bytes_left <= 0 or self._characters_left < 0 or self.visits >= MATCHED_VISITS_PER_RECORD_MAX

    def charge(self, size_bytes: int) -> None:
        """Charge for bytes that are parsed, were parsed to decode a row, or are copied."""
        self._bytes_left -= size_bytes

    def satisfies(self, candidate: Candidate, predicate: Predicate) -> bool:
        """Return whether an event satisfies a predicate; an expression that fails does not match."""
        fields = candidate.fields
        for path, value in predicate.equalities:
            if index_key(lookup(fields, path)) != value:
                return False
        source = predicate.residual
        if not source:
            return True
        small = len(predicate.bindings) < LARGE_BYTES_MIN
        bindings = load_json(predicate.bindings) if small else self._load(bytes(predicate.bindings))
        return self.holds(source, {**(bindings if isinstance(bindings, dict) else {}), "async": fields}, "match_errors")

    def holds(self, source: str, bindings: Mapping[str, Json], errors: str) -> bool:
        """Return whether an expression is true, and charge for it; one that fails is not, and is counted."""
        if source not in self._sources:
            self._sources.add(source)
            self._characters_left -= len(source)
        try:
            return holds(source, bindings, self)
        except EvaluationError:
            self._draft.count(errors)
            return False

    def _load(self, raw: bytes) -> Json:
        """Parse large bindings and charge for them; equal ones are parsed once."""
        if raw not in self._parsed:
            self.charge(len(raw))
            self._parsed[raw] = load_json(raw)
        return self._parsed[raw]
