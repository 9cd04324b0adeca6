"""Compiles what the waits of one activation ask of events: each expression once, and all of them within a budget."""

from stepstream.contract.codec import Json, dump_json
from stepstream.contract.errors import StepstreamError
from stepstream.contract.events import EventRecord, event_fields
from stepstream.contract.limits import EXPRESSION_CHARACTERS_PER_RECORD_MAX, PLANS_BYTES_MAX
from stepstream.contract.matching import Predicate
from stepstream.expressions.predicates import Frozen, freeze, freeze_match, index_key

# This many visits of the syntax tree take about as long as parsing one character.
_VISITS_PER_CHARACTER = 100


class ExpressionBudgetExceeded(StepstreamError):
    """The waits of one activation exceed the limit of work, or of captured trigger data, for one record."""

    code = "expression-limit"


class WaitCompiler:
    """Compiles the waits of one activation of a run against its trigger event."""

    def __init__(self, trigger: EventRecord) -> None:
        self.trigger = trigger
        self._fields: dict[str, Json] = {}
        self._charged: set[str] = set()
        self._compiled: dict[tuple[str, str], Predicate | None] = {}
        self._characters_left = EXPRESSION_CHARACTERS_PER_RECORD_MAX
        self._bytes_left = PLANS_BYTES_MAX

    def predicate(self, match: str, condition: str) -> Predicate | None:
        """Return the predicate of a wait, with the values of the trigger event; None when no event can satisfy it.

        Raises ExpressionBudgetExceeded and ExpressionError.
        """
        source = (match, condition)
        if source not in self._compiled:
            self._charge(condition)
            self._compiled[source] = self._compile(match, condition)
        predicate = self._compiled[source]
        size = len(bytes(predicate.bindings)) if predicate else 0
        if size > self._bytes_left:
            raise ExpressionBudgetExceeded(
                "the if_= of these waits captures more than 16 MiB of the trigger event; reference fewer of its "
                "fields, or await the waits one after the other"
            )
        self._bytes_left -= size
        return predicate

    def _compile(self, match: str, condition: str) -> Predicate | None:
        if not match and not condition:
            return Predicate()
        self._fields = self._fields or event_fields(self.trigger)
        frozen: Frozen = freeze_match(match, self._fields) if match else freeze(condition, self._fields)
        self._characters_left -= frozen.visits // _VISITS_PER_CHARACTER
        if frozen.never:
            return None
        equalities = tuple((equality.path, index_key(equality.value) or "") for equality in frozen.equalities)
        return Predicate(equalities, frozen.residual or "", dump_json(dict(frozen.bindings)))

    def _charge(self, condition: str) -> None:
        if condition in self._charged:
            return
        if len(condition) > self._characters_left:
            raise ExpressionBudgetExceeded(
                f"the distinct if_= of these waits have more than {EXPRESSION_CHARACTERS_PER_RECORD_MAX:,} characters; "
                "write event.data.x into if_= instead of its value, so that they are equal, or await the waits one "
                "after the other"
            )
        self._characters_left -= len(condition)
        self._charged.add(condition)
