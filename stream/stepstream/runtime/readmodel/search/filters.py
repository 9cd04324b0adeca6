"""The filter of runs: terms such as `function:orders.charge status:failed order_id=4711`, parsed and printed."""

import difflib
import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import NoReturn

from stepstream.contract.codec import has_lone_surrogate
from stepstream.contract.errors import InvalidInput
from stepstream.contract.kinds import ENDED_RUN_STATUSES, OPEN_RUN_STATUSES, RunStatus
from stepstream.contract.limits import FILTER_CHARACTERS_MAX, FILTER_TERMS_MAX, FILTER_VALUES_MAX, TIMESTAMP_MS_MAX
from stepstream.contract.text.durations import duration_ms, moment_ms
from stepstream.contract.text.wording import filter_value
from stepstream.expressions.errors import ExpressionError
from stepstream.expressions.predicates import check
from stepstream.runtime.readmodel.activity import WaitState

# The least characters of the end of a run id; `stepstream dev` prints as many.
TAIL_CHARACTERS = 6
# Values of `status` that stand for several.
STATUS_GROUPS: Mapping[str, tuple[RunStatus, ...]] = {
    "open": OPEN_RUN_STATUSES,
    "ended": ENDED_RUN_STATUSES,
}
# Values of `status` for what running runs do whose code does not run.
WAIT_STATES = frozenset(WaitState)
# What an expression in `cel:` may use.
CEL_VARIABLES = ("event", "output", "error", "attributes")
ATTRIBUTE = "attr."
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.\-]*(?=[:=])")
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"', re.DOTALL)
_PLAIN = re.compile(r'[^\s",]*')
_RUN_ID_PART = re.compile(rf"[0-9A-Za-z]{{{TAIL_CHARACTERS},26}}")
_TIME = "write a time as 2026-11-28T10:00 (UTC), 2026-11-28, or -1h for an hour ago"
# Words of other tools, and the key with the same meaning.
_MEANT = {
    "id": "run_id",
    "run": "run_id",
    "fn": "function",
    "state": "status",
    "is": "status",
    "name": "event",
    "message": "error",
    "parent": "caller",
    "since": "after",
    "until": "before",
    "created": "after",
}


class FilterError(InvalidInput):
    """A filter is invalid; `column` counts from 1."""

    code = "invalid-filter"

    def __init__(self, reason: str, column: int) -> None:
        super().__init__(f"column {column}: {reason}", "filter")
        self.column = column


@dataclass(frozen=True, slots=True)
class Pattern:
    """A value of a term: exactly this text, or all texts that start with it."""

    text: str
    prefix: bool = False

    def __str__(self) -> str:
        """Return the pattern as it is written in a filter."""
        text, star = self.text, "*" if self.prefix else ""
        plain = (text or star) and not re.search(r'[\s",]', text) and not text.endswith("*")
        return (text if plain else filter_value(text)) + star


@dataclass(frozen=True, slots=True)
class Term:
    """One condition: `key` has one of the values, or none of them if it is `excluded`.

    The key is one of FIELDS, `attr.NAME` for an attribute, or empty for a bare word, which is the id of a run, the end
    of one, the id of an event or the value of an attribute.
    """

    key: str
    values: tuple[Pattern, ...]
    excluded: bool = False

    @property
    def attribute(self) -> str:
        """The name of the attribute, empty if the term is about something else."""
        return self.key.removeprefix(ATTRIBUTE) if self.key.startswith(ATTRIBUTE) else ""

    @property
    def texts(self) -> tuple[str, ...]:
        """The texts of the values."""
        return tuple(value.text for value in self.values)

    def __str__(self) -> str:
        """Return the term as it is written in a filter."""
        if not self.key:
            return ",".join(_bare(value) for value in self.values)
        name = self.attribute
        key = name if name and _problem_of(name) is None else self.key
        return f"{'-' * self.excluded}{key}:{','.join(map(str, self.values))}"


