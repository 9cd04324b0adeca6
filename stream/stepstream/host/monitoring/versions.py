"""Which versions run in this process."""

from collections.abc import Iterator

from stepstream import __version__
from stepstream.host.settings import Settings
from stepstream.runtime.metrics import Reading
from stepstream.runtime.registrations import release_of
from stepstream.sdk.app import App
from stepstream.sdk.function import code_version


def code_versions(app: App, settings: Settings) -> dict[str, str]:
    """Return the version of each function's code: that of the settings, else a digest of the function."""
    return {function.id: settings.version or code_version(function.handler) for function in app}


def app_version(app: App, settings: Settings) -> str:
    """Return the version of an app: that of the settings, else its release as the engine and the brokers know it."""
    return settings.version or release_of(app)


def build_info(app: App | None, settings: Settings, workers: str = "") -> Iterator[Reading]:
    """Return the versions as labels of a gauge; `workers` is the name that a worker shares with its group."""
    name, version = (workers or app.name, app_version(app, settings)) if app is not None else ("", "")
    yield Reading("build_info", (__version__, name, version), 1)
