"""Limits over HTTP and on the page: who holds them, who waits, and in which place."""

from collections.abc import AsyncIterator
from urllib.parse import urlencode

import httpx
import pytest

from stepstream import App, Concurrency, Context, Event, Limit, Throttle, on
from stepstream.testing import VirtualEngine
from tests.api.pages.browsing import Browser, browser_of

app = App("shop")
LIMIT = "concurrency of function charge by event.data.tenant"


@app.function(on("charge"), concurrency=Concurrency(2, counts="runs", key="event.data.tenant"))
async def charge(ctx: Context) -> object:
    """Wait for a signal."""
    return await ctx.step.wait_for_signal("wait", signal=str(ctx.event.id), timeout="1d")


@app.function(on("mail"), throttle=Throttle(1, "1h"))
async def mail(ctx: Context) -> None:
    """End at once."""


@pytest.fixture
async def engine() -> AsyncIterator[VirtualEngine]:
    """An engine with five shards, where tenant a has two runs and two that wait, and tenant b one run."""
    async with VirtualEngine(app, shards=5) as made:
        for number, tenant in enumerate("aaaab"):
            await made.send(Event("charge", {"tenant": tenant}, id=f"c{number}"))
            await made.advance("1s")
        yield made


@pytest.fixture
def browser(engine: VirtualEngine) -> Browser:
    """A browser of the page of the engine."""
    return browser_of(engine)


@pytest.fixture
def client(browser: Browser) -> httpx.AsyncClient:
    """A client of the API over the engine."""
    return browser.client


def ids(engine: VirtualEngine) -> list[str]:
    """Return the runs in the order in which they were admitted."""
    return sorted(run.run_id for run in engine.runs(charge))


async def test_limits_are_listed_in_pages(engine: VirtualEngine, client: httpx.AsyncClient) -> None:
    """Each value of a key is a limit, with its runs; the rest of the list follows the `next` of a part."""
    first, second, *waiting, last = ids(engine)
    page = (await client.get("/v1/limits", params={"limit": 1})).json()
    (limit,) = page["limits"]
    assert (limit["name"], limit["key"], limit["limit"], limit["in_use"], limit["waiting"]) == (LIMIT, "a", 2, 2, 2)
    assert (limit["holders"], limit["waiters"]) == ([first, second], waiting)
    assert limit["since"] == engine.now_ms - 3_000
    page = (await client.get("/v1/limits", params={"limit": 1, "after": page["next"]})).json()
    assert [(limit["key"], limit["holders"]) for limit in page["limits"]] == [("b", [last])]
    assert (page["next"], page["missing"]) == ("", [])
    assert (await client.get("/v1/limits", params={"name": "other"})).json()["limits"] == []
    for after in ("x", "[1,2]", '["a"]', "{}"):
        assert (await client.get("/v1/limits", params={"after": after})).json()["error"]["field"] == "after"


async def test_one_limit_is_shown(engine: VirtualEngine, client: httpx.AsyncClient) -> None:
    """It is found by its name and the value of its key; one that nothing uses is empty, and an unknown one an error."""
    shown = (await client.get(f"/v1/limits/{LIMIT}", params={"key": "b"})).json()["limit"]
    assert (shown["in_use"], shown["holders"], shown["waiting"]) == (1, [ids(engine)[-1]], 0)
    assert (await client.get(f"/v1/limits/{LIMIT}", params={"key": "c"})).json() == {"limit": None, "changed": []}
    missing = await client.get("/v1/limits/other")
    assert (missing.status_code, missing.json()["error"]["message"]) == (
        404,
        "no function has the limit 'other', and no step uses it now",
    )


