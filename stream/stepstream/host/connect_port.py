"""The port to which workers of Inngest SDKs connect."""

from contextlib import suppress
from socket import socket

from stepstream.host.serving import listen
from stepstream.host.settings import Settings, SettingsError

_OPTION = "--connect-port"
_PORT_MAX = 65_535


def listen_for_workers(settings: Settings) -> socket | None:
    """Bind the port for workers; None if SDKs are not served.

    A worker learns the port as it starts. So unless the settings name one, any port replaces one that is taken.
    """
    if not settings.serves_sdks:
        return None
    if settings.connect_port is not None:
        return listen(settings.host, settings.connect_port, _OPTION)
    following = settings.port + 1 if 0 < settings.port < _PORT_MAX else 0
    with suppress(SettingsError):
        if following not in (0, settings.metrics_port):
            return listen(settings.host, following, _OPTION)
    return listen(settings.host, 0, _OPTION)
