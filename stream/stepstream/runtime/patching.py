"""What patches of libraries need: the versions that they were written for, and a check of the installed ones."""

from collections.abc import Collection
from importlib.metadata import version
from typing import Any

# The versions whose source the patches were written for.
READ = {"aiohttp": "3.14.5", "aiokafka": "0.14.0", "faust-streaming": "0.15.3"}


def require(library: str, owner: Any, name: str, *parameters: str, uses: Collection[str] = ()) -> None:
    """Raise ImportError unless `owner.name` is a function of these parameters whose code uses these names."""
    code = getattr(getattr(owner, name, None), "__code__", None)
    if code is None or code.co_varnames[: len(parameters)] != parameters or not set(uses) <= {*code.co_names}:
        raise changed_error(library, f"{owner.__name__}.{name}")


def changed_error(library: str, name: str) -> ImportError:
    """Return the error of a library that is not what a patch was written for."""
    return ImportError(
        f"{name} of {library} {version(library)} is not what stepstream patches: install the version that the patch "
        f"was written for, {library}=={READ[library]}"
    )
