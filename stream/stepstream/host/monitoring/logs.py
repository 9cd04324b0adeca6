"""The log of a process: lines of text for people, or JSON with a separate field for each value."""

import errno
import json
import logging
import re
import time
from collections.abc import Mapping
from enum import StrEnum
from typing import Any

import msgspec

from stepstream.contract.text.printable import printable
from stepstream.runtime.recurrence import Recurrence


class Format(StrEnum):
    """How a line is written."""

    TEXT = "text"
    JSON = "json"


class Level(StrEnum):
    """The lowest level that is logged."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


# Fields end a line of text in this order, before those of users.
FIELDS = ("run_id", "function", "step", "attempt", "shard", "app", "app_version", "code_version")
_NEEDS_QUOTES = re.compile(r"""[\s"\]]""")
_encode = msgspec.json.Encoder(enc_hook=str).encode
_OF_RECORDS = frozenset({*logging.makeLogRecord({}).__dict__, "message", "asctime", "taskName"})


class _Fields(logging.Formatter):
    """Collects the fields of a record: its own, the app of the process with its version, and that of the function."""

    def __init__(self) -> None:
        super().__init__()
        self.app = self.app_version = ""
        self.versions: Mapping[str, str] = {}
        # Most lines fall into the same second as the line before.
        self._second = -1
        self._prefix = ""

    def fields(self, record: logging.LogRecord) -> dict[str, Any]:
        found = {name: value for name, value in record.__dict__.items() if name not in _OF_RECORDS}
        if self.app:
            found.setdefault("app", self.app)
            found.setdefault("app_version", self.app_version)
        if version := self.versions.get(str(found.get("function", ""))):
            found.setdefault("code_version", version)
        return found

    def plain(self, record: logging.LogRecord) -> str:
        """Return the message without the run id that ctx.logger prepends, since the id is a field."""
        return record.getMessage().removeprefix(f"[{getattr(record, 'run_id', '')}] ")

    def moment(self, record: logging.LogRecord) -> str:
        second = int(record.created)
        if second != self._second:
            self._second, self._prefix = second, time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
        return f"{self._prefix}.{int((record.created - second) * 1_000):03}Z"

    def traceback(self, record: logging.LogRecord) -> str:
        error = self.formatException(record.exc_info) if record.exc_info else ""
        stack = self.formatStack(record.stack_info) if record.stack_info else ""
        return "\n".join(filter(None, (error, stack)))


class JsonLines(_Fields):
    """One JSON object per line: time, level, logger, message, error if there is one, and the fields."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        line: dict[str, Any] = {
            "time": self.moment(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": self.plain(record),
        }
        if traceback := self.traceback(record):
            line["error"] = traceback
        # A user's field with one of the names above is kept under another name.
        line |= {f"{name}_" if name in line else name: value for name, value in self.fields(record).items()}
        try:
            return printable(_encode(line).decode())
        except (TypeError, ValueError, RecursionError):
            # A user may log a value that is not JSON, or text that is not UTF-8; the line is worth more than its form.
            plain = {name: f"{value}".encode(errors="backslashreplace").decode() for name, value in line.items()}
            return printable(_encode(plain).decode())


def _word(value: object) -> str:
    """Return a value as one word, quoted where necessary."""
    text = str(value)
    return text if text and not _NEEDS_QUOTES.search(text) else json.dumps(text, ensure_ascii=False)


class TextLines(_Fields):
    """Time, level, logger and message, then the fields; tracebacks are indented, so that no text can forge a line."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, and the lines of a traceback."""
        fields = self.fields(record)
        names = [*(name for name in FIELDS if name in fields), *(name for name in fields if name not in FIELDS)]
        tail = " ".join(f"{name}={_word(fields[name])}" for name in names)
        head = f"{self.moment(record)} {record.levelname} {record.name}: {self.plain(record)}"
        lines = printable(self.traceback(record), keep_lines=True).splitlines()
        return "\n  ".join([printable(f"{head} [{tail}]" if tail else head), *lines])


def _is_news(record: logging.LogRecord) -> bool:
    """Return whether a line of the event loop is worth reading.

    Kafka clients leave connections unclosed by design, and tasks if they are stopped while no broker answers.
    """
    message = record.getMessage()
    is_left = message.startswith("Task was destroyed but it is pending") and "/aiokafka/" in message
    return not (is_left or message.startswith("Unclosed AIOKafkaConnection"))


class _OutOfFiles(logging.Filter):
    """Replaces the lines of the event loop about connections for which there is no file by one of ours.

    The event loop logs thousands of them per second, each with a traceback.
    """

    def __init__(self) -> None:
        super().__init__()
        self._recurrence = Recurrence()

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether to log a line."""
        error = record.exc_info[1] if record.exc_info else None
        if not isinstance(error, OSError) or error.errno not in (errno.EMFILE, errno.ENFILE):
            return True
        if (more := self._recurrence.occurs(str(error))) is None:
            return False
        words = "no connection can be accepted (%s); raise the limit of open files (`ulimit -n`)%s"
        record.msg, record.args, record.exc_info = words, (error.strerror, more), None
        return True


def silence_attempts() -> None:
    """Do not log each attempt of steps and code, where a view shows them."""
    for name in ("step", "code"):
        logging.getLogger(f"stepstream.{name}").setLevel(logging.CRITICAL)


class Logs:
    """The log of a process, on its standard error; `know` adds whose code the process runs once that is loaded."""

    def __init__(self, form: Format, level: Level) -> None:
        self._lines = JsonLines() if form is Format.JSON else TextLines()
        handler = logging.StreamHandler()
        handler.setFormatter(self._lines)
        logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
        logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
        for each in (_is_news, _OutOfFiles()):
            logging.getLogger("asyncio").addFilter(each)

    def know(self, app: str, version: str, versions: Mapping[str, str]) -> None:
        """Add the app and its version to every line, and the version of its code to those of a function."""
        self._lines.app, self._lines.app_version = app, version
        self._lines.versions = dict(versions)
