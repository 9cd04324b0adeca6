"""Which version of what runs in this process."""

import hashlib
from collections.abc import Iterator

from stepstream import __version__
from stepstream.host.settings import Settings
from stepstream.runtime.metrics import Reading
from stepstream.sdk.app import App
from stepstream.sdk.function import code_version


def code_versions(app: App, settings: Settings) -> dict[str, str]:
    """Return the version of each function's code: that of the settings, else a digest of the function."""
    return {function.id: settings.version or code_version(function.handler) for function in app}


def app_version(app: App, settings: Settings) -> str:
    """Return the version of an app's code: that of the settings, else a digest of all its functions."""
    digests = sorted(f"{name} {version}" for name, version in code_versions(app, settings).items())
    return settings.version or hashlib.sha256("\n".join(digests).encode()).hexdigest()[:12]


def build_info(app: App | None, settings: Settings, workers: str = "") -> Iterator[Reading]:
    """Return what runs here, as labels of a gauge; `workers` is the name of those that share the work with this one."""
    name, version = (workers or app.name, app_version(app, settings)) if app is not None else ("", "")
    yield Reading("build_info", (__version__, name, version), 1)
