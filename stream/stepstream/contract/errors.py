"""The errors of stepstream: one root, a stable code each, and a message that says what to do next."""


class StepstreamError(Exception):
    """Root of every error that stepstream raises deliberately; `code` is stable, so programs may match on it."""

    code = "stepstream"


class InvalidInput(StepstreamError, ValueError):
    """Input from outside is invalid; `field` names the invalid part."""

    code = "invalid-input"

    def __init__(self, reason: str, field: str = "") -> None:
        super().__init__(f"{field}: {reason}" if field else reason)
        self.field = field
        self.reason = reason


class Conflict(StepstreamError):
    """A request does not fit the state of what it names; nothing was changed."""

    code = "conflict"


class TooLarge(InvalidInput):
    """Input from outside is larger than a limit allows."""

    code = "too-large"


class InvalidDuration(InvalidInput):
    """A duration is malformed or out of bounds."""

    code = "invalid-duration"


class NotJson(InvalidInput, TypeError):
    """A value cannot be written as JSON; `field` is its path, `$` being the whole value."""

    code = "not-json"


class NotPublished(StepstreamError):
    """Messages of `ctx.publish` could not be written to the log: the code that published them is attempted again."""

    code = "not-published"
