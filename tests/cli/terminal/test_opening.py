"""`stepstream dev` prints where the page is, and `--open` opens it once, whatever the browser does."""

import threading
import webbrowser

import pytest

from stepstream.api.page_options import PageMode
from stepstream.cli.terminal.opening import open_page, page_address
from stepstream.host.settings import Settings


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("127.0.0.1", "http://127.0.0.1:8288/ui"),
        ("::1", "http://[::1]:8288/ui"),
        ("0.0.0.0", "http://localhost:8288/ui"),  # noqa: S104 - an address that is read, not bound
        ("::", "http://localhost:8288/ui"),
        ("box.local", "http://box.local:8288/ui"),
    ],
)
def test_the_address_of_the_page_can_be_opened(host: str, address: str) -> None:
    """An address that means all of the machine is replaced by one that a browser can open."""
    assert page_address(Settings(host=host, event_key="a", api_key="b"), 8288) == address
    assert page_address(Settings(host=host, event_key="a", api_key="b", page=PageMode.OFF), 8288) == ""


@pytest.mark.parametrize("fault", [webbrowser.Error("none"), OSError("no such file"), None])
def test_a_browser_that_does_not_open_is_reported(monkeypatch: pytest.MonkeyPatch, fault: Exception | None) -> None:
    """The report names the address; a browser that opens is not reported."""

    def fail(_url: str) -> bool:
        if fault:
            raise fault
        return False

    monkeypatch.setenv("DISPLAY", ":0")
    monkeypatch.setattr(webbrowser, "open", fail)
    said: list[str] = []
    reported = threading.Event()

    def report(text: str) -> None:
        said.append(text)
        reported.set()

    open_page("http://127.0.0.1:1/ui", report)
    assert reported.wait(60)
    assert said == ["no browser could be opened; the page is at http://127.0.0.1:1/ui"]