@dataclass(frozen=True, slots=True)
class Filter:
    """A condition on runs: every term must hold. Without terms, all runs satisfy it."""

    terms: tuple[Term, ...] = ()

    @classmethod
    def parse(cls, text: str) -> "Filter":
        """Return the filter that `text` describes; raise FilterError with the column, the reason and a remedy."""
        if len(text) > FILTER_CHARACTERS_MAX:
            reason = f"the filter has {len(text):,} characters; use at most {FILTER_CHARACTERS_MAX:,}"
            raise FilterError(reason, FILTER_CHARACTERS_MAX + 1)
        return cls(tuple(_Parser(text).terms()))

    def __str__(self) -> str:
        """Return the filter as text, which `parse` reads."""
        return " ".join(map(str, self.terms))

    def having(self, key: str, *values: str) -> "Filter":
        """Return this filter with one more term, which replaces those of the same key that do not exclude."""
        return Filter((*self.without(key).terms, Term(key, tuple(map(Pattern, values)))))

    def having_all(self, values: Mapping[str, str]) -> "Filter":
        """Return this filter with one more term for each key whose value is not empty."""
        terms = (Term(key, (Pattern(value),)) for key, value in values.items() if value)
        return Filter((*self.terms, *terms))

    def without(self, key: str) -> "Filter":
        """Return this filter without the terms of a key that do not exclude."""
        return Filter(tuple(term for term in self.terms if term.key != key or term.excluded))

    def at(self, now_ms: int) -> "Filter":
        """Return this filter with times relative to `now_ms` (Unix ms) replaced by absolute ones.

        Lists in pages and bulk actions need it: the same filter means the same runs however long they take.
        """
        return Filter(tuple(_absolute(term, now_ms) if term.key in TIME_FIELDS else term for term in self.terms))


def filter_time_ms(text: str, now_ms: int) -> int:
    """Return a time of a filter as Unix ms: an ISO 8601 time in UTC, or a duration before now such as -1h."""
    if text.startswith("-"):
        return max(now_ms - duration_ms(text[1:]), 0)
    return moment_ms(text)


def _absolute(term: Term, now_ms: int) -> Term:
    moments = (datetime.fromtimestamp(filter_time_ms(text, now_ms) / 1_000, UTC) for text in term.texts)
    texts = (f"{moment:%Y-%m-%dT%H:%M:%S}.{moment.microsecond // 1_000:03}Z" for moment in moments)
    return replace(term, values=tuple(map(Pattern, texts)))


def _bare(value: Pattern) -> str:
    text = str(value)
    unclear = text[:1] in ("-", "(") or text in ("AND", "OR", "NOT") or _NAME.match(text)
    return filter_value(value.text) if unclear else text


def _check_status(text: str) -> str:
    known = (*RunStatus, *WaitState, *STATUS_GROUPS)
    return "" if text in known else f"{text!r} is not a status; use one of {', '.join(known)}"


def _check_flag(text: str) -> str:
    return "" if text in ("true", "false") else f"{text!r} is neither true nor false"


def _check_time(text: str) -> str:
    try:
        filter_time_ms(text, TIMESTAMP_MS_MAX)
    except InvalidInput:
        return f"{text!r} is not a time; {_TIME}"
    return ""


def _check_cel(text: str) -> str:
    try:
        check(text, frozenset(CEL_VARIABLES))
    except ExpressionError as error:
        return f"the expression is invalid at its column {error.column}: {error.reason}"
    return ""


def _check_run_id(text: str) -> str:
    if _RUN_ID_PART.fullmatch(text):
        return ""
    return f"{text!r} is not a run id; give the id, or at least its last {TAIL_CHARACTERS} characters"


def _check_text(text: str) -> str:
    return "" if text else "the value is empty; remove the term, or give a value"


@dataclass(frozen=True, slots=True)
class _Field:
    """What values a key may have: `repeats` if several terms of it make sense."""

    check: Callable[[str], str] = _check_text
    wildcards: bool = False
    excludes: bool = True
    repeats: bool = False


_MOMENT = _Field(_check_time, excludes=False)
FIELDS: Mapping[str, _Field] = {
    "run_id": _Field(_check_run_id),
    "function": _Field(wildcards=True),
    "app": _Field(),
    "status": _Field(_check_status),
    "event": _Field(wildcards=True, repeats=True),
    "event_id": _Field(repeats=True),
    "caller": _Field(),
    "origin": _Field(),
    "error": _Field(repeats=True),
    "error_group": _Field(),
    "paused": _Field(_check_flag),
    "rerun": _Field(_check_flag),
    "bulk": _Field(),
    "after": _MOMENT,
    "before": _MOMENT,
    "started_after": _MOMENT,
    "started_before": _MOMENT,
    "ended_after": _MOMENT,
    "ended_before": _MOMENT,
    "cel": _Field(_check_cel, excludes=False, repeats=True),
}
TIME_FIELDS = frozenset(name for name, field in FIELDS.items() if field is _MOMENT)
_ATTRIBUTE_FIELD = _Field(lambda _: "", wildcards=True)
_WORD_FIELD = _Field(excludes=False, repeats=True)


def _problem_of(name: str) -> str | None:
    """Return why a name cannot be written as that of an attribute without `attr.`; None if it can."""
    meant = name if name in FIELDS else _MEANT.get(name.lower(), "")
    near = [meant] if meant else difflib.get_close_matches(name.lower(), FIELDS, 1, 0.8)
    if near or name.startswith(ATTRIBUTE):
        return f"unknown key {name!r}; write {near[0] if near else ATTRIBUTE}, or {ATTRIBUTE}{name} for an attribute"
    return None


