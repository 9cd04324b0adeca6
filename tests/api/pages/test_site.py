"""The frame of the page: headers against hostile content, static files, navigation, and pages of errors."""

import hashlib
import io
import re
import zipfile
from importlib import resources
from pathlib import Path

import httpx
import pytest

from stepstream.api.guards import Keys
from stepstream.api.http import make_api
from stepstream.api.pages.parts.assets import asset_url
from stepstream.runtime.readmodel.index import RunIndex
from stepstream.runtime.readmodel.queries import RunQueries
from stepstream.testing import VirtualEngine
from tests.api.pages.browsing import Browser, browser_of
from tests.fakes.facades import facade_of

VENDORED = {
    # htmx.org 4.0.1: dist/htmx.min.js.
    "htmx.min.js": "a0abb04f2f45a1f89d1d4844023245537e5e6014c87b144553e0607b4cc32130",
}
STATIC = resources.files("stepstream.api.pages") / "static"
STATIC_BYTES_MAX = 100_000
WHEEL_BYTES_MAX = 300_000


def test_vendored_scripts_are_the_pinned_ones() -> None:
    """Each vendored file has the digest of its release, and its licence is beside it."""
    found = {each.name: hashlib.sha256(each.read_bytes()).hexdigest() for each in (STATIC / "vendor").iterdir()}
    assert "Zero-Clause BSD" in (STATIC / "vendor" / "LICENSE").read_text("utf-8")
    found.pop("LICENSE")
    assert found == VENDORED


def test_static_files_are_small() -> None:
    """All scripts and styles together have less than 100 kB."""
    files = [*STATIC.iterdir(), *(STATIC / "vendor").iterdir()]
    assert sum(len(each.read_bytes()) for each in files if each.is_file()) < STATIC_BYTES_MAX


def test_the_page_adds_little_to_the_wheel() -> None:
    """The page with its files and the read model together have less than 300 kB in a wheel, which is compressed."""
    package, wheel = Path(str(resources.files("stepstream"))), io.BytesIO()
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED) as written:
        for folder in ("api/pages", "runtime/readmodel"):
            for file in (package / folder).rglob("*"):
                if file.is_file() and file.suffix != ".pyc":
                    written.write(file, file.relative_to(package))
        assert {"api/pages/static/page.js", "runtime/readmodel/index.py"} < set(written.namelist())
    assert len(wheel.getvalue()) < WHEEL_BYTES_MAX


async def test_static_files_are_kept_by_browsers(engine: VirtualEngine) -> None:
    """The files of a page are immutable under a URL with their digest; the files of another release are missing."""
    browser = browser_of(engine)
    page = await browser.open("/ui/runs")
    urls = [node.attributes["src"] for node in page.all("script")]
    urls += [node.attributes["href"] for node in page.all("link[rel=stylesheet]")]
    assert len(urls) == 3
    for url in urls:
        answer = (await browser.open(url or "")).response
        assert answer.status_code == 200
        assert "immutable" in answer.headers["cache-control"]
    for module in re.findall(r'from "\./(\w+\.js)"', (STATIC / "page.js").read_text("utf-8")):
        assert (await browser.open(asset_url(module))).status == 200
    assert (await browser.open("/ui/static/0123456789abcdef/page.js")).status == 404
    assert (await browser.open(asset_url("../__init__.py"))).status == 404
    assert (await browser.open(asset_url("vendor/LICENSE"))).status == 404


@pytest.mark.parametrize("path", ["/ui/runs", "/ui/nothing", "/ui/runs/x", "/ui/static/a/page.js"])
async def test_every_response_has_the_security_headers(engine: VirtualEngine, path: str) -> None:
    """No response of the page lets a browser run inline code, guess a type, or show it in a frame of another site."""
    headers = (await browser_of(engine).open(path)).response.headers
    policy = headers["content-security-policy"]
    assert {"default-src 'self'", "frame-ancestors 'none'", "form-action 'self'"} <= set(policy.split("; "))
    assert "unsafe" not in policy
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["cache-control"] == "no-store"


async def test_a_page_has_no_inline_code(engine: VirtualEngine) -> None:
    """No element has a style or a handler attribute, and each script is a file."""
    page = await browser_of(engine).open("/ui/runs")
    assert not re.search(r"\s(style|on\w+)=", page.response.text)
    assert all(node.attributes.get("src") and not node.text() for node in page.all("script"))


async def test_a_page_can_be_read_by_its_landmarks(engine: VirtualEngine) -> None:
    """A page has a language, one heading of the first level, a skip link to its main part, and named navigation."""
    page = await browser_of(engine).open("/ui/runs")
    assert page.all("html")[0].attributes["lang"] == "en"
    assert len(page.all("h1")) == 1
    assert page.all("body > a")[0].attributes["href"] == "#main"
    assert page.all("nav[aria-label=Pages] [aria-current=page]")[0].text().startswith("Runs")
    assert len(page.all("main label input")) == len(page.all("main input:not([type=hidden])"))
    assert page.all("#find")[0].attributes["aria-label"]


async def test_a_page_without_keys_is_for_this_machine() -> None:
    """Without keys a page of another site and a rebound name are refused; with the API key, requests without it."""

    def browser(keys: Keys, **headers: str) -> Browser:
        return Browser(make_api(facade_of(Stopped()), RunIndex(), lambda: b"", keys=keys), headers)

    assert (await browser(Keys()).open("/ui/runs")).status == 200
    for headers in ({"Origin": "https://evil.example"}, {"Host": "evil.example"}):
        page = await browser(Keys(), **headers).open("/ui/runs")
        assert page.status == 403
        assert "STEPSTREAM_API_KEY" in page.text
    keys = Keys("event-key", "api-key")
    assert (await browser(keys).open("/ui/runs")).status == 401
    assert (await browser(keys, Authorization="Bearer api-key").open("/ui/runs")).status == 200


class Stopped:
    """An engine without runs."""

    operator = None
    unready = ""
    send = signal = cancel = workers = None


async def test_the_root_leads_to_the_page(engine: VirtualEngine) -> None:
    """The address of the engine and that of the page lead to the list of runs; an unknown page says so."""
    browser = browser_of(engine)
    for path in ("/", "/ui", "/ui/"):
        assert (await browser.open(path)).path == "/ui/runs"
    page = await browser.open("/ui/orders")
    assert (page.status, "There is no page /ui/orders." in page.text) == (404, True)


async def test_an_error_shows_hostile_text_as_text(engine: VirtualEngine) -> None:
    """A path or a parameter with direction marks, control characters and elements is shown with their codes."""
    browser = browser_of(engine)
    for path in (
        "/ui/%E2%80%AE%1B%3Cimg%3E",
        "/ui/runs?%E2%80%AE%1B%3Cimg%3E=1",
        "/ui/runs?before=%E2%80%AE%1B%3Cimg%3E",
    ):
        page = await browser.open(path)
        assert page.status in (400, 404)
        assert "\\u202e" in page.text
        assert not set("\u202e\x1b") & set(page.response.text)
        assert not page.all("img")


async def test_a_failure_of_ours_is_a_page(engine: VirtualEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    """An unexpected error is logged and answered with a page that has none of its text."""

    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("secret")

    monkeypatch.setattr(RunQueries, "search", fail)
    page = await browser_of(engine).open("/ui/runs")
    assert page.status == 500
    assert "see its log" in page.text
    assert "secret" not in page.response.text
    assert isinstance(page.response, httpx.Response)
