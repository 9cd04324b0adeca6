"""The lines that processes log: as text for people, or as JSON with a field for each thing worth a search."""

import json
import logging
import re
import time
from collections.abc import Mapping
from enum import StrEnum
from typing import Any

import msgspec


class Format(StrEnum):
    """How a line looks."""

    TEXT = "text"
    JSON = "json"


class Level(StrEnum):
    """The least that is logged."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


# In this order they stand at the end of a line of text, before those of users.
FIELDS = ("run_id", "function", "step", "attempt", "shard", "app", "app_version", "code_version")
_NO_WORD = re.compile(r"""[\s"\]]""")
_encode = msgspec.json.Encoder(enc_hook=str).encode
_OF_RECORDS = frozenset({*logging.makeLogRecord({}).__dict__, "message", "asctime", "taskName"})


class _Fields(logging.Formatter):
    """Finds the fields of a record: its own, the app of the process with its version, and that of the function."""

    def __init__(self) -> None:
        super().__init__()
        self.app = self.app_version = ""
        self.versions: Mapping[str, str] = {}
        # Most lines are of the same second as the one before.
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
        """Return the message without the run id that ctx.logger puts before it, which is a field."""
        return record.getMessage().removeprefix(f"[{getattr(record, 'run_id', '')}] ")

    def moment(self, record: logging.LogRecord) -> str:
        second = int(record.created)
        if second != self._second:
            self._second, self._prefix = second, time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
        return f"{self._prefix}.{int((record.created - second) * 1_000):03}Z"

    def trouble(self, record: logging.LogRecord) -> str:
        error = self.formatException(record.exc_info) if record.exc_info else ""
        stack = self.formatStack(record.stack_info) if record.stack_info else ""
        return "\n".join(filter(None, (error, stack)))


class JsonLines(_Fields):
    """One JSON object a line: time, level, logger, message, error where there is one, and the fields."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        line: dict[str, Any] = {
            "time": self.moment(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": self.plain(record),
        }
        if trouble := self.trouble(record):
            line["error"] = trouble
        # The names above are taken: what a user calls the same is kept beside them.
        line |= {f"{name}_" if name in line else name: value for name, value in self.fields(record).items()}
        try:
            return _encode(line).decode()
        except (TypeError, ValueError, RecursionError):
            # What users log may be no JSON, or no text; the line is worth more than its form.
            plain = {name: f"{value}".encode(errors="backslashreplace").decode() for name, value in line.items()}
            return _encode(plain).decode()


def _word(value: object) -> str:
    """Return a value as one word, in quotes where it is none by itself."""
    text = str(value)
    return text if text and not _NO_WORD.search(text) else json.dumps(text, ensure_ascii=False)


class TextLines(_Fields):
    """Time, level, logger and message, then the fields."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, and the lines of a traceback."""
        fields = self.fields(record)
        names = [*(name for name in FIELDS if name in fields), *(name for name in fields if name not in FIELDS)]
        tail = " ".join(f"{name}={_word(fields[name])}" for name in names)
        head = f"{self.moment(record)} {record.levelname} {record.name}: {self.plain(record)}"
        return "\n".join(filter(None, (f"{head} [{tail}]" if tail else head, self.trouble(record))))


def _is_news(record: logging.LogRecord) -> bool:
    """Tell whether a line of the event loop is for people: clients of Kafka forget connections that they gave up."""
    return not record.getMessage().startswith("Unclosed AIOKafkaConnection")


def leave_attempts_to_a_view() -> None:
    """Log no attempt of code that succeeds or fails: somebody else tells of them."""
    for name in ("step", "code"):
        logging.getLogger(f"stepstream.{name}").setLevel(logging.CRITICAL)


class Logs:
    """The log of a process, on its standard error; it may learn later whose code runs in it."""

    def __init__(self, form: Format, level: Level) -> None:
        self._lines = JsonLines() if form is Format.JSON else TextLines()
        handler = logging.StreamHandler()
        handler.setFormatter(self._lines)
        logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
        logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
        logging.getLogger("asyncio").addFilter(_is_news)

    def know(self, app: str, version: str, versions: Mapping[str, str]) -> None:
        """Add the app and its version to every line, and to those of a function the version of its code."""
        self._lines.app, self._lines.app_version = app, version
        self._lines.versions = dict(versions)