async def test_a_limit_is_changed_and_reset(
    engine: VirtualEngine, client: httpx.AsyncClient, caplog: pytest.LogCaptureFixture
) -> None:
    """What waits starts at once; lists and the log have who and why."""
    caplog.set_level("INFO", "stepstream")
    until = engine.now_ms + 7_200_000
    answer = await client.put(f"/v1/limits/{LIMIT}?key=a", json={"limit": 3, "until": "2h", "why": "new quota"})
    assert answer.json() == {"changed": True}
    await engine.until_idle()
    page = (await client.get("/v1/limits")).json()
    assert [(each["key"], each["limit"], each["in_use"]) for each in page["limits"]] == [("a", 3, 3), ("b", 2, 1)]
    (changed,) = page["changed"]
    assert changed["setting"]["override"] == {"limit": 3, "until": until}
    (change,) = changed["setting"]["changes"]
    assert (change["action"], change["by"], change["why"]) == ("set", "local", "new quota")
    assert f"local asked for set of limit {LIMIT} for the key 'a': new quota" in caplog.messages
    assert (await client.put(f"/v1/limits/{LIMIT}", json={"paused": True})).json() == {"changed": True}
    await engine.until_idle()
    limits = (await client.get("/v1/limits")).json()["limits"]
    assert all(each["paused"] and each["pause"] == {"by": "local"} for each in limits)
    for status in (200, 409):
        answer = await client.put(f"/v1/limits/{LIMIT}", json={"paused": False, "why": "API is up"})
        assert answer.status_code == status
    for status in (200, 409):
        assert (await client.delete(f"/v1/limits/{LIMIT}?key=a&why=done")).status_code == status
    shown = (await client.get(f"/v1/limits/{LIMIT}", params={"key": "a"})).json()
    assert (shown["limit"]["limit"], shown["limit"]["in_use"]) == (2, 3)
    for status in (200, 409):
        again = await client.put(f"/v1/limits/{LIMIT}?key=b", json={"limit": 5, "why": "limits.yaml"})
        assert again.status_code == status
    assert [each["key"] for each in shown["changed"]] == ["a", ""]


@pytest.mark.parametrize(
    ("name", "body", "field"),
    [
        (LIMIT, {}, "limit"),
        (LIMIT, {"limit": 1, "paused": True}, "limit"),
        (LIMIT, {"limit": 1}, "why"),
        (LIMIT, {"limit": 0, "why": "x"}, "limit"),
        (LIMIT, {"limit": 1, "period": "1m", "why": "x"}, "period"),
        (LIMIT, {"limit": 1, "burst": 0, "why": "x"}, "burst"),
        (LIMIT, {"limit": 1, "until": "soon", "why": "x"}, "until"),
        (LIMIT, {"paused": True, "until": "367d"}, "until"),
        (LIMIT, {"paused": True, "why": "x" * 1_000_000}, "body"),
        (LIMIT, {"limits": 1}, "body"),
        ("throttle of function mail", {"limit": 1, "period": "soon", "why": "x"}, "period"),
        ("throttle of function mail", {"limit": 1, "burst": -1, "why": "x"}, "burst"),
    ],
)
async def test_a_bad_change_names_the_field(client: httpx.AsyncClient, name: str, body: object, field: str) -> None:
    """It is answered with 400 or 413, and changes nothing."""
    answer = await client.put(f"/v1/limits/{name}", json=body)
    assert (answer.status_code in (400, 413), answer.json()["error"]["field"]) == (True, field), answer.text
    assert (await client.get("/v1/limits")).json()["changed"] == []


async def test_what_no_function_has_is_not_changed(client: httpx.AsyncClient) -> None:
    """A misspelled name is answered with 404, and a key of a limit without one with 400."""
    assert (await client.put("/v1/limits/other", json={"paused": True})).status_code == 404
    keyed = await client.put("/v1/limits/throttle of function mail?key=a", json={"paused": True})
    assert (keyed.status_code, keyed.json()["error"]["field"]) == (400, "key")


