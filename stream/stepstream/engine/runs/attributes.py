"""The attributes that functions derive from events."""

from stepstream.contract.attributes import Attributes, check_attributes
from stepstream.contract.errors import InvalidInput
from stepstream.contract.events import EventRecord, event_fields
from stepstream.contract.functions import FunctionRegistered
from stepstream.engine.state.draft import Draft
from stepstream.expressions.predicates import EvaluationError, Meter, evaluate


def attributes_of(
    draft: Draft, function: FunctionRegistered, event: EventRecord, meter: Meter | None = None
) -> Attributes:
    """Return the attributes that a function derives from the event of a run, without those that have no valid value."""
    if not function.attributes:
        return {}
    found: Attributes = {}
    fields = event_fields(event)
    for name, expression in function.attributes.items():
        try:
            value = check_attributes({name: evaluate(expression, {"event": fields}, meter)})[name]
        except (EvaluationError, InvalidInput):
            draft.count("attribute_errors")
            continue
        if value is not None:
            found[name] = value
    return found
