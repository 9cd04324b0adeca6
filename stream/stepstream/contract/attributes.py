"""Attributes of runs: small values by which people find runs, such as the number of an order."""

import math
import re
from collections.abc import Mapping

from stepstream.contract.codec import encode, has_lone_surrogate
from stepstream.contract.errors import InvalidInput
from stepstream.contract.limits import ATTRIBUTE_CHARACTERS_MAX, ATTRIBUTES_PER_RUN_MAX

Attribute = str | int | float | bool
Attributes = dict[str, Attribute]
# None removes an attribute.
AttributeChanges = dict[str, Attribute | None]
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,63}")
_INTEGER_MAX = 2**63 - 1


def check_attribute_name(name: object) -> str:
    """Return the name of an attribute; raise InvalidInput unless it is one."""
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise InvalidInput(
            "use 1 to 64 of a-z, A-Z, 0-9, '_', '.' and '-', beginning with a-z, A-Z or '_'", str(name)[:64]
        )
    return name


def check_attributes(values: Mapping[str, object]) -> AttributeChanges:
    """Return changes of attributes; raise InvalidInput that names the first one that is not valid."""
    if len(values) > ATTRIBUTES_PER_RUN_MAX:
        raise InvalidInput(f"{len(values)} attributes exceed the {ATTRIBUTES_PER_RUN_MAX} that a run may have")
    return {check_attribute_name(name): _checked(name, value) for name, value in values.items()}


def _checked(name: str, value: object) -> Attribute | None:
    match value:
        case None | bool():
            return value
        case int() if abs(value) <= _INTEGER_MAX:
            return int(value)
        case float() if math.isfinite(value):
            return float(value)
        case str() if len(value) <= ATTRIBUTE_CHARACTERS_MAX and not has_lone_surrogate(value):
            # A member of an enum of texts is stored as its text.
            return str.__str__(value)
        case str() if len(value) > ATTRIBUTE_CHARACTERS_MAX:
            raise InvalidInput(f"{len(value)} characters exceed the limit of {ATTRIBUTE_CHARACTERS_MAX}", name)
    raise InvalidInput(f"use a string, a number, True, False or None, not {type(value).__name__}", name)


def changed(known: Attributes, changes: Mapping[str, Attribute | None]) -> Attributes:
    """Return attributes with changes applied; those that would exceed the limit of a run are left out."""
    after = dict(known)
    for name, value in changes.items():
        if value is None:
            after.pop(name, None)
        elif name in after or len(after) < ATTRIBUTES_PER_RUN_MAX:
            after[name] = value
    return after


def same(one: Attributes, other: Attributes) -> bool:
    """Return whether attributes are the same as JSON: in Python, 1 equals True."""
    return encode(one) == encode(other)
