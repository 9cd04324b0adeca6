"""Catches what user code logs: the attempt of a step, or the code between steps, that is running in a context."""

import contextvars
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from stepstream.contract.logs import LOG_LINE_CHARACTERS_MAX

# Our own loggers, and those of `ctx.logger` among them.
_OURS, _OF_RUNS = "stepstream.", "stepstream.run."
# A text that is cut still has its beginning, and says so.
_CUT = "… ({:,} characters)"


class Catch(Protocol):
    """Takes the lines of one attempt; it is called from any thread, and must not block."""

    def add(self, level: str, logger: str, text: str) -> None:
        """Take a line."""


# What takes the lines of the code that runs in this context; None outside of runs, and where no logs are kept.
current_catch: contextvars.ContextVar[Catch | None] = contextvars.ContextVar("stepstream_catch", default=None)


class StepLogHandler(logging.Handler):
    """A handler for the root logger of a process: what a run logs also becomes part of its logs."""

    users = 0

    def emit(self, record: logging.LogRecord) -> None:
        """Pass a record to the attempt that logged it, if one did."""
        if logging.lastResort and record.levelno >= logging.lastResort.level and not _has_other_handlers(record.name):
            # In a program that configures no logging, warnings go to stderr, as without this handler.
            logging.lastResort.handle(record)
        catch = current_catch.get()
        if catch is None or (record.name.startswith(_OURS) and not record.name.startswith(_OF_RUNS)):
            return
        try:
            catch.add(record.levelname, record.name, self._text(record))
        except Exception:  # noqa: BLE001 - as any handler: logging must not fail the code that logs
            self.handleError(record)

    def _text(self, record: logging.LogRecord) -> str:
        text = self.format(record)
        # The messages of `ctx.logger` begin with the run, which is known here.
        text = text.removeprefix(f"[{getattr(record, 'run_id', '')}] ")
        if len(text) > LOG_LINE_CHARACTERS_MAX:
            text = text[:LOG_LINE_CHARACTERS_MAX] + _CUT.format(len(text))
        return text.encode(errors="replace").decode()


def _has_other_handlers(name: str) -> bool:
    logger: logging.Logger | None = logging.getLogger(name)
    while logger is not None:
        if any(not isinstance(handler, StepLogHandler) for handler in logger.handlers):
            return True
        logger = logger.parent if logger.propagate else None
    return False


@contextmanager
def catching() -> Iterator[None]:
    """Catch what runs log during the block; blocks may overlap."""
    root = logging.getLogger()
    handler = next((each for each in root.handlers if isinstance(each, StepLogHandler)), None)
    if handler is None:
        handler = StepLogHandler()
        root.addHandler(handler)
    handler.users += 1
    try:
        yield
    finally:
        handler.users -= 1
        if not handler.users:
            root.removeHandler(handler)