class _Parser:
    """Reads the terms of a filter from left to right."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._seen = Counter[str]()

    def terms(self) -> list[Term]:
        found: list[Term] = []
        if has_lone_surrogate(self._text):
            raise FilterError("a lone surrogate is not a character; remove it", 1)
        while self._skip_spaces():
            if len(found) == FILTER_TERMS_MAX:
                self._fail(f"more than {FILTER_TERMS_MAX} terms; use fewer")
            found.append(self._term())
        return found

    def _fail(self, reason: str, at: int = -1) -> NoReturn:
        raise FilterError(reason, (self._at if at < 0 else at) + 1)

    def _skip_spaces(self) -> bool:
        while self._at < len(self._text) and self._text[self._at].isspace():
            self._at += 1
        return self._at < len(self._text)

    def _term(self) -> Term:
        start = self._at
        excluded = self._text.startswith("-", start)
        self._at += excluded
        key, field = self._key()
        if excluded and not field.excludes:
            self._fail(_no_exclusion(key), start)
        if not excluded and not field.repeats:
            self._seen[key] += 1
            if self._seen[key] > 1:
                name = key.removeprefix(ATTRIBUTE)
                self._fail(f"{name} is given twice; write the values that are possible as {name}:one,other", start)
        return Term(key, tuple(self._values(key, field)), excluded)

    def _key(self) -> tuple[str, _Field]:
        found = _NAME.match(self._text, self._at)
        if found is None:
            word = self._text[self._at :].split(maxsplit=1)[:1]
            if word and (word[0] in ("AND", "OR", "NOT") or word[0].startswith("(")):
                self._fail("terms are joined by AND; write alternatives as key:one,other and exclusions as -key:value")
            return "", _WORD_FIELD
        name = found[0]
        if field := FIELDS.get(name):
            self._at = found.end() + 1
            return name, field
        if not name.startswith(ATTRIBUTE) and (problem := _problem_of(name)):
            self._fail(problem)
        if name == ATTRIBUTE:
            self._fail(f"the name of the attribute is missing; write {ATTRIBUTE}NAME:value")
        self._at = found.end() + 1
        return ATTRIBUTE + name.removeprefix(ATTRIBUTE), _ATTRIBUTE_FIELD

    def _values(self, key: str, field: _Field) -> list[Pattern]:
        values: list[Pattern] = []
        while True:
            start = self._at
            value = self._value(key)
            if reason := field.check(value.text) if value.text or not value.prefix else "":
                self._fail(reason, start)
            if value.prefix and not field.wildcards:
                self._fail(f'a * is not possible here; write "{value.text}*" if it is part of the value', start)
            if len(values) == FILTER_VALUES_MAX:
                self._fail(f"more than {FILTER_VALUES_MAX} values; use fewer", start)
            values.append(value)
            if not self._text.startswith(",", self._at):
                return values
            self._at += 1

    def _value(self, key: str) -> Pattern:
        if self._text.startswith('"', self._at):
            return self._quoted_value()
        found = _PLAIN.match(self._text, self._at)
        text = found[0] if found else ""
        if not text and key == "cel":
            self._fail('the expression is missing after cel:; write it in quotes, as cel:"event.data.amount > 100"')
        if not text:
            after = f"{key.removeprefix(ATTRIBUTE)}:" if key else "the comma"
            self._fail(f'a value is missing after {after}; an empty one is written as ""')
        self._at += len(text)
        if self._text.startswith('"', self._at):
            self._fail(r"a quote inside a value; put the whole value in quotes, and write the inner quote as \"")
        # CEL and error texts are usually quoted; the others have no star at their end.
        return Pattern(text[:-1], prefix=True) if text.endswith("*") else Pattern(text)

    def _quoted_value(self) -> Pattern:
        start = self._at
        found = _QUOTED.match(self._text, start)
        if found is None:
            self._fail('the closing quote is missing; add " at the end of the value', start)
        self._at = found.end()
        prefix = self._text.startswith("*", self._at)
        self._at += prefix
        after = self._text[self._at : self._at + 1]
        if after and after != "," and not after.isspace():
            self._fail("a space or a comma must follow the closing quote")
        return Pattern(re.sub(r'\\(["\\])', r"\1", found[1]), prefix=prefix)


def _no_exclusion(key: str) -> str:
    match key:
        case "":
            return "a word cannot be excluded; write -key:value, or put the word in quotes"
        case "cel":
            return "cel cannot be excluded; write ! in the expression"
        case _:
            return f"{key} cannot be excluded; use the other bound"