async def test_forms_change_a_limit(engine: VirtualEngine, browser: Browser) -> None:
    """The page of a limit says what was done, who asked and why, and shows what is wrong beside the field."""
    path = f"/ui/limit?{urlencode({'name': LIMIT, 'key': 'a'})}"
    page = await browser.open(path)
    assert page.texts("h1") == [LIMIT]
    refused = await browser.submit(page, "form[aria-label='Set the limit']", limit="many", why="new quota")
    assert (refused.status, "'many' is not a number" in refused.text) == (400, True)
    page = await browser.submit(page, "form[aria-label='Set the limit']", limit="3", until="2h", why="new quota")
    assert "The limit is set; runs that may start now do so." in page.text
    await engine.until_idle()
    page = await browser.open(path)
    assert "3 of 3" in page.text
    page = await browser.submit(page, "form[aria-label='Pause the limit']", why="API is down")
    await engine.until_idle()
    listed = (await browser.open("/ui/limits")).texts("[aria-label='Table of changes'] tbody tr")
    assert [words.split()[6:9] for words in listed] == [["a", "3", "until"]]
    assert "paused pause" in listed[0]
    assert listed[0].endswith("API is down")
    page = await browser.submit(await browser.open(path), "form[aria-label=Resume]")
    assert "The limit is resumed." in page.text
    page = await browser.submit(await browser.open(path), "form[aria-label^=Reset]")
    assert "The limit is as in code again." in page.text
    rows = (await browser.open(path)).texts("[aria-label='Table of changes'] tbody tr td:nth-child(2)")
    assert rows[:3] == ["reset", "resume", "pause"]
    assert (await browser.open("/ui/limit?name=other")).status == 404


async def test_a_queued_run_says_which_limit_it_waits_for(engine: VirtualEngine, client: httpx.AsyncClient) -> None:
    """It has its place, how much is in use, and the runs that hold the limit; a throttle has its next start."""
    first, second, _, waits, _ = ids(engine)
    (why,) = (await client.get(f"/v1/runs/{waits}")).json()["why"]
    assert why["text"].startswith(
        f"It waits for the limit {LIMIT}: 2 runs at a time for the key 'a'; 2 of 2 in use, place 2 of 2 in its queue "
    )
    assert why["remedy"] == f"Held by {first}, {second}; see `stepstream limits show '{LIMIT}' --key a`."
    await engine.send(Event("mail"), Event("mail"))
    (queued,) = [run for run in engine.runs(mail) if run.status == "queued"]
    (why,) = (await client.get(f"/v1/runs/{queued.run_id}")).json()["why"]
    assert "throttle of function mail: 1 start in 1h 0m; place 1 of 1 in its queue" in why["text"]
    assert "the next start is at 20" in why["text"]


async def test_the_page_links_the_runs_of_limits(engine: VirtualEngine, browser: Browser) -> None:
    """A search by name leaves out other limits, and a part of the list leads to the next."""
    first, second, *waiting, last = ids(engine)
    page = await browser.open("/ui/limits")
    assert [words.split()[6:10] for words in page.texts("tbody tr")] == [["a", "2", "of", "2"], ["b", "1", "of", "2"]]
    linked = [node.attributes["title"] for node in page.all("tbody a.id")]
    assert linked == [first, second, *waiting, last]
    assert page.texts("nav[aria-label=Pages] [aria-current=page]") == ["Limits"]
    assert "No run holds a limit" in (await browser.open("/ui/limits?name=other")).text
    assert (await browser.open("/ui/limits?after=x")).status == 400


async def test_a_limit_of_a_step_is_changed_while_it_is_in_use() -> None:
    """It is found by its use, or by an earlier change, unless the app declares it."""
    app = App("calls", limits=[Limit("declared", 1, "1h")])

    @app.function(on("call"))
    async def call(ctx: Context) -> None:
        await ctx.step.options(limit=Limit("api", 1, "1h")).run("call", list)

    async with VirtualEngine(app) as engine:
        client = browser_of(engine).client
        assert (await client.put("/v1/limits/declared", json={"paused": True})).json() == {"changed": True}
        assert (await client.put("/v1/limits/api", json={"paused": True})).status_code == 404
        await engine.send(Event("call"), Event("call"))
        numbers = {"limit": 60, "period": "1h", "why": "larger contract"}
        for body in ({"paused": True}, numbers):
            assert (await client.put("/v1/limits/api", json=body)).json() == {"changed": True}
        await engine.advance("2m")
        assert sorted(run.status for run in engine.runs()) == ["completed", "running"]
        await engine.advance("2d")
        assert (await client.put("/v1/limits/api", json={"paused": False})).json() == {"changed": True}
        await engine.advance("2m")
        assert [run.status for run in engine.runs()] == ["completed", "completed"]
