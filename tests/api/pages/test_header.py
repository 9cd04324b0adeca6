"""The header: every page has the same, with the numbers of open runs and of approvals to decide."""

import time
from collections.abc import AsyncIterator, Mapping
from typing import Any

import pytest

from stepstream import App, Concurrency, Context, Event, on
from stepstream.api.guards import Keys
from stepstream.api.pages.site import LINK_PAGES, PAGES
from stepstream.contract.topics import EVENTS
from stepstream.runtime.ports import NewRecord
from stepstream.testing import VirtualEngine
from tests.api.pages.browsing import Browser, Page, browser_of

KEYS = Keys("event-key", "api-key", "read-key")
# They answer with values, changes of a page, or another page.
NOT_PAGES = {"/", "/find", "/runs/{run_id}/raw", "/live/runs", "/live/runs/{run_id}", "/live/waiting"}
app = App("shop")


@app.function(on("refund"), concurrency=Concurrency(9, counts="runs"))
async def refund(ctx: Context) -> Any:
    """Ask a person."""
    await ctx.step.wait_for_approval("ask", title="Refund?", timeout="3d")


@app.function(on("talk"))
async def talk(ctx: Context) -> Any:
    """Wait for a request."""
    await ctx.step.wait_for_request("say", timeout="3d")


@pytest.fixture
async def engine() -> AsyncIterator[VirtualEngine]:
    """An engine with runs that wait for approvals and for a request, a dead letter and a bulk operation."""
    async with VirtualEngine(app) as made:
        await made.send(*(Event("refund", {}, id=f"r{number}") for number in range(3)), Event("talk"))
        await made.embedded.append([NewRecord(EVENTS, -1, b"k", b"\xff", ())])
        await made.until_idle()
        yield made


async def addresses(engine: VirtualEngine, browser: Browser) -> Mapping[str, str]:
    """Return the address of a page for each route, and of some without one."""
    asked = engine.index.open_approvals()[0]
    talking = engine.run("talk")
    run, approval = f"/ui/runs/{asked.run_id}", f"{asked.run_id}/{asked.step}"
    preview = await browser.open("/ui/bulk-preview?action=pause&filter=function:refund")
    operation = (await browser.submit(preview, "main form")).path
    await engine.until_idle()
    link = (await browser.client.post(f"/v1/approvals/{approval}/link", json={})).json()["path"]
    return {
        "/runs": "/ui/runs",
        "/runs/{run_id}": run,
        "/runs/{run_id}/rerun": f"{run}/rerun",
        "/waiting": "/ui/waiting",
        "/approvals/{run_id}/{step}": f"/ui/approvals/{approval}",
        "/requests/{run_id}/{step}": f"/ui/requests/{talking.run_id}/{talking.steps[0].step}",
        "/approve/{token}": link,
        "/errors": "/ui/errors",
        "/events": "/ui/events",
        "/event": "/ui/event?id=r0",
        "/workers": "/ui/workers",
        "/dead-letters": "/ui/dead-letters",
        "/dead-letter": "/ui/dead-letter?place=0-0",
        "/functions": "/ui/functions",
        "/function": "/ui/function?id=refund",
        "/performance": "/ui/performance",
        "/limits": "/ui/limits",
        "/limit": "/ui/limit?name=concurrency+of+function+refund",
        "/bulk": "/ui/bulk",
        "/bulk-preview": preview.path,
        "/bulk/{operation}": operation,
        "the login": "/ui/login",
        "an error": "/ui/nothing",
    }


def header(page: Page) -> list[str]:
    """Return the entries of the navigation, with their numbers."""
    return page.texts("nav[aria-label=Pages] li")


async def test_every_page_has_the_same_header(engine: VirtualEngine) -> None:
    """With the numbers of open runs and approvals, also on errors; so a reader sees them wherever they are."""
    browser = browser_of(engine, KEYS)
    browser.client.headers["Authorization"] = "Bearer api-key"
    pages = {name: await browser.open(path) for name, path in (await addresses(engine, browser)).items()}
    assert (PAGES.keys() | LINK_PAGES.keys()) - NOT_PAGES <= pages.keys()
    assert {name: page.status for name, page in pages.items() if page.status != 200} == {"an error": 404}
    expected = header(pages["/runs"])
    assert expected[:2] == ["Runs 4 open", "Waiting 3 to decide"]
    assert {name: header(page) for name, page in pages.items() if header(page) != expected} == {}


async def test_every_page_has_the_time_of_the_engine(engine: VirtualEngine) -> None:
    """In the footer, and in a notice that a script shows if the browser has another time; strangers see neither."""
    page = await browser_of(engine).open("/ui/nothing")
    assert "engine time 2026-01-01 00:00:00" in page.texts("footer")[0]
    (notice,) = page.all("#clock")
    assert "hidden" in notice.attributes
    assert notice.attributes["data-now"] == str(engine.now_ms)
    assert "Its folder was replayed: its clock was set by the recorded events" in notice.text()
    async with VirtualEngine(app, now_ms=time.time_ns() // 1_000_000) as now:
        (notice,) = (await browser_of(now).open("/ui/runs")).all("#clock")
        assert "replayed" not in notice.text()
    page = await browser_of(engine, KEYS).open("/ui/login")
    assert (page.all("#clock"), page.all("footer time")) == ([], [])


async def test_the_search_says_that_it_compares_whole_values(engine: VirtualEngine) -> None:
    """At the field and where nothing was found, with the filter that finds the beginning of a value."""
    browser = browser_of(engine)
    page = await browser.open("/ui/find?id=r")
    assert "whole value of an attribute" in (page.all("#find")[0].attributes["title"] or "")
    assert "Ids of events and values of attributes are compared whole; order_id:47*" in page.text


async def test_strangers_see_no_numbers(engine: VirtualEngine) -> None:
    """Neither beside the login nor on an error."""
    browser = browser_of(engine, KEYS)
    for path in ("/ui/runs", "/ui/login"):
        assert not (await browser.open(path)).all("nav")
