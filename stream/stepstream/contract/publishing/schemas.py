"""JSON Schema of the wire records, derived from their types."""

from collections.abc import Mapping
from typing import Any

from msgspec import Raw, Struct, inspect

from stepstream.contract.codec import load_json

Schema = dict[str, Any]

_PLAIN: dict[type[inspect.Type], Schema] = {
    inspect.StrType: {"type": "string"},
    inspect.IntType: {"type": "integer"},
    inspect.FloatType: {"type": "number"},
    inspect.BoolType: {"type": "boolean"},
    inspect.NoneType: {"type": "null"},
    # A value of the user may be any JSON.
    inspect.RawType: {},
}


def record_schema(record: type[Struct], bounds: Mapping[str, Mapping[str, Any]] | None = None) -> Schema:
    """Return the schema of `record` as one document; the types of its fields are under `$defs`.

    `bounds` are constraints of its fields beyond their types.
    """
    defs: Schema = {}
    _struct(_info(record), defs)
    whole = defs.pop(record.__name__)
    for name, bound in (bounds or {}).items():
        whole["properties"][name] = {**whole["properties"][name], **bound}
    head = {"$schema": "https://json-schema.org/draft/2020-12/schema", **whole}
    return {**head, "$defs": dict(sorted(defs.items()))} if defs else head


def _info(record: type[Struct]) -> inspect.StructType:
    info = inspect.type_info(record)
    if not isinstance(info, inspect.StructType):
        raise TypeError(f"{record} is not a record")
    return info


def _schema(kind: inspect.Type, defs: Schema) -> Schema:
    match kind:
        case inspect.StructType():
            return _struct(kind, defs)
        case inspect.VarTupleType(item_type=item):
            return {"type": "array", "items": _schema(item, defs)}
        case inspect.TupleType(item_types=items):
            found = [_schema(item, defs) for item in items]
            return {"type": "array", "prefixItems": found, "items": False, "minItems": len(found)}
        case inspect.DictType(value_type=value):
            return {"type": "object", "additionalProperties": _schema(value, defs)}
        case inspect.UnionType(types=kinds):
            return {"anyOf": [_schema(item, defs) for item in kinds]}
        case inspect.EnumType(cls=enum):
            return {"enum": [member.value for member in enum]}
    return dict(_PLAIN[type(kind)])


def _struct(info: inspect.StructType, defs: Schema) -> Schema:
    name = info.cls.__name__
    reference = {"$ref": f"#/$defs/{name}"}
    if name in defs:
        return reference
    defs[name] = {}
    tag = {info.tag_field: {"const": info.tag}} if info.tag_field else {}
    fields = {field.encode_name: _field(field, defs) for field in info.fields}
    required = [*tag, *(field.encode_name for field in info.fields if field.required)]
    defs[name] = {
        "title": name,
        "description": " ".join((info.cls.__doc__ or "").split()),
        "type": "object",
        "properties": {**tag, **fields},
        "required": required,
    }
    return reference


def _field(field: inspect.Field, defs: Schema) -> Schema:
    schema = _schema(field.type, defs)
    if isinstance(field.default, str | int | bool):
        return {**schema, "default": field.default}
    if isinstance(field.default, Raw):
        return {**schema, "default": load_json(field.default)}
    return schema
