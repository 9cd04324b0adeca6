"""Checks of the options of a VirtualEngine."""

from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from typing import Any


def checked_stubs(
    stubs: Mapping[tuple[str, str], Callable[..., Any]], functions: Collection[str]
) -> dict[tuple[str, str], Callable[..., Any]]:
    """Return the stubs of bodies; raise ValueError for one of an unknown function."""
    for function, step in stubs:
        if function not in functions:
            raise ValueError(
                f"stubs= has ({function!r}, {step!r}), but there is no function {function!r}, only {names(functions)}"
            )
    return dict(stubs)


def check_shards(shards: int, data_dir: Path | None) -> None:
    """Raise ValueError for a durable engine with several shards."""
    if data_dir is not None and shards != 1:
        raise ValueError("a durable engine has one shard: leave out shards= or data_dir=")


def names(names: Iterable[str]) -> str:
    """Return names as text, each once."""
    return ", ".join(map(repr, dict.fromkeys(names))) or "none"
