"""The arguments of a wrapped client as JSON, by the names of its parameters."""

import dataclasses
import functools
from datetime import date
from typing import Any

import pytest

from stepstream.contract.codec import load_json
from stepstream.contract.errors import InvalidInput, NotJson
from stepstream.sdk.errors import StepUsageError
from stepstream.sdk.steps.captured import bound_arguments, dump_arguments, load_arguments


@dataclasses.dataclass
class Options:
    """An argument with a type."""

    until: date


def call(client: str, /, prompt: str, *rest: int, options: Options | None = None, **more: Any) -> list[Any]:
    """Return the arguments."""
    return [client, prompt, rest, options, more]


async def captured(fn: Any, *args: Any, **kwargs: Any) -> Any:
    """Return what is stored of arguments."""
    return load_json(await dump_arguments("id", fn, bound_arguments("id", fn, args, kwargs)))


async def test_arguments_come_back_as_they_were() -> None:
    """Values have the types of their parameters again, and each is in its place."""
    stored = await captured(call, "c", "hi", 1, 2, options=Options(date(2026, 1, 2)), seed=3)
    assert stored == {
        "client": "c", "prompt": "hi", "rest": [1, 2], "options": {"until": "2026-01-02"}, "more": {"seed": 3}
    }  # fmt: skip
    args, kwargs = load_arguments("id", call, stored)
    assert call(*args, **kwargs) == ["c", "hi", (1, 2), Options(date(2026, 1, 2)), {"seed": 3}]


async def test_what_is_bound_before_is_not_captured() -> None:
    """A client that functools.partial binds need not be JSON."""
    bound = functools.partial(call, "a client")
    stored = await captured(bound, "hi")
    assert stored == {"prompt": "hi"}
    args, kwargs = load_arguments("id", bound, {"prompt": "edited"})
    assert bound(*args, **kwargs)[:2] == ["a client", "edited"]


async def test_wrong_arguments_are_refused() -> None:
    """Those that the callable does not take at once, those that are not JSON with the remedy, and edited ones."""
    with pytest.raises(StepUsageError, match="step 'id': the callable does not take these arguments: missing"):
        bound_arguments("id", call, (), {})
    with pytest.raises(NotJson, match=r"bind what is not JSON, such as a client, by functools\.partial"):
        await captured(call, "c", object())
    with pytest.raises(InvalidInput, match="no parameter 'promt'"):
        load_arguments("id", call, {"promt": "hi"})
    with pytest.raises(InvalidInput):
        load_arguments("id", call, {"client": "c", "prompt": "hi", "options": {"until": "later"}})


async def test_a_callable_without_a_signature_has_a_list() -> None:
    """Some callables of C say nothing about their parameters."""
    stored = await captured(max, 3, 5)
    assert stored == {"args": [3, 5], "kwargs": {}}
    args, kwargs = load_arguments("id", max, stored)
    assert max(*args, **kwargs) == 5
