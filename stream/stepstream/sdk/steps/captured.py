"""The arguments of a callable as JSON, by the names of its parameters, so that a rerun can replace them."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from stepstream.contract.codec import Raw, dump_json, encode
from stepstream.contract.errors import InvalidInput, NotJson
from stepstream.sdk.errors import StepUsageError
from stepstream.sdk.values import PLAIN_JSON, ReturnType, dump_value, load_value, parameter_type

_SEVERAL = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
_REMEDY = "bind what is not JSON, such as a client, by functools.partial, or take it from the code around the callable"


def bound_arguments(
    id: str, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> dict[str, Any]:
    """Return arguments by the names of their parameters; raise StepUsageError if the callable does not take them.

    Those of a callable without a signature, such as some of C, are under `args` and `kwargs`.
    """
    signature = _signature(fn)
    if signature is None:
        return {"args": list(args), "kwargs": dict(kwargs)}
    try:
        return dict(signature.bind(*args, **kwargs).arguments)
    except TypeError as error:
        raise StepUsageError(f"step {id!r}: the callable does not take these arguments: {error}") from None


async def dump_arguments(id: str, fn: Callable[..., Any], arguments: Mapping[str, Any]) -> Raw:
    """Return arguments as a JSON object; raise NotJson for one that JSON, or the type of its parameter, cannot have."""
    signature = _signature(fn)
    try:
        dumped = {
            name: dump_value(value, _type(fn, signature, name), f"argument {name!r} of step {id!r}")
            for name, value in arguments.items()
        }
        return Raw(encode(dumped))
    except NotJson as error:
        raise NotJson(f"{error.reason}; {_REMEDY}", error.field) from None


def load_arguments(
    id: str, fn: Callable[..., Any], captured: Mapping[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return arguments from JSON; raise InvalidInput for a name or a value that the callable does not take."""
    signature = _signature(fn)
    if signature is None:
        return tuple(captured["args"]), dict(captured["kwargs"])
    if unknown := captured.keys() - signature.parameters.keys():
        raise InvalidInput(f"the callable has no parameter {min(unknown)!r}", f"input of step {id!r}")
    loaded = {
        name: load_value(dump_json(captured[name]), _type(fn, signature, name))
        for name in signature.parameters
        if name in captured
    }
    bound = inspect.BoundArguments(signature, loaded)
    return bound.args, bound.kwargs


def _signature(fn: Callable[..., Any]) -> inspect.Signature | None:
    try:
        return inspect.signature(fn)
    except ValueError:
        return None


def _type(fn: Callable[..., Any], signature: inspect.Signature | None, name: str) -> ReturnType:
    if signature is None or signature.parameters[name].kind in _SEVERAL:
        return PLAIN_JSON
    return parameter_type(fn, name)
