"""The pages of bulk operations: preview, confirmation, progress, stop and list."""

from collections.abc import AsyncIterator

import pytest

from stepstream import App, Context, Event, NonRetriableError, on
from stepstream.api.guards import Keys
from stepstream.contract.inbox import CancelRequested
from stepstream.contract.topics import INBOX
from stepstream.engine.transition import HANDLERS
from stepstream.testing import VirtualEngine
from tests.api.pages.browsing import HOST, Browser, Page, browser_of

app = App("many")
KEYS = Keys("event", "secret", "reader")


@app.function(on("wait"))
async def wait(ctx: Context) -> None:
    """Wait for an hour."""
    await ctx.step.sleep("nap", "1h")


@app.function(on("fail"), retries=0)
async def fail(ctx: Context) -> None:
    """Fail."""
    await ctx.step.run("pick", lambda: 1)
    raise NonRetriableError("broken")


@pytest.fixture
async def engine() -> AsyncIterator[VirtualEngine]:
    """An engine with twelve runs that wait and three that failed."""
    async with VirtualEngine(app) as made:
        await made.send(*(Event("wait") for _ in range(12)), *(Event("fail") for _ in range(3)))
        yield made


async def previewed(browser: Browser, filter: str, label: str) -> Page:
    """Return the preview to which a list of runs leads."""
    runs = await browser.open(f"/ui/runs?filter={filter}")
    return await browser.open(runs.link(label))


async def test_runs_are_cancelled_after_a_preview(engine: VirtualEngine) -> None:
    """The preview counts the runs and shows ten; the confirmed operation is shown until its end, and listed."""
    browser = browser_of(engine)
    page = await previewed(browser, "function:wait", "Cancel all of these runs")
    assert len(page.all("tbody tr")) == 10
    assert "2 more" in page.text
    assert page.texts("main form button") == ["Cancel 12 runs"]
    assert len(engine.runs(status="running")) == 12
    shown = await browser.submit(page, "main form", why="a <mistake>", rate="10")
    assert shown.response.headers["refresh"] == "2"
    assert "running" in shown.texts(".state")
    await engine.advance("5s")
    shown = await browser.open(shown.path)
    assert "refresh" not in shown.response.headers
    assert "12 cancelled" in shown.text
    assert "a <mistake>" in shown.text
    listed = await browser.open(shown.link("All bulk operations"))
    assert listed.texts("tbody td")[1:5] == ["Cancel", "completed", "12 of 12", "12 cancelled"]


async def test_a_bulk_cancellation_leads_to_the_runs_that_it_cancelled(engine: VirtualEngine) -> None:
    """Its own filter finds them no longer; the filter that does is one of the API too."""
    browser = browser_of(engine)
    earlier = engine.runs("wait")[0].run_id
    await engine.cancel(earlier)
    await engine.advance("1m")
    page = await previewed(browser, "function:wait status:open", "Cancel all of these runs")
    shown = await browser.submit(page, "main form", why="a mistake")
    await engine.advance("5s")
    shown = await browser.open(shown.path)
    assert "11 cancelled" in shown.text
    assert "No run" in (await browser.open(shown.link("function:wait status:open"))).text
    target = shown.link("The runs of its filter that were cancelled since its start")
    listed = await browser.open(target)
    assert [row.count("cancelled") > 0 for row in listed.texts("tbody tr")] == [True] * 11
    filter = listed.all("#filter")[0].attributes["value"] or ""
    answer = await browser.client.get("/v1/runs", params={"filter": filter})
    assert earlier not in [run["run_id"] for run in answer.json()["runs"]]
    assert len(answer.json()["runs"]) == 11


async def test_a_bulk_pause_leads_to_the_runs_that_are_paused(engine: VirtualEngine) -> None:
    """And a resume, whose filter finds only paused runs, to the runs that it resumed."""
    browser = browser_of(engine)
    for filter, label, leads in (
        ("function:wait paused:false", "Pause all of these runs", "The runs of its filter that are paused"),
        ("paused:true", "Resume all of these runs", "The runs of its filter, whether they are paused or not"),
    ):
        page = await previewed(browser, filter, label)
        shown = await browser.submit(page, "main form")
        await engine.advance("5s")
        listed = await browser.open((await browser.open(shown.path)).link(leads))
        assert len(listed.all("tbody tr")) >= 12


async def test_runs_are_rerun_from_their_failure(engine: VirtualEngine) -> None:
    """The preview offers both ways; a form that is sent twice starts one operation."""
    browser = browser_of(engine)
    page = await previewed(browser, "function:fail", "Rerun all of these runs")
    page = await browser.open(page.link("From what failed"))
    first = await browser.submit(page, "main form")
    assert (await browser.submit(page, "main form")).path == first.path
    await engine.advance("5s")
    assert "3 started" in (await browser.open(first.path)).text
    reruns = [run for run in engine.runs("fail") if run.origin]
    assert len(reruns) == 3
    assert all(run.steps[0].copied for run in reruns)


