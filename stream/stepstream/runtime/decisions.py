"""The decision of a person: it must fit what the step asked, and only the first one counts."""

from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from stepstream.contract.codec import Json, Raw, dump_json, load_json
from stepstream.contract.errors import InvalidInput
from stepstream.contract.limits import APPROVAL_COMMENT_CHARACTERS_MAX
from stepstream.contract.operators.approvals import ApprovalAnswer, approval_signal, encode_answer
from stepstream.runtime.readmodel.tables.approvals import ApprovalView
from stepstream.runtime.schema_check import check_schema

NAME_CHARACTERS_MAX = 200
Signal = Callable[[str, Raw, str], Awaitable[bool]]


class Decision(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a client sends: who decides what, with the values of the form."""

    approved: bool
    by: str
    comment: str = ""
    values: Any = None

    def __post_init__(self) -> None:
        if not 0 < len(self.by.strip()) <= NAME_CHARACTERS_MAX:
            raise ValueError(f"by: name the person who decides, in at most {NAME_CHARACTERS_MAX} characters")
        if len(self.comment) > APPROVAL_COMMENT_CHARACTERS_MAX:
            raise ValueError(f"comment: use at most {APPROVAL_COMMENT_CHARACTERS_MAX:,} characters")


def check_values(form: Any, values: Json) -> None:
    """Raise InvalidInput for the first field that does not fit the form; without a form, no field fits."""
    if form is None:
        if values is not None:
            raise InvalidInput("this approval asks for no values", "values")
        return
    if values is None:
        raise InvalidInput("this approval asks for the values of its form", "values")
    check_schema(form, values)


def parse_decision(body: bytes) -> Decision:
    """Return the decision of a request; raise InvalidInput for anything else."""
    value = load_json(body)
    if not isinstance(value, dict):
        raise InvalidInput("expected a JSON object", "body")
    try:
        return msgspec.convert(value, Decision)
    except msgspec.ValidationError as error:
        raise InvalidInput(str(error), "body") from None


async def decide(signal: Signal, asked: ApprovalView, decision: Decision, now_ms: int) -> bool:
    """Send a decision to its run; return whether it counts. Raise InvalidInput if the values do not fit the form."""
    if decision.approved:
        check_values(asked.form, decision.values)
    elif decision.values is not None:
        raise InvalidInput("a rejection has no values", "values")
    values = dump_json(decision.values)
    answer = ApprovalAnswer(decision.approved, decision.by, now_ms, decision.comment, values)
    return await signal(approval_signal(asked.run_id, asked.step), encode_answer(answer), decision.by)
