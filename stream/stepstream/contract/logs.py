"""The records of `logs`: what the code of a run logged in one attempt of a step, or between steps."""

from typing import NamedTuple

import msgspec

LOG_LINES_PER_ATTEMPT_MAX = 1_000
LOG_BYTES_PER_ATTEMPT_MAX = 256 * 1024
LOG_LINE_CHARACTERS_MAX = 8_192


class LogLine(msgspec.Struct, frozen=True):
    """A line: its time (Unix ms), its number in its source, the name of its level and of its logger, and its text."""

    at: int
    number: int
    level: str
    logger: str
    text: str


class StepLogged(msgspec.Struct, frozen=True, tag_field="type", omit_defaults=True, tag="step.logged"):
    """Lines of an attempt (from 0) of a step; those of the code between steps have the step "".

    `source` names the process that logged them, which numbers its lines. A line of the same time, source and number
    replaces an earlier one: it counts the lines that were dropped.
    """

    run_id: str
    step: str
    attempt: int
    source: str
    lines: tuple[LogLine, ...]


class LogKey(NamedTuple):
    """Where lines belong: a run, a step of it by its hash ("" between steps), and an attempt from 0."""

    run_id: str
    step: str
    attempt: int


decode_logged = msgspec.json.Decoder(StepLogged).decode
