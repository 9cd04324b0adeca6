"""Checks that the package of an integration is installed."""

from importlib.util import find_spec


def require(package: str, name: str, extra: str) -> None:
    """Raise ModuleNotFoundError with the command that installs the extra, unless `package` can be imported."""
    if find_spec(package) is None:
        raise ModuleNotFoundError(f"{name} is not installed: pip install 'stepstream[{extra}]'", name=package)
