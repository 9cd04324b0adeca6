"""What the waits of one turn ask of events: each question is frozen once, and the work for all has a bound."""

from stepstream.contract.codec import Json, dump_json
from stepstream.contract.errors import StepstreamError
from stepstream.contract.events import EventRecord, event_fields
from stepstream.contract.inbox import Predicate
from stepstream.contract.limits import EXPRESSION_CHARACTERS_PER_RECORD_MAX, PLANS_BYTES_MAX
from stepstream.expressions.predicates import Frozen, freeze, freeze_match, index_key

# So many visits of the syntax tree take about as long as one character takes to be parsed.
_VISITS_PER_CHARACTER = 100


class ExpressionBudgetExceeded(StepstreamError):
    """The waits of one turn ask for more work, or take along more of the run's own event, than one record may cost."""

    code = "expression-limit"


class WaitCompiler:
    """What the code of one run asks in one turn, held against the run's own event, its trigger."""

    def __init__(self, trigger: EventRecord) -> None:
        self.trigger = trigger
        self._fields: dict[str, Json] = {}
        self._charged: set[str] = set()
        self._known: dict[tuple[str, str], Predicate | None] = {}
        self._characters_left = EXPRESSION_CHARACTERS_PER_RECORD_MAX
        self._bytes_left = PLANS_BYTES_MAX

    def predicate(self, match: str, condition: str) -> Predicate | None:
        """Freeze what a wait asks for; None when no event can ever fulfil it.

        Raises ExpressionBudgetExceeded and ExpressionError.
        """
        asked = (match, condition)
        if asked not in self._known:
            self._charge(condition)
            self._known[asked] = self._frozen(match, condition)
        predicate = self._known[asked]
        size = len(bytes(predicate.bindings)) if predicate else 0
        if size > self._bytes_left:
            raise ExpressionBudgetExceeded(
                "the waits of one turn take along more than 16 MiB of the run's own event; ask for less of it in if_=, "
                "or wait in several turns"
            )
        self._bytes_left -= size
        return predicate

    def _frozen(self, match: str, condition: str) -> Predicate | None:
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
                "the different expressions by which the waits of one turn ask have more than "
                f"{EXPRESSION_CHARACTERS_PER_RECORD_MAX:,} characters; write event.data.x into if_= instead of its "
                "value, so that they are the same, or wait in several turns"
            )
        self._characters_left -= len(condition)
        self._charged.add(condition)