async def test_the_preview_reruns_failed_runs_from_what_failed(engine: VirtualEngine) -> None:
    """A filter that finds only failed runs preselects it; a reader may choose the start, and the page explains each."""
    browser = browser_of(engine)
    page = await previewed(browser, "function:fail status:failed", "Rerun all of these runs")
    assert page.texts(".tabs[aria-label='From where'] [aria-current]") == ["From what failed"]
    assert "The results before the step that failed are taken over" in page.text
    page = await browser.open(page.link("From their start"))
    assert page.texts(".tabs[aria-label='From where'] [aria-current]") == ["From their start"]
    await browser.submit(page, "main form")
    await engine.advance("5s")
    assert not any(run.steps[0].copied for run in engine.runs("fail") if run.origin)
    nothing = await browser.open("/ui/bulk-preview?action=cancel&filter=status:failed")
    assert "There is no run to cancel." in nothing.text
    page = await previewed(browser, "function:fail status:ended", "Rerun all of these runs")
    assert page.texts(".tabs[aria-label='From where'] [aria-current]") == ["From their start"]


async def test_the_preview_counts_runs_that_were_rerun(engine: VirtualEngine) -> None:
    """Runs that fail again are as many as before, once those that were rerun are left out."""
    browser = browser_of(engine)
    filter = "function:fail status:failed"
    page = await previewed(browser, filter, "Rerun all of these runs")
    assert "Rerun before" not in page.text
    await browser.submit(page, "main form")
    await engine.advance("5s")
    page = await previewed(browser, filter, "Rerun all of these runs")
    assert page.texts("main form button") == ["Rerun 6 runs"]
    assert "Rerun before: 3 runs." in page.text
    page = await browser.open(page.link("Leave them out"))
    assert page.texts("main form button") == ["Rerun 3 runs"]
    assert "Rerun before" not in page.text


async def test_an_operation_leads_to_its_runs(engine: VirtualEngine) -> None:
    """The page of an ended operation links to the runs of its filter, and to those that it started."""
    browser = browser_of(engine)
    page = await previewed(browser, "function:fail status:failed", "Rerun all of these runs")
    shown = await browser.submit(page, "main form")
    await engine.advance("5s")
    shown = await browser.open(shown.path)
    assert "function:fail status:failed" in shown.text
    started = await browser.open(shown.link("The runs that it started"))
    assert len(started.all("tbody tr")) == 3
    assert len((await browser.open(shown.link("Back to the runs"))).all("tbody tr")) == 6


async def test_runs_are_paused_until_a_time_and_resumed(engine: VirtualEngine) -> None:
    """A wrong time is shown beside its field; the progress says until when, and a resume finds the paused runs."""
    browser = browser_of(engine)
    page = await previewed(browser, "function:wait", "Pause all of these runs")
    refused = await browser.submit(page, "main form", until="soon")
    assert (refused.status, refused.texts("#until-reason")[0][:14]) == (400, "'soon' is not ")
    shown = await browser.submit(page, "main form", until="2h", why="a storm")
    await engine.advance("5s")
    shown = await browser.open(shown.path)
    assert "12 paused" in shown.text
    assert "Paused until" in shown.text
    page = await previewed(browser, "paused:true", "Resume all of these runs")
    assert page.texts("main form button") == ["Resume 12 runs"]
    shown = await browser.submit(page, "main form")
    await engine.advance("5s")
    assert "12 resumed" in (await browser.open(shown.path)).text


