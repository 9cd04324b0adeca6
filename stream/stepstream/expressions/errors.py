"""The errors of expressions: one for an invalid expression, one for an evaluation that has no result."""

from stepstream.contract.errors import StepstreamError
from stepstream.expressions.limits import EXCERPT_CHARACTERS_MAX


class ExpressionError(StepstreamError, ValueError):
    """The expression is invalid; `line` and `column` count from 1, and `str()` marks the position with a caret."""

    code = "invalid-expression"

    def __init__(self, source: str, line: int, column: int, reason: str) -> None:
        super().__init__(source, line, column, reason)
        self.source = source
        self.line = line
        self.column = column
        self.reason = reason

    def __str__(self) -> str:
        lines = self.source.split("\n")
        text = lines[self.line - 1] if self.line <= len(lines) else ""
        first = max(0, self.column - 1 - EXCERPT_CHARACTERS_MAX // 2)
        excerpt = text[first : first + EXCERPT_CHARACTERS_MAX].replace("\t", " ").rstrip("\r")
        return f"{self.line}:{self.column}: {self.reason}\n    {excerpt}\n    {' ' * (self.column - 1 - first)}^"


def error_at(source: str, offset: int, reason: str) -> ExpressionError:
    """Return the error for the character of `source` at `offset` (from 0)."""
    before = source[:offset]
    return ExpressionError(source, before.count("\n") + 1, offset - before.rfind("\n"), reason)


class EvaluationError(StepstreamError, ValueError):
    """An evaluation has no result: a missing field, types that do not fit, too much work, or not a bool."""

    code = "evaluation-failed"


class Fault(EvaluationError):
    """A failure that `&&` and `||` absorb if the other side decides."""


class OverBudget(EvaluationError):
    """The evaluation exceeded its budget of work; nothing absorbs that."""
