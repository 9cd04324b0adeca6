"""What a step asks a person, and the decision that the code gets."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Generic, TypeVar

import msgspec

from stepstream.contract.codec import NULL, Raw, has_lone_surrogate
from stepstream.contract.errors import InvalidInput
from stepstream.contract.limits import (
    APPROVAL_DESCRIPTION_CHARACTERS_MAX,
    APPROVAL_FORM_BYTES_MAX,
    APPROVAL_RECIPIENTS_MAX,
    APPROVAL_TITLE_CHARACTERS_MAX,
)
from stepstream.contract.operators.approvals import ApprovalRequest, decode_answer
from stepstream.contract.outcomes import ErrorInfo, Outcome, Value
from stepstream.sdk.deferred import bounded_schema, converter_of
from stepstream.sdk.errors import StepError, StepUsageError
from stepstream.sdk.replay.calls import Call
from stepstream.sdk.steps.step_call import loaded_value, plain_value
from stepstream.sdk.values import PLAIN_JSON, ReturnType

M = TypeVar("M")


@dataclass(frozen=True, slots=True)
class Approval(Generic[M]):
    """The decision of a person: `by` is who decided, `values` are those of the form, None for a rejection."""

    approved: bool
    by: str
    at: datetime
    comment: str
    values: M | None


def approval_request(id: str, title: str, description: str, to: Sequence[str], form: Any) -> ApprovalRequest:
    """Return what a step asks; raise InvalidInput, or StepUsageError for a form that is not a model."""
    where = f"step {id!r}: "
    _check_text(title, APPROVAL_TITLE_CHARACTERS_MAX, f"{where}title")
    if not title.strip():
        raise InvalidInput("say what is decided", f"{where}title")
    _check_text(description, APPROVAL_DESCRIPTION_CHARACTERS_MAX, f"{where}description")
    if isinstance(to, str) or len(to) > APPROVAL_RECIPIENTS_MAX:
        raise InvalidInput(f"give a list of at most {APPROVAL_RECIPIENTS_MAX} names", f"{where}to")
    for name in to:
        _check_text(name, APPROVAL_TITLE_CHARACTERS_MAX, f"{where}to")
    return ApprovalRequest(title, description, tuple(to), NULL if form is None else _schema(id, form))


def _check_text(text: object, characters_max: int, field: str) -> None:
    if not isinstance(text, str) or len(text) > characters_max or has_lone_surrogate(text):
        raise InvalidInput(f"use a string of at most {characters_max:,} characters", field)


def _schema(id: str, form: Any) -> Raw:
    try:
        return bounded_schema(form, APPROVAL_FORM_BYTES_MAX, only_objects=True)
    except ValueError as error:
        raise StepUsageError(f"step {id!r}: form={form!r}: {error}") from None


def approval_value(form: Any) -> Callable[[Call, Outcome], Any]:
    """Return how the outcome of the step becomes an Approval, with values of the type `form`."""

    def value_of(call: Call, outcome: Outcome) -> Approval[Any] | None:
        if not isinstance(outcome, Value):
            plain_value(call, outcome)
            return None
        try:
            answer = decode_answer(outcome.data)
        except msgspec.ValidationError as error:
            reason = f"the answer is not a decision: {error}; answer by `stepstream approvals` or POST /v1/approvals"
            raise StepError(call.id, ErrorInfo("ApprovalError", reason, "", "invalid-approval")) from None
        returns = ReturnType(converter_of(form)) if form is not None and answer.approved else PLAIN_JSON
        values = loaded_value(call, answer.values, returns)
        at = datetime.fromtimestamp(answer.at / 1_000, UTC)
        return Approval(answer.approved, answer.by, at, answer.comment, values)

    return value_of
