"""The failed attempts of a step, or of the code of a run, as a column: JSON objects, each with a comma after it."""

import re
from dataclasses import dataclass

import msgspec

from stepstream.contract.codec import encode
from stepstream.contract.history import RunAttemptFailed, StepAttemptFailed
from stepstream.contract.limits import RETRIES_MAX

MESSAGE_CHARACTERS_MAX = 200
PLACE_CHARACTERS_MAX = 300
# With RETRIES_MAX attempts, the tracebacks of a step have less than 80 kB.
STACK_CHARACTERS_MAX = 4_000
# The code between steps has RETRIES_MAX attempts after each step: once a run has so many characters, none is added.
RUN_CHARACTERS_MAX = 100_000
_FRAME = re.compile(r'^\s*File "([^"\n]+)", line (\d+)', re.MULTILINE)


@dataclass(frozen=True, slots=True)
class FailedAttempt:
    """An attempt (from 0) that failed and was retried: when it failed, and when the next was due (Unix ms).

    `name` and `message` are those of its error, the message without its further lines. It began at `started_at`, 0 if
    unknown, and its error was raised at `place` (FILE:LINE, "" if unknown). `stack` is its traceback, of which the
    last STACK_CHARACTERS_MAX are kept: they have the frame that raised.
    """

    attempt: int
    at: int
    name: str
    message: str
    retry_at: int
    started_at: int = 0
    place: str = ""
    stack: str = ""


def place_of(stack: str) -> str:
    """Return FILE:LINE of the innermost frame of a traceback, or ""."""
    frames = _FRAME.findall(stack)
    return f"{frames[-1][0]}:{frames[-1][1]}" if frames else ""


_attempts = msgspec.json.Decoder(tuple[FailedAttempt, ...]).decode


def attempt_text(entry: StepAttemptFailed | RunAttemptFailed) -> str:
    """Return what the column gets for an attempt: nothing beyond RETRIES_MAX."""
    if entry.attempt >= RETRIES_MAX:
        return ""
    message = entry.error.message.partition("\n")[0][:MESSAGE_CHARACTERS_MAX]
    stack = entry.error.stack.rstrip()
    attempt = FailedAttempt(
        entry.attempt,
        entry.at,
        entry.error.name,
        message,
        entry.retry_at,
        entry.started_at if isinstance(entry, StepAttemptFailed) else 0,
        place_of(stack)[-PLACE_CHARACTERS_MAX:],
        stack[-STACK_CHARACTERS_MAX:],
    )
    return f"{encode(attempt).decode()},"


def read_attempts(text: str) -> tuple[FailedAttempt, ...]:
    """Return the attempts of a column, in order of time."""
    return _attempts(f"[{text.removesuffix(',')}]")
