"""Who may read the page and who may act: keys, sessions, tokens of forms, proxies and modes."""

import base64
import json
from typing import Any

import pytest

from stepstream import Event
from stepstream.api.bodies import FREE_BYTES
from stepstream.api.guards import Keys
from stepstream.api.http import make_api
from stepstream.api.page_options import PageMode, PageOptions, networks_of
from stepstream.api.pages.login_page import next_page
from stepstream.api.pages.parts.sessions import SESSION_MS, Role, SessionKeys
from stepstream.testing import VirtualEngine
from tests.api.pages.browsing import HOST, Browser
from tests.fakes.facades import facade_of

KEYS = Keys("event-key", "api-key", "read-key")
SIGNED = SessionKeys("api-key", "read-key")


class Site:
    """The page of an engine with one open run, at a time that the test sets."""

    def __init__(self, engine: VirtualEngine, keys: Keys = KEYS, **page: Any) -> None:
        self.now_ms = engine.now_ms
        self.path = f"/ui/runs/{engine.run().run_id}"
        self.api = make_api(
            facade_of(engine.engine),
            engine.index,
            lambda: b"",
            keys=keys,
            page=PageOptions(**page),
            now_ms=lambda: self.now_ms,
        )

    def browser(self, host: str = HOST, **headers: str) -> Browser:
        """Return a new browser."""
        return Browser(self.api, headers, host)


@pytest.fixture
async def opened(engine: VirtualEngine) -> VirtualEngine:
    """Return the engine of the shop with an open run."""
    await engine.send(Event("order", {"amount": 5, "id": 7}))
    return engine


async def test_login_leads_back_to_the_page(opened: VirtualEngine) -> None:
    """With keys a page asks for one first; the API key opens the page that was requested, and its forms."""
    site = Site(opened)
    browser = site.browser("https://engine.example")
    asked = await browser.open(f"{site.path}?step=1")
    assert (asked.status, asked.texts("h1")) == (401, ["Log in"])
    assert not asked.all("nav")
    page = await browser.submit(asked, "main form", key="api-key", user=" Ann \u202e B ")
    assert (page.status, page.path) == (200, f"{site.path}?step=1")
    assert page.texts(".visitor span") == ["Ann \\u202e B"]
    assert (await browser.submit(page, ".actions[aria-label='Cancel the run']")).texts(".note") == [
        "The run is cancelled."
    ]
    left = await browser.submit(page, ".visitor form")
    assert left.path == "/ui/login"
    assert (await browser.open(site.path)).status == 401


async def test_cookie_is_strict_and_unreadable_for_scripts(opened: VirtualEngine) -> None:
    """The cookie of a session is for the page only, and for encrypted connections if the login came by one."""
    site = Site(opened)
    for host, is_secure in (("https://engine.example", True), ("http://engine.example", False)):
        browser = site.browser(host)
        page = await browser.submit(await browser.open("/ui/login"), "main form", key="api-key")
        cookie = page.response.history[-1].headers["set-cookie"]
        assert "HttpOnly" in cookie
        assert "SameSite=strict" in cookie
        assert "Path=/ui" in cookie
        assert ("Secure" in cookie) == is_secure


@pytest.mark.parametrize("key", ["", "api-ke", "api-keys", "event-key", "é"])
async def test_wrong_key_opens_nothing(opened: VirtualEngine, key: str) -> None:
    """A part of a key, more than a key, and the event key are refused."""
    site = Site(opened)
    browser = site.browser()
    page = await browser.submit(await browser.open("/ui/login"), "main form", key=key)
    assert (page.status, "The key is wrong." in page.text) == (401, True)
    assert (await browser.open("/ui/runs")).status == 401


async def test_strangers_send_only_small_forms(opened: VirtualEngine) -> None:
    """A form of someone without a key is refused by its size, before it takes memory from the requests of others."""
    site = Site(opened)
    headers = {"Content-Type": "application/x-www-form-urlencoded", "Origin": HOST}
    for path in ("/ui/login", f"{site.path}/cancel"):
        answer = await site.browser().client.post(path, content=b"a" * (FREE_BYTES + 1), headers=headers)
        assert (answer.status_code, "at most 65,536 are allowed" in answer.text) == (400, True)


async def test_read_key_opens_no_form(opened: VirtualEngine) -> None:
    """The read key shows pages without forms that act; a form that is sent nevertheless is refused."""
    site = Site(opened)
    browser = site.browser()
    await browser.submit(await browser.open("/ui/login"), "main form", key="read-key")
    page = await browser.open(site.path)
    assert (page.status, page.texts(".visitor span")) == (200, ["read only"])
    assert not page.all("[aria-label='Cancel the run']")
    token = page.all(".visitor input[name=token]")[0].attributes["value"] or ""
    answer = await browser.client.post(f"{site.path}/cancel", data={"token": token}, headers={"Origin": HOST})
    assert (answer.status_code, "read this page only" in answer.text) == (403, True)
    assert opened.run().status == "running"


@pytest.mark.parametrize("mode", [PageMode.READ_ONLY, PageMode.OFF])
async def test_page_is_read_only_or_off(opened: VirtualEngine, mode: PageMode) -> None:
    """A page that is read-only has no forms that act, even without keys; a page that is off does not exist."""
    site = Site(opened, Keys(), mode=mode)
    page = await site.browser().open(site.path)
    assert page.status == (200 if mode == PageMode.READ_ONLY else 404)
    assert not page.all("form[method=post]")
    answer = await site.browser().client.post(f"{site.path}/cancel", data={"token": "x"}, headers={"Origin": HOST})
    assert answer.status_code in (403, 404)
    assert opened.run().status == "running"