async def test_runs_that_failed_are_named(engine: VirtualEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs whose requests cannot be applied are counted, and the first of them are listed with the reason."""

    def broken(*_: object) -> None:
        raise ValueError("a <bug>")

    monkeypatch.setitem(HANDLERS, CancelRequested, broken)
    await engine.bulk("cancel", filter="function:wait", request_id="b")
    await engine.advance("1s")
    page = await browser_of(engine).open("/ui/bulk/b")
    assert "12 failed" in page.text
    assert page.texts("tbody td")[1] == "ValueError: a <bug>"
    assert len(page.all("tbody tr")) == 10


async def test_an_operation_is_stopped(engine: VirtualEngine) -> None:
    """Runs on which it did not act yet stay open."""
    browser = browser_of(engine)
    page = await previewed(browser, "function:wait", "Cancel all of these runs")
    shown = await browser.submit(page, "main form", rate="1")
    await browser.submit(shown, "main form")
    await engine.advance("1m")
    shown = await browser.open(shown.path)
    assert "cancelled" in shown.texts(".state")
    assert "Stopped by local" in shown.text
    assert len(engine.runs("wait", status="running")) == 11


@pytest.mark.parametrize(("field", "value"), [("rate", "0"), ("rate", "x"), ("why", "x" * 2_000), ("request", "../x")])
async def test_a_wrong_value_is_shown_with_its_reason(engine: VirtualEngine, field: str, value: str) -> None:
    """The form keeps what was entered, and nothing is started."""
    browser = browser_of(engine)
    page = await previewed(browser, "function:wait", "Cancel all of these runs")
    refused = await browser.submit(page, "main form", **{field: value})
    assert (refused.status, bool(refused.all("[role=alert]"))) == (400, True)
    assert len(engine.runs("wait", status="running")) == 12


async def test_a_preview_without_runs_has_no_form(engine: VirtualEngine) -> None:
    """A filter that finds nothing, is empty or is wrong starts nothing; an unknown action is refused."""
    browser = browser_of(engine)
    for filter in ("function:none", "", "staus:failed"):
        page = await browser.open(f"/ui/bulk-preview?action=cancel&filter={filter}")
        assert not page.all("main form")
    assert (await browser.open("/ui/bulk-preview?action=delete&filter=function:wait")).status == 400
    assert (await browser.open("/ui/bulk/none")).status == 404
    assert "None yet" in (await browser.open("/ui/bulk")).text


async def test_any_id_of_an_operation_has_its_page(engine: VirtualEngine) -> None:
    """An id that a client chose is not taken for another page; one that none can have reaches no engine."""
    browser = browser_of(engine)
    for id in ("new", "preview"):
        await engine.bulk("cancel", filter="function:wait", rate=1, request_id=id)
        shown = await browser.open(f"/ui/bulk/{id}")
        assert "Requests sent" in shown.text
    token = shown.all("main form input[name=token]")[0].attributes["value"] or ""
    sent = engine.journal.end(INBOX, 0)
    answer = await browser.client.post("/ui/bulk/-x/cancel", data={"token": token}, headers={"Origin": HOST})
    assert (answer.status_code, engine.journal.end(INBOX, 0)) == (404, sent)


async def test_readers_see_operations_and_start_none(engine: VirtualEngine) -> None:
    """A visitor who may only read sees no links and no forms, and cannot send one."""
    await engine.bulk("cancel", filter="function:wait", rate=1)
    browser = browser_of(engine, KEYS)
    await browser.submit(await browser.open("/ui/login"), "main form", key="reader")
    runs = await browser.open("/ui/runs?filter=function:wait")
    assert not [text for text in runs.texts("main a") if "all of these" in text]
    assert (await browser.open("/ui/bulk-preview?action=cancel&filter=function:wait")).status == 403
    listed = await browser.open("/ui/bulk")
    assert len(listed.all("tbody tr")) == 1
    form = {"action": "cancel", "filter": "function:wait", "request": "b"}
    (operation,) = [each.operation for each in await engine.index.queries.bulks(10)]
    client, reading = browser_of(engine, KEYS).client, {"Authorization": "Bearer reader"}
    assert (await client.post("/ui/bulk", data=form, headers=reading)).status_code == 403
    assert (await client.post(f"/ui/bulk/{operation}/cancel", headers=reading, data=form)).status_code == 403
    assert (await client.post("/v1/bulk", json=form, headers=reading)).status_code == 401
    assert (await client.delete(f"/v1/bulk/{operation}", headers=reading)).status_code == 401


async def test_forms_of_other_sites_start_and_stop_nothing(engine: VirtualEngine) -> None:
    """Neither do forms without the token of the session, even if the browser adds its cookie."""
    browser = browser_of(engine)
    operation = await engine.bulk("cancel", filter="function:wait", rate=1)
    shown = await browser.open(f"/ui/bulk/{operation}")
    token = shown.all("main form input[name=token]")[0].attributes["value"] or ""
    form = {"action": "cancel", "filter": "function:wait", "request": "b", "token": token}
    for path in ("/ui/bulk", f"/ui/bulk/{operation}/cancel"):
        for sent, origin in ((form, "https://elsewhere.example"), (form, "null"), ({**form, "token": "x"}, HOST)):
            assert (await browser.client.post(path, data=sent, headers={"Origin": origin})).status_code == 403
    assert [each.state for each in await engine.index.queries.bulks(10)] == ["running"]


async def test_runs_that_ended_can_only_be_rerun(engine: VirtualEngine) -> None:
    """Above runs that have all ended, neither Cancel nor Pause nor Resume is offered."""
    browser = browser_of(engine)
    for filter, offered in (("function:fail", 1), ("status:failed", 1), ("status:ended", 1), ("function:wait", 4)):
        page = await browser.open(f"/ui/runs?filter={filter}")
        assert len([words for words in page.texts("main a") if "all of these" in words]) == offered, filter
