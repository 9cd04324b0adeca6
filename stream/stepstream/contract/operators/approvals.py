"""Approvals: what a step asks a person, the signal that carries the answer, and the answer."""

import msgspec

from stepstream.contract.codec import NULL, Raw, encode
from stepstream.contract.limits import APPROVAL_COMMENT_CHARACTERS_MAX


class ApprovalRequest(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a person is asked. `form` is the JSON schema of the values that an approval must have, or null."""

    title: str
    description: str = ""
    to: tuple[str, ...] = ()
    form: Raw = NULL


class ApprovalAnswer(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a person answered: `by` names the person, `at` is in Unix ms, `values` are those of the form or null."""

    approved: bool
    by: str
    at: int
    comment: str = ""
    values: Raw = NULL

    def __post_init__(self) -> None:
        if len(self.comment) > APPROVAL_COMMENT_CHARACTERS_MAX:
            raise ValueError(f"a comment has at most {APPROVAL_COMMENT_CHARACTERS_MAX:,} characters")


_decode_answer = msgspec.json.Decoder(ApprovalAnswer).decode


# How the names of these signals start.
APPROVAL_SIGNALS = "approval/"


def approval_signal(run_id: str, step: str) -> str:
    """Return the name of the signal that answers the step of a run."""
    return f"{APPROVAL_SIGNALS}{run_id}/{step}"


def encode_answer(answer: ApprovalAnswer) -> Raw:
    """Return an answer as the data of its signal."""
    return Raw(encode(answer))


def decode_answer(data: Raw) -> ApprovalAnswer:
    """Return the answer in the data of a signal; raise msgspec.ValidationError for anything else."""
    return _decode_answer(data)
