"""Which parts of a JSON value differ from a former value, as a short list for readers."""

from collections.abc import Iterator, Sequence

import htpy as h

from stepstream.api.pages.parts.components import text
from stepstream.api.pages.parts.json_tree import LEVELS_MAX, snippet
from stepstream.contract.codec import Json, dump_json

_CHANGES_MAX = 20
_Parts = Iterator[tuple[str, Sequence[Json], Sequence[Json]]]


def json_changes(former: Json, value: Json, name: str) -> h.Element:
    """Return each part that differs, with its former and its new value; `name` is that of the whole value."""
    found: list[h.Element] = []
    for path, before, after in _changes(name, [former], [value], 0):
        if len(found) == _CHANGES_MAX:
            found.append(h.li["more changes"])
            break
        found.append(h.li[text(path), ": ", _side(before, "(none)"), " → ", _side(after, "(removed)")])
    return h.ul(".changes")[found]


def _changes(path: str, before: Sequence[Json], after: Sequence[Json], level: int) -> _Parts:
    """Yield the path of each part that differs, its former and its new value; a missing value is an empty sequence."""
    match before, after:
        case [dict() as old], [dict() as new] if level < LEVELS_MAX:
            for key in {**old, **new}:
                yield from _changes(f"{path}.{key}", _item(old, key), _item(new, key), level + 1)
        case [list() as old], [list() as new] if level < LEVELS_MAX and len(old) == len(new):
            for index, (one, other) in enumerate(zip(old, new, strict=True)):
                yield from _changes(f"{path}[{index}]", [one], [other], level + 1)
        # 1 is not true in JSON, as it is in Python.
        case _ if [bytes(dump_json(each)) for each in before] != [bytes(dump_json(each)) for each in after]:
            yield path, before, after


def _item(values: dict[str, Json], key: str) -> Sequence[Json]:
    return [values[key]] if key in values else []


def _side(values: Sequence[Json], missing: str) -> h.Node:
    return h.code[text(snippet(values[0]))] if values else missing
