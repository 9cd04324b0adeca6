"""Who may read and act, in a real browser: the login, the key for reading, and forms of other sites."""

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import Visit
from tests.browser.looks import check_every_look
from tests.browser.shop import Shop
from tests.browser.watching import Watch


@pytest.fixture(scope="module")
def locked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    """Yield a shop that asks for keys."""
    made = Shop(
        tmp_path_factory.mktemp("locked"),
        STEPSTREAM_EVENT_KEY="event-key",
        STEPSTREAM_API_KEY="api-key",
        STEPSTREAM_READ_KEY="read-key",
    )
    made.start()
    yield made
    made.end()


def log_in(page: Page, key: str) -> None:
    """Fill in the form of the login."""
    page.get_by_label("Key of the engine").fill(key)
    page.get_by_label("Your name").fill("Mia")
    page.get_by_role("button", name="Log in").click()


def test_login_leads_to_the_page_that_was_asked_for(visit: Visit, locked: Shop, watch: Watch) -> None:
    """A stranger logs in, reaches the run of the link, may act, and is a stranger again after the logout."""
    watch.expect("401")
    run_id = locked.waiting("order", {"id": "login", "total": 5}, "parcel")
    page = visit(locked.url)
    page.goto(f"/ui/runs/{run_id}")
    expect(page.get_by_role("heading", level=1)).to_have_text("Log in")
    log_in(page, "wrong")
    expect(page.get_by_role("alert")).to_have_text("The key is wrong.")
    log_in(page, "api-key")
    expect(page).to_have_url(re.compile(f"/ui/runs/{run_id}$"))
    expect(page.locator(".visitor")).to_contain_text("Mia")
    expect(page.get_by_role("button", name="Cancel the run")).to_be_visible()
    (cookie,) = page.context.cookies()
    assert (cookie.get("httpOnly"), cookie.get("sameSite")) == (True, "Strict")
    page.get_by_role("button", name="Log out").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Log in")
    page.goto(f"/ui/runs/{run_id}")
    expect(page.get_by_role("heading", level=1)).to_have_text("Log in")


def test_a_stranger_can_read_the_login_and_a_link(visit: Visit, locked: Shop) -> None:
    """The pages without a session fit phones and desktops and pass axe, in the light and in the dark."""
    page = visit(locked.url)
    asked = locked.show(locked.waiting("refund", {}, "ask"))
    for path, heading in (("/ui/login", "Log in"), (locked.link_of(asked), f"Refund {asked['events'][0]['id']}?")):
        page.goto(path)
        expect(page.get_by_role("heading", level=1)).to_have_text(heading)
        check_every_look(page)


def test_a_reader_has_no_buttons_that_act(visit: Visit, locked: Shop, watch: Watch) -> None:
    """With the key for reading, a visitor sees the run and what it waits for, and nothing that changes it."""
    watch.expect("401")
    run_id = locked.waiting("order", {"id": "reader", "total": 5}, "parcel")
    page = visit(locked.url)
    page.goto(f"/ui/runs/{run_id}")
    log_in(page, "read-key")
    expect(page.locator(".why")).to_contain_text("for the event")
    expect(page.locator(".visitor")).to_contain_text("read only")
    expect(page.locator("main form[method=post]")).to_have_count(0)


FORM = '<form method="post" action="{target}"></form><script>document.forms[0].submit()</script>'


@pytest.mark.parametrize("origin", ["http://evil.example", "http://localhost:1"])
def test_a_form_of_another_site_is_refused(visit: Visit, shop: Shop, watch: Watch, origin: str) -> None:
    """A page of another site, or of another port of this machine, cannot cancel a run through a reader's browser."""
    watch.expect("403", "net::ERR_BLOCKED", "Private Network", "Local Network")
    run_id = shop.waiting("order", {"id": origin, "total": 5}, "parcel")
    page = visit(shop.url)
    page.goto(f"/ui/runs/{run_id}")
    attack = FORM.format(target=f"{shop.url}/ui/runs/{run_id}/cancel")
    page.route(f"{origin}/**", lambda route: route.fulfill(body=attack, content_type="text/html"))
    with page.expect_response(lambda answer: answer.url.endswith("/cancel")) as refused:
        page.goto(f"{origin}/", wait_until="commit")
    assert refused.value.status == 403
    assert shop.show(run_id)["status"] == "running"
