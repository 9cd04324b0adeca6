"""The form of an approval: the values that it asks for, and what was entered as a decision."""

from collections.abc import Mapping

import htpy as h

from stepstream.api.pages.parts.components import text
from stepstream.api.pages.parts.fields import Refusal, area, line, other_reason
from stepstream.api.pages.parts.schema_form import entered_values, input_names, input_of, schema_fields, schema_inputs
from stepstream.contract.errors import InvalidInput
from stepstream.contract.limits import APPROVAL_COMMENT_CHARACTERS_MAX
from stepstream.runtime.decisions import NAME_CHARACTERS_MAX, Decision
from stepstream.runtime.readmodel.tables.approvals import ApprovalView


def decision_fields(asked: ApprovalView, refusal: Refusal, by: str) -> h.Node:
    """Return the fields and buttons of a decision; `by` is who decides, empty if the visitor must say it."""
    prefix = f"{asked.run_id}-{asked.step[:8]}"
    fields = schema_fields(asked.form)
    return [
        other_reason(refusal, "by", "comment", *input_names(fields)),
        schema_inputs(fields, prefix, refusal),
        area(refusal, f"{prefix}-comment", "comment", "Comment"),
        h.p["You decide as ", text(by)]
        if by
        else line(refusal, f"{prefix}-by", "by", "Your name", maxlength=str(NAME_CHARACTERS_MAX)),
        h.button(name="decision", value="approve")["Approve"],
        h.button(".danger", name="decision", value="reject")["Reject"],
    ]


def decision_of(asked: ApprovalView, entered: Mapping[str, str], by: str) -> Decision:
    """Return the decision that was entered; raise InvalidInput that names a field of decision_fields."""
    if entered.get("decision") not in ("approve", "reject"):
        raise InvalidInput("choose Approve or Reject", "decision")
    by = by or entered.get("by", "").strip()
    if not 0 < len(by) <= NAME_CHARACTERS_MAX:
        raise InvalidInput(f"name the person who decides, in at most {NAME_CHARACTERS_MAX} characters", "by")
    comment = entered.get("comment", "").replace("\r\n", "\n").strip()
    if len(comment) > APPROVAL_COMMENT_CHARACTERS_MAX:
        raise InvalidInput(f"use at most {APPROVAL_COMMENT_CHARACTERS_MAX:,} characters", "comment")
    is_approved = entered["decision"] == "approve"
    has_values = is_approved and asked.form is not None
    return Decision(
        is_approved, by, comment, entered_values(schema_fields(asked.form), entered) if has_values else None
    )


def field_of(asked: ApprovalView, error: InvalidInput) -> str:
    """Return the field that an error is about: that of a value for an error inside of it."""
    return input_of(schema_fields(asked.form), error.field)
