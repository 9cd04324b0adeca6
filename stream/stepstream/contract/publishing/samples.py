"""One full and one bare example of each record, built from its type; a release keeps them as golden records."""

from typing import Any

from msgspec import Raw, Struct, inspect


def samples(record: type[Struct]) -> list[Struct]:
    """Return a record with every field set and, if it differs, one with only the required fields."""
    info = inspect.type_info(record)
    if not isinstance(info, inspect.StructType):
        raise TypeError(f"{record} is not a record")
    full, bare = _build(info, bare=False), _build(info, bare=True)
    return [full] if full == bare else [full, bare]


def _build(info: inspect.StructType, *, bare: bool) -> Struct:
    made = {f.name: _value(f.type, f.name) for f in info.fields if f.required or not bare}
    built: Struct = info.cls(**made)
    return built


_PLAIN: dict[type[inspect.Type], Any] = {inspect.BoolType: True, inspect.RawType: Raw(b'{"of":"the user"}')}


def _value(kind: inspect.Type, name: str) -> Any:
    match kind:
        case inspect.StructType():
            return _build(kind, bare=False)
        case inspect.DictType(value_type=item):
            return {"a_name": _value(item, name)}
        case inspect.VarTupleType(item_type=inspect.UnionType(types=kinds)):
            return tuple(_value(item, name) for item in kinds)
        case inspect.VarTupleType(item_type=item):
            return (_value(item, name),)
        case inspect.TupleType(item_types=items):
            return tuple(_value(item, name) for item in items)
        case inspect.UnionType(types=kinds):
            return _value(next(item for item in kinds if not isinstance(item, inspect.NoneType)), name)
        case inspect.EnumType(cls=enum):
            return next(iter(enum))
        case inspect.IntType():
            return 1_357_016_400_000 if name in {"at", "ts", "until"} or name.endswith("_at") else 2
        case inspect.StrType():
            return "01HN4Q5V80ZZZZZZZZZZZZZZZZ" if name == "run_id" else f"a {name.replace('_', ' ')}"
    return _PLAIN[type(kind)]
