"""Forms that are made from a JSON schema: a field for each simple value, and JSON for everything else."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

import htpy as h

from stepstream.api.pages.parts.components import text
from stepstream.api.pages.parts.fields import Refusal, area, choice, line
from stepstream.contract.codec import Json, load_json
from stepstream.contract.errors import InvalidInput
from stepstream.contract.text.printable import printable

# With more fields, and with values that are not simple, the values are entered as JSON.
_FIELDS_MAX = 20
_OPTIONS_MAX = 100
_HELP_CHARACTERS = 500
# The name of the fields, and where paths of errors in the values start.
VALUES = "values"
Schema = Mapping[str, Any]


class _Kind(StrEnum):
    """How a value is entered."""

    TEXT = "text"
    NUMBER = "number"
    CHOICE = "choice"
    JSON = "json"


@dataclass(frozen=True, slots=True)
class SchemaField:
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
        return f"{VALUES}.{self.name if is_plain else self.index}"

    def starting_from(self, example: Mapping[str, Json]) -> "SchemaField":
        """Return it with the value of an example instead of its default, if it has one."""
        value = example.get(self.name)
        return self if value is None else replace(self, default=_entered(value, self.kind))

    def has(self, path: str) -> bool:
        """Return whether an error with this path is about the value, or is inside of it."""
        own = f"{VALUES}.{self.name}"
        return path == own or path.startswith(f"{own}.")


def schema_fields(form: Json) -> list[SchemaField] | None:
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


def schema_inputs(fields: Sequence[SchemaField] | None, prefix: str, refusal: Refusal, example: Json = None) -> h.Node:
    """Return a field for each value, or one for all values as JSON; `example` has values to start from."""
    given = example if isinstance(example, dict) else {}
    if fields is None:
        written = json.dumps(given, ensure_ascii=False, indent=2)
        return area(refusal, f"{prefix}-values", VALUES, "Values (JSON)", written)
    return [_field(each.starting_from(given), f"{prefix}-{index}", refusal) for index, each in enumerate(fields)]


def input_names(fields: Sequence[SchemaField] | None) -> list[str]:
    """Return the names of the fields of schema_inputs."""
    return [VALUES] if fields is None else [each.field for each in fields]


def entered_values(fields: Sequence[SchemaField] | None, entered: Mapping[str, str]) -> Json:
    """Return the values that were entered; raise InvalidInput with the path of a value that cannot be read."""
    if fields is None:
        return load_json(entered.get(VALUES, "").encode(), field=VALUES)
    return {each.name: _value(each, entered.get(each.field, "")) for each in fields if _is_given(each, entered)}


def input_of(fields: Sequence[SchemaField] | None, path: str) -> str:
    """Return the name of the field that an error with this path is about: of a value for an error inside of it."""
    if fields is None:
        return VALUES if path.startswith(VALUES) else path
    return next((each.field for each in fields if each.has(path)), path)


def _is_given(field: SchemaField, entered: Mapping[str, str]) -> bool:
    """Return whether a value was entered; an empty text is one only if the form needs it."""
    return bool(entered.get(field.field, "").strip()) or (field.is_required and field.kind == _Kind.TEXT)


def _value(field: SchemaField, written: str) -> Json:
    if field.kind == _Kind.TEXT:
        return written.replace("\r\n", "\n")
    try:
        return load_json(written.strip().encode())
    except InvalidInput as error:
        reason = "use a number, such as 7 or 0.5" if field.kind == _Kind.NUMBER else f"expected JSON: {error.reason}"
        raise InvalidInput(reason, f"{VALUES}.{field.name}") from None


def _field_of(index: int, name: str, part: Any, schema: Schema, *, is_required: bool) -> SchemaField:
    given = part if isinstance(part, dict) else {}
    resolved = _resolved(given, schema)
    kind, options = _kind_of(resolved)
    if options and not is_required:
        options = [("", "(none)"), *options]
    label, help = (str(given.get(key) or resolved.get(key) or "") for key in ("title", "description"))
    return SchemaField(
        index, name, label or name, help, kind, is_required, _entered(given.get("default"), kind), options
    )


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


def _entered(value: object, kind: _Kind) -> str:
    """Return a value as it is entered."""
    if value is None:
        return ""
    return value if kind == _Kind.TEXT and isinstance(value, str) else _text(value)


def _text(value: object) -> str:
    return printable(json.dumps(value, ensure_ascii=False))


def _field(field: SchemaField, id: str, refusal: Refusal) -> h.Element:
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
