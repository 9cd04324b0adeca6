"""The address of the page of this process, and opening it in the browser of the user."""

import ipaddress
import os
import sys
import threading
import webbrowser
from collections.abc import Callable

from stepstream.api.page_options import ROOT, PageMode
from stepstream.host.serving import address_of
from stepstream.host.settings import Settings

# Without one of these, only browsers that run inside of the terminal would open.
_SCREENS = ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER")


def page_address(settings: Settings, port: int) -> str:
    """Return the URL of the page as seen from this machine; "" if it is not served."""
    return "" if settings.page == PageMode.OFF else address_of(_reachable(settings.host), port) + ROOT


def _reachable(host: str) -> str:
    """Return a host at which this machine reaches what listens on `host`, which may mean all addresses."""
    try:
        return "localhost" if ipaddress.ip_address(host).is_unspecified else host
    except ValueError:
        return host


def open_page(address: str, report: Callable[[str], None]) -> None:
    """Open a URL in a browser without waiting for it; `report` gets a sentence if no browser opens."""
    threading.Thread(target=_open, args=(address, report), daemon=True).start()


def _open(address: str, report: Callable[[str], None]) -> None:
    has_screen = sys.platform != "linux" or any(map(os.environ.get, _SCREENS))
    try:
        opened = has_screen and webbrowser.open(address)
    except (webbrowser.Error, OSError):
        opened = False
    if not opened:
        report(f"no browser could be opened; the page is at {address}")
