"""The form of an approval: a field for each simple value of its JSON schema, and what was entered as a decision."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import htpy as h

from stepstream.api.pages.parts.components import text
from stepstream.api.pages.parts.fields import Refusal, area, choice, line, other_reason
from stepstream.contract.codec import Json, load_json
from stepstream.contract.errors import InvalidInput
from stepstream.contract.limits import APPROVAL_COMMENT_CHARACTERS_MAX
from stepstream.contract.text.printable import printable
from stepstream.runtime.decisions import NAME_CHARACTERS_MAX, Decision
from stepstream.runtime.readmodel.tables.approvals import ApprovalView

# With more fields, and with values that are not simple, the values are entered as JSON.
_FIELDS_MAX = 20
_OPTIONS_MAX = 100
_VALUES = "values"
_HELP_CHARACTERS = 500
Schema = Mapping[str, Any]


class _Kind(StrEnum):
    """How a value is entered."""

    TEXT = "text"
    NUMBER = "number"
    CHOICE = "choice"
    JSON = "json"


@dataclass(frozen=True, slots=True)
class _Field:
    """One value of a form; a value of `options` is JSON text."""

    index: int
    name: str
    label: str
    help: str
    kind: _Kind
    is_required: bool
    default: str = ""
    options: Sequence[tuple[str, str]] = ()

    @property
    def field(self) -> str:
        """The name of the field in the page."""
        is_plain = self.name.isascii() and self.name.isidentifier()
        return f"{_VALUES}.{self.name if is_plain else self.index}"

    def has(self, path: str) -> bool:
        """Return whether an error with this path is about the value, or is inside of it."""
        own = f"{_VALUES}.{self.name}"
        return path == own or path.startswith(f"{own}.")


def decision_fields(asked: ApprovalView, refusal: Refusal, by: str) -> h.Node:
    """Return the fields and buttons of a decision; `by` is who decides, empty if the visitor must say it."""
    prefix = f"{asked.run_id}-{asked.step[:8]}"
    fields = _fields_of(asked.form)
    names = [each.field for each in fields] if fields is not None else [_VALUES]
    return [
        other_reason(refusal, "by", "comment", *names),
        [_field(each, f"{prefix}-{index}", refusal) for index, each in enumerate(fields or ())],
        area(refusal, f"{prefix}-values", _VALUES, "Values (JSON)", "{}") if fields is None else None,
        area(refusal, f"{prefix}-comment", "comment", "Comment"),
        h.p["You decide as ", text(by)]
        if by
        else line(refusal, f"{prefix}-by", "by", "Your name", maxlength=str(NAME_CHARACTERS_MAX)),
        h.button(name="decision", value="approve")["Approve"],
        h.button(".danger", name="decision", value="reject")["Reject"],
    ]


def decision_of(asked: ApprovalView, entered: Mapping[str, str], by: str) -> Decision:
    """Return the decision that was entered; raise InvalidInput that names a field of decision_fields."""
    if entered.get("decision") not in ("approve", "reject"):
        raise InvalidInput("choose Approve or Reject", "decision")
    by = by or entered.get("by", "").strip()
    if not 0 < len(by) <= NAME_CHARACTERS_MAX:
        raise InvalidInput(f"name the person who decides, in at most {NAME_CHARACTERS_MAX} characters", "by")
    comment = entered.get("comment", "").replace("\r\n", "\n").strip()
    if len(comment) > APPROVAL_COMMENT_CHARACTERS_MAX:
        raise InvalidInput(f"use at most {APPROVAL_COMMENT_CHARACTERS_MAX:,} characters", "comment")
    is_approved = entered["decision"] == "approve"
    return Decision(is_approved, by, comment, _values(asked.form, entered) if is_approved else None)


def field_of(asked: ApprovalView, error: InvalidInput) -> str:
    """Return the field that an error is about: that of a value for an error inside of it."""
    fields = _fields_of(asked.form)
    if fields is None:
        return _VALUES if error.field.startswith(_VALUES) else error.field
    return next((each.field for each in fields if each.has(error.field)), error.field)


def _values(form: Json, entered: Mapping[str, str]) -> Json:
    fields = _fields_of(form)
    if fields is None:
        return load_json(entered.get(_VALUES, "").encode(), field=_VALUES)
    if form is None:
        return None
    values = {each.name: _value(each, entered.get(each.field, "")) for each in fields if _is_given(each, entered)}
    return dict(values)


def _is_given(field: _Field, entered: Mapping[str, str]) -> bool:
    """Return whether a value was entered; an empty text is one only if the form needs it."""
    return bool(entered.get(field.field, "").strip()) or (field.is_required and field.kind == _Kind.TEXT)


def _value(field: _Field, written: str) -> Json:
    if field.kind == _Kind.TEXT:
        return written.replace("\r\n", "\n")
    try:
        return load_json(written.strip().encode())
    except InvalidInput as error:
        expected = "a number" if field.kind == _Kind.NUMBER else "JSON"
        raise InvalidInput(f"expected {expected}: {error.reason}", f"{_VALUES}.{field.name}") from None


def _fields_of(form: Json) -> list[_Field] | None:
    """Return the fields of a JSON schema, none for no form; None if its values are entered as one JSON value."""
    if form is None:
        return []
    schema: Any = form
    properties = schema.get("properties") if isinstance(schema, dict) else None
    if not isinstance(properties, dict) or not 0 < len(properties) <= _FIELDS_MAX:
        return None
    required = schema.get("required")
    needed = required if isinstance(required, list) else []
    parts = enumerate(properties.items())
    return [_field_of(index, name, part, schema, is_required=name in needed) for index, (name, part) in parts]


def _field_of(index: int, name: str, part: Any, schema: Schema, *, is_required: bool) -> _Field:
    given = part if isinstance(part, dict) else {}
    resolved = _resolved(given, schema)
    kind, options = _kind_of(resolved)
    if options and not is_required:
        options = [("", "(none)"), *options]
    label, help = (str(given.get(key) or resolved.get(key) or "") for key in ("title", "description"))
    return _Field(index, name, label or name, help, kind, is_required, _default(given, kind), options)


def _resolved(part: Schema, schema: Schema) -> Schema:
    """Return what a property refers to: its definition, or the only type besides null."""
    for _ in range(3):
        kinds = part.get("anyOf")
        others = [each for each in kinds if each != {"type": "null"}] if isinstance(kinds, list) else []
        reference = part.get("$ref")
        if len(others) == 1 and isinstance(others[0], dict):
            part = others[0]
        elif isinstance(reference, str) and isinstance(schema.get("$defs"), dict):
            found = schema["$defs"].get(reference.removeprefix("#/$defs/"))
            part = found if isinstance(found, dict) else {}
        else:
            break
    return part


def _kind_of(part: Schema) -> tuple[_Kind, list[tuple[str, str]]]:
    listed = [part["const"]] if "const" in part else part.get("enum")
    if isinstance(listed, list) and 0 < len(listed) <= _OPTIONS_MAX:
        return _Kind.CHOICE, [(_text(each), each if isinstance(each, str) else _text(each)) for each in listed]
    match part.get("type"):
        case "string":
            return _Kind.TEXT, []
        case "number" | "integer":
            return _Kind.NUMBER, []
        case "boolean":
            return _Kind.CHOICE, [("true", "yes"), ("false", "no")]
        case _:
            return _Kind.JSON, []


def _default(part: Schema, kind: _Kind) -> str:
    value = part.get("default")
    if value is None:
        return ""
    return value if kind == _Kind.TEXT and isinstance(value, str) else _text(value)


def _text(value: object) -> str:
    return printable(json.dumps(value, ensure_ascii=False))


def _field(field: _Field, id: str, refusal: Refusal) -> h.Element:
    label: h.Node = [
        text(field.label),
        " (required)" if field.is_required else None,
        h.span(".hint")[text(field.help, _HELP_CHARACTERS)] if field.help else None,
    ]
    match field.kind:
        case _Kind.CHOICE:
            options = [("", "(choose)"), *field.options] if field.is_required else field.options
            return choice(refusal, id, field.field, label, options, field.default)
        case _Kind.JSON:
            return area(refusal, id, field.field, [label, " (JSON)"], field.default)
        case _Kind.NUMBER:
            return line(refusal, id, field.field, label, field.default, inputmode="decimal")
        case _Kind.TEXT:
            return line(refusal, id, field.field, label, field.default)
