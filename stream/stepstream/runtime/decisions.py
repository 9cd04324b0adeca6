"""The decision of a person: it must fit what the step asked, and only the first one counts."""

from collections.abc import Awaitable, Callable
from typing import Any

import jsonschema_rs
import msgspec

from stepstream.contract.codec import Json, Raw, dump_json, load_json
from stepstream.contract.errors import InvalidInput
from stepstream.contract.limits import APPROVAL_COMMENT_CHARACTERS_MAX
from stepstream.contract.operators.approvals import ApprovalAnswer, approval_signal, encode_answer
from stepstream.runtime.readmodel.tables.approvals import ApprovalView

NAME_CHARACTERS_MAX = 200
Signal = Callable[[str, Raw], Awaitable[bool]]
# A pattern of the form must not take exponential time over the values of a client, nor much memory.
_PATTERNS = jsonschema_rs.RegexOptions(size_limit=10_000_000)


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


def _refuse(uri: str) -> Any:
    raise ValueError(f"the form refers to {uri}, which is not read")


def check_values(form: Any, values: Json) -> None:
    """Raise InvalidInput for the first field that does not fit the form; without a form, no field fits."""
    if form is None:
        if values is not None:
            raise InvalidInput("this approval asks for no values", "values")
        return
    if values is None:
        raise InvalidInput("this approval asks for the values of its form", "values")
    try:
        validator = jsonschema_rs.validator_for(form, retriever=_refuse, pattern_options=_PATTERNS)
        error = next(validator.iter_errors(values), None)
    except (jsonschema_rs.ValidationError, ValueError) as problem:
        raise InvalidInput(f"the form of this step cannot be checked: {problem}", "values") from None
    if error is not None:
        raise InvalidInput(error.message, ".".join(map(str, ("values", *error.instance_path))))


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
    return await signal(approval_signal(asked.run_id, asked.step), encode_answer(answer))
