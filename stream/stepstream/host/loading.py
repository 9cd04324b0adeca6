"""Loads the user's app from a file."""

import importlib.util
import sys
import traceback
from pathlib import Path

from stepstream.contract.errors import StepstreamError
from stepstream.sdk.app import App


class LoadError(StepstreamError):
    """The file does not define an app that can run."""

    code = "load"


def load_app(target: str) -> App:
    """Return the app of `FILE` or `FILE:NAME`; raise LoadError with the remedy if there is none, or several."""
    file, _, name = target.partition(":")
    path = Path(file).resolve()
    if not path.is_file():
        raise LoadError(f"there is no file {file!r}; give the path of a Python file, such as app.py or app.py:app")
    module = _import(path)
    apps = {key: value for key, value in vars(module).items() if isinstance(value, App)}
    if name:
        if name not in apps:
            raise LoadError(f"{file} has no App named {name!r}; its apps: {', '.join(apps) or 'none'}")
        return apps[name]
    if len(set(map(id, apps.values()))) != 1:
        choice = (
            f"choose one: {', '.join(f'{file}:{key}' for key in apps)}" if apps else 'write app = App("name") in it'
        )
        raise LoadError(f"{file} has {len(apps)} apps; {choice}")
    return next(iter(apps.values()))


def _import(path: Path) -> object:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise LoadError(f"{path} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    sys.path.insert(0, str(path.parent))
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise LoadError(f"{path.name} cannot be loaded\n{_own_frames(error, path)}") from error
    return module


def _own_frames(error: Exception, path: Path) -> str:
    """Return a traceback that starts in the user's file."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [number for number, frame in enumerate(frames) if frame.filename == str(path)]
    shown = frames[own[0] :] if own else []
    parts = [*traceback.format_list(shown), *traceback.format_exception_only(error)]
    return "".join(parts).rstrip()
