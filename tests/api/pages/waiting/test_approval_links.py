"""Signed links: a person without a key decides one approval, once, until a time."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from stepstream import App, Context, Event, on
from stepstream.api.approval_links import ApprovalLink, ApprovalLinks
from stepstream.api.guards import Keys
from stepstream.api.page_options import PageMode, PageOptions
from stepstream.testing import VirtualEngine
from tests.api.pages.browsing import Browser, browser_of

KEYS = Keys("event-key", "api-key", "read-key")
app = App("shop")


@app.function(on("refund"))
async def refund(ctx: Context) -> Any:
    """Ask a person."""
    decision = await ctx.step.wait_for_approval("ask", title=f"Refund {ctx.event.id}?", timeout="3d")
    return decision and [decision.approved, decision.by]


@pytest.fixture
async def engine() -> AsyncIterator[VirtualEngine]:
    """Yield an engine with an approval that waits."""
    async with VirtualEngine(app) as made:
        await made.send(Event("refund", {}, id="r1"), Event("refund", {}, id="r2"))
        yield made


async def link_of(engine: VirtualEngine, keys: Keys = KEYS, mode: PageMode = PageMode.ON, **body: object) -> Any:
    """Return the answer of the API to a request for a link to the first approval."""
    client = browser_of(engine, keys, page=PageOptions(mode)).client
    asked = engine.index.open_approvals()[0]
    headers = {"Authorization": f"Bearer {keys.api}"} if keys.api else {}
    return await client.post(f"/v1/approvals/{asked.run_id}/{asked.step}/link", json=body, headers=headers)


async def test_a_person_without_a_key_decides(engine: VirtualEngine) -> None:
    """The page shows that approval, without links to other pages, and stores one decision."""
    answer = (await link_of(engine)).json()
    assert answer["expires_at"] == engine.now_ms + 24 * 3_600_000
    person, other = browser_of(engine, KEYS), browser_of(engine, KEYS)
    page, seen = await person.open(answer["path"]), await other.open(answer["path"])
    assert page.status == 200
    assert page.texts("h1")[0] in ("Refund r1?", "Refund r2?")
    assert not page.all("main a, nav")
    nameless = await person.submit(page, "main form", decision="approve", by="")
    assert nameless.status == 400
    done = await person.submit(nameless, "main form", decision="approve", by="ann")
    assert "Your decision is stored" in done.text
    assert not done.all("main form")
    late = await other.submit(seen, "main form", decision="reject", by="bob")
    assert "your decision does not count" in late.text
    await engine.until_idle()
    assert "Approved by ann" in (await person.open(answer["path"])).text
    assert [run.output for run in engine.runs() if run.output] == [[True, "ann"]]
    assert (await person.open("/ui/waiting")).status == 401


@pytest.mark.parametrize(("by", "shown"), [("ann", "ann"), ("<b>\u202eann", "<b>\\u202eann")])
async def test_a_link_decides_in_its_name(engine: VirtualEngine, by: str, shown: str) -> None:
    """The name of the link, any text, is who decides; the form does not ask for one, nor take another."""
    answer = (await link_of(engine, by=by, expires="1h")).json()
    person = browser_of(engine, KEYS)
    page = await person.open(answer["path"])
    assert f"You decide as {shown}" in page.text
    assert not page.all("[name=by]")
    await person.submit(page, "main form", decision="reject")
    await engine.until_idle()
    assert [run.output for run in engine.runs() if run.output] == [[False, by]]


async def test_a_link_expires(engine: VirtualEngine) -> None:
    """After its time neither the page nor the form is served; it never outlives the approval."""
    answer = (await link_of(engine, expires="1h")).json()
    person = browser_of(engine, KEYS)
    page = await person.open(answer["path"])
    await engine.advance("1h")
    late = await person.submit(page, "main form", decision="approve", by="ann")
    assert (late.status, "expired at" in late.text) == (410, True)
    assert (await person.open(answer["path"])).status == 410
    long = (await link_of(engine, expires="30d")).json()
    assert long["expires_at"] == engine.index.open_approvals()[0].until


async def test_only_links_of_the_key_are_valid(engine: VirtualEngine) -> None:
    """A changed link, and one of another key, is 404; a form without the token of its page is refused."""
    path = (await link_of(engine)).json()["path"]
    person = browser_of(engine, KEYS)
    body, _, signature = path.rpartition("/")[2].partition(".")
    asked = engine.index.open_approvals()[1]
    forged = ApprovalLinks("read-key", is_served=True).token(ApprovalLink(asked.run_id, asked.step, 2**60))
    for token in (f"{body}x.{signature}", f"{body}.", f"{body}.{'A' * 43}", forged, "x", f"{'A' * 5_000}.{signature}"):
        assert (await person.open(f"/ui/approve/{token}")).status == 404
    stranger = Browser(person.client._transport.app)  # type: ignore[attr-defined]
    refused = await stranger.client.post(path, data={"decision": "approve", "by": "eve"})
    assert refused.status_code == 403
    await engine.until_idle()
    assert len(engine.index.open_approvals()) == 2


async def test_an_engine_without_links_says_why(engine: VirtualEngine) -> None:
    """Without an API key, or without a page that acts, neither the API nor the page has links."""
    for keys, mode, reason in (
        (Keys(), PageMode.ON, "set STEPSTREAM_API_KEY"),
        (KEYS, PageMode.READ_ONLY, "no page that acts"),
        (KEYS, PageMode.OFF, "no page that acts"),
    ):
        answer = await link_of(engine, keys, mode)
        assert answer.status_code == 409
        assert reason in answer.json()["error"]["message"]
    path = (await link_of(engine)).json()["path"]
    for keys, mode in ((Keys(), PageMode.ON), (KEYS, PageMode.READ_ONLY)):
        assert (await browser_of(engine, keys, page=PageOptions(mode)).open(path)).status == 409


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"expires": "31d"}, "expires"),
        ({"expires": "0s"}, "expires"),
        ({"expires": "soon"}, "expires"),
        ({"by": "x" * 201}, "by"),
        ({"until": "1h"}, "body"),
    ],
)
async def test_a_wrong_request_names_the_field(engine: VirtualEngine, body: dict[str, Any], field: str) -> None:
    """It is answered with 400; an unknown approval with 404, a decided one with 409, and no key with 401."""
    answer = await link_of(engine, **body)
    assert (answer.status_code, answer.json()["error"]["field"]) == (400, field)


async def test_links_are_made_for_open_approvals_only(engine: VirtualEngine) -> None:
    """An unknown approval is 404, one that has ended 409; a client without the key gets 401."""
    client = browser_of(engine, KEYS).client
    asked = engine.index.open_approvals()[0]
    path, key = f"/v1/approvals/{asked.run_id}/{asked.step}/link", {"Authorization": "Bearer api-key"}
    assert (await client.post(path)).status_code == 401
    assert (await client.post(f"/v1/approvals/{asked.run_id}/x/link", headers=key)).status_code == 404
    await engine.cancel(asked.run_id)
    await engine.until_idle()
    assert (await client.post(path, headers=key)).status_code == 409