async def test_session_ends_after_twelve_hours(opened: VirtualEngine) -> None:
    """A session needs no memory of the engine: another one with the same keys accepts it, until it expires."""
    site, restarted = Site(opened), Site(opened)
    browser = site.browser()
    await browser.submit(await browser.open("/ui/login"), "main form", key="api-key")
    other = restarted.browser()
    other.client.cookies = browser.client.cookies
    assert (await other.open(site.path)).status == 200
    restarted.now_ms += SESSION_MS
    assert (await other.open(site.path)).status == 401


def test_cookie_cannot_be_forged() -> None:
    """A changed role, a signature of other keys, and text of any other form are no session."""
    session = SIGNED.new(Role.READ, 0, "ann")
    cookie = SIGNED.cookie(session)
    assert SIGNED.session(cookie, 1) == session
    body, _, signature = cookie.rpartition(".")
    fields = json.loads(base64.urlsafe_b64decode(body))
    raised = base64.urlsafe_b64encode(json.dumps({**fields, "role": "operate"}).encode()).decode()
    others = (SessionKeys("api-key", ""), SessionKeys("other", "read-key"), SessionKeys("", "api-key"))
    for forged in (
        f"{raised}.{signature}",
        *(other.cookie(session) for other in others),
        f"{body}.",
        f"{body}.é",
        "",
        ".",
        "x" * 10_000,
    ):
        assert SIGNED.session(forged, 1) is None, forged


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://localhost:3000"},
        {"Origin": HOST, "Sec-Fetch-Site": "cross-site"},
        {"Origin": HOST, "Sec-Fetch-Site": "same-site"},
    ],
)
@pytest.mark.parametrize("keys", [KEYS, Keys()], ids=["keys", "no keys"])
async def test_form_of_another_site_is_refused(opened: VirtualEngine, headers: dict[str, str], keys: Keys) -> None:
    """A form of another page does nothing, even if its browser adds the cookie and it knows the token."""
    site = Site(opened, keys)
    browser = site.browser()
    if keys.api:
        await browser.submit(await browser.open("/ui/login"), "main form", key="api-key")
    page = await browser.open(site.path)
    token = page.all("main input[name=token]")[0].attributes["value"] or ""
    answer = await browser.client.post(f"{site.path}/cancel", data={"token": token}, headers=headers)
    assert answer.status_code == 403
    assert opened.run().status == "running"


@pytest.mark.parametrize("token", ["", "x", "é", "0" * 32])
async def test_form_without_its_token_is_refused(opened: VirtualEngine, token: str) -> None:
    """A form needs the token of its session, also without keys."""
    site = Site(opened, Keys())
    browser = site.browser()
    await browser.open(site.path)
    answer = await browser.client.post(f"{site.path}/cancel", data={"token": token}, headers={"Origin": HOST})
    assert (answer.status_code, "reload the page" in answer.text) == (403, True)
    assert opened.run().status == "running"


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        ({"content": b"token=x", "headers": {"Content-Type": "text/plain"}}, 415),
        ({"content": b"a=%ff", "headers": {"Content-Type": "application/x-www-form-urlencoded"}}, 400),
        ({"data": {f"a{number}": "1" for number in range(60)}}, 400),
        ({"data": {"a": "x" * 3 * 1024 * 1024}}, 400),
    ],
    ids=["type", "encoding", "fields", "size"],
)
async def test_bad_form_is_a_page(opened: VirtualEngine, sent: dict[str, Any], status: int) -> None:
    """A body that is not a form of the page is refused with a page."""
    site = Site(opened)
    answer = await site.browser(Authorization="Bearer api-key").client.post(f"{site.path}/cancel", **sent)
    assert answer.status_code == status
    assert "<main" in answer.text


async def test_api_key_as_bearer_token_needs_no_login(opened: VirtualEngine) -> None:
    """A client that sends the key with each request reads pages and sends forms without a token."""
    site = Site(opened)
    client = site.browser(Authorization="Bearer api-key").client
    assert (await client.get(site.path)).status_code == 200
    assert (await client.post(f"{site.path}/cancel", data={"a": "b"})).status_code == 200
    reader = site.browser(Authorization="Bearer read-key").client
    assert (await reader.get(site.path)).status_code == 200
    assert (await reader.post(f"{site.path}/cancel", data={"a": "b"})).status_code == 403
    assert (await site.browser(Authorization="Bearer x").client.get(site.path)).status_code == 401


async def test_user_of_a_trusted_proxy_is_shown(opened: VirtualEngine) -> None:
    """The header of a proxy names the user if the request comes from its network, and otherwise counts for nothing."""
    for networks, shown in (("127.0.0.0/8", ["ann@example"]), ("10.0.0.0/8", ["API key"])):
        site = Site(opened, user_header="x-forwarded-user", proxies=networks_of(networks))
        browser = site.browser(**{"X-Forwarded-User": "ann@example"})
        await browser.submit(await browser.open("/ui/login"), "main form", key="api-key")
        assert (await browser.open(site.path)).texts(".visitor span") == shown


async def test_link_from_another_site_keeps_the_session(opened: VirtualEngine) -> None:
    """Browsers leave out a strict cookie when a link of another site is followed: the page lets them ask again."""
    site = Site(opened)
    page = await site.browser(**{"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}).open(site.path)
    assert page.all("meta[http-equiv=refresh]")[0].attributes["content"] == "0"
    assert not page.all("form")


@pytest.mark.parametrize(
    "given",
    ["", "https://evil.example", "//evil.example", "/ui/\\evil", "/ui//evil", "javascript:alert(1)", "/ui/\r\nX: y"],
)
def test_login_leads_to_no_other_site(given: str) -> None:
    """Only a path of the page is followed after the login."""
    assert next_page(given) == "/ui/runs"
