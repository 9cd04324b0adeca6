"""The forms that rerun a run: whole, from a step with edited values, and from its failure."""

from dataclasses import replace

import pytest

from stepstream import App, Context, Event, on
from stepstream.api.guards import Keys
from stepstream.contract.codec import Raw
from stepstream.contract.limits import DEFAULT_LIMITS
from stepstream.runtime.readmodel.queries import RunQueries
from stepstream.runtime.readmodel.views import RunView
from stepstream.runtime.reruns import RerunOptions, rerun_request
from stepstream.testing import VirtualEngine
from tests.api.pages.browsing import Browser, Page, browser_of

app = App("sums")


async def check(total: object) -> object:
    """Refuse the number 1."""
    if total is not True and total == 1:
        raise ValueError("1 is refused")
    return total


@app.function(on("add"), retries=0)
async def add(ctx: Context) -> object:
    """Add two numbers, and check the sum."""
    price = await ctx.step.run("price", lambda: ctx.event.data["price"])
    tax = await ctx.step.run("tax", lambda: 0)
    return await ctx.step.run("check", check, price + tax if tax else price)


async def opened(engine: VirtualEngine, price: object) -> tuple[Browser, Page]:
    """Return a browser on the page of a run of `add`."""
    await engine.send(Event("add", {"price": price}))
    browser = browser_of(engine)
    return browser, await browser.open(f"/ui/runs/{engine.runs()[0].run_id}")


def rerun_of(engine: VirtualEngine) -> RunView:
    """Return the only rerun."""
    (found,) = (run for run in engine.runs() if run.origin)
    return found


async def test_a_run_is_rerun_whole() -> None:
    """The button leads to the new run, which names its origin; the origin links to it."""
    async with VirtualEngine(app) as engine:
        browser, page = await opened(engine, 5)
        assert page.texts("form.actions button") == ["Rerun the run"]
        new = await browser.submit(page, 'form[aria-label="Rerun the run"]')
        await engine.until_idle()
        new = await browser.open(new.path)
        assert "This is the new run." in new.text
        assert "completed" in new.texts(".heading .state")
        origin = page.path.rpartition("/")[2]
        assert f"Rerun of {origin} , by local" in new.text
        back = await browser.open(new.link(origin))
        assert f"…{rerun_of(engine).run_id[-6:]}" in back.texts(".facts a")


async def test_a_form_that_is_sent_twice_starts_one_run() -> None:
    """A double click starts one run; the same form with another reason starts another."""
    async with VirtualEngine(app) as engine:
        browser, page = await opened(engine, 5)
        form = await browser.open(page.link("Edit the data and rerun from the start"))
        first = await browser.submit(form, "main form", why="again")
        await engine.until_idle()
        assert (await browser.submit(form, "main form", why="again")).path == first.path
        assert (await browser.submit(form, "main form", why="once more")).path != first.path
        await engine.until_idle()
        assert len(engine.runs()) == 3


async def test_a_new_run_is_awaited_by_its_page(monkeypatch: pytest.MonkeyPatch) -> None:
    """Until the read model has the new run, its page says so and loads again; another missing run is 404."""

    async def lags(_queries: RunQueries, _run_id: str) -> None:
        """Return no run, as a read model that is behind."""

    async with VirtualEngine(app) as engine:
        browser, page = await opened(engine, 5)
        form = await browser.open(page.link("Edit the data and rerun from the start"))
        with monkeypatch.context() as patched:
            patched.setattr(RunQueries, "show", lags)
            page = await browser.submit(form, "main form")
        seconds, _, again = page.response.headers["refresh"].partition("; url=")
        assert (page.status, seconds) == (202, "1")
        assert page.texts("nav[aria-label=Pages] li")[0].startswith("Runs")
        await engine.until_idle()
        assert "This is the new run." in (await browser.open(again)).text
        assert (await browser.open(f"/ui/runs/{'0' * 26}?done=rerun")).status == 404


async def test_a_step_is_rerun_with_an_edited_result() -> None:
    """From a failed step, with another result of an earlier step: that step and the earlier ones are copied."""
    async with VirtualEngine(app) as engine:
        browser, page = await opened(engine, 1)
        page = await browser.open(page.link("check"))
        form = await browser.open(page.link("Rerun from step check"))
        assert "Results taken over 2 steps" in form.text
        form = await browser.press(form, "edit the result of tax")
        (field,) = [node for node in form.all("textarea") if "result-" in (node.attributes["name"] or "")]
        assert field.text().strip() == "0"
        name = field.attributes["name"] or ""
        await browser.submit(form, 'main form[aria-label="Rerun"]', **{name: " 4 ", "why": "the tax was missing"})
        await engine.until_idle()
        assert sorted(run.status for run in engine.runs()) == ["completed", "failed"]
        new = rerun_of(engine)
        assert (new.output, [step.copied for step in new.steps]) == (5, [True, True, False])
        page = await browser.open(f"/ui/runs/{new.run_id}")
        assert "from step check , by local : the tax was missing" in page.text


@pytest.mark.parametrize(("written", "status"), [("true", "completed"), ("1.0", "failed"), ("1", "failed")])
async def test_an_edit_is_recognised_by_its_text(written: str, status: str) -> None:
    """A result of true in place of 1 is an edit, though they are equal in Python."""
    async with VirtualEngine(app) as engine:
        browser, page = await opened(engine, 1)
        page = await browser.open(page.link("check"))
        form = await browser.open(page.link("Rerun from step check"))
        form = await browser.press(form, "edit the result of price")
        (name,) = [str(node.attributes["name"]) for node in form.all("textarea[name^=result]")]
        await browser.submit(form, 'main form[aria-label="Rerun"]', **{name: written})
        await engine.until_idle()
        assert rerun_of(engine).status == status


async def test_a_failed_run_is_rerun_from_its_failure() -> None:
    """With other data in the form, or as it is; earlier steps are copied."""
    async with VirtualEngine(app) as engine:
        browser, page = await opened(engine, 1)
        await browser.submit(page, 'form[aria-label="Rerun from the failure"]')
        await engine.until_idle()
        assert [step.copied for step in rerun_of(engine).steps] == [True, True, False]


@pytest.mark.parametrize(
    ("data", "says"),
    [("{", "not valid JSON"), ("[1]", "expected a JSON object"), ('{"a": "' + "x" * 600_000 + '"}', "at most")],
)
async def test_a_wrong_value_is_refused_beside_its_field(data: str, says: str) -> None:
    """The form keeps what was entered, and nothing starts."""
    async with VirtualEngine(app) as engine:
        browser, page = await opened(engine, 5)
        form = await browser.open(page.link("Edit the data and rerun from the start"))
        again = await browser.submit(form, "main form", data=data, why="kept")
        assert again.status == 400
        assert says in again.texts("#data-reason")[0]
        assert again.all("#data")[0].attributes["aria-describedby"] == "data-reason"
        assert again.all("#data")[0].text().strip() == data
        assert again.all("#why")[0].attributes["value"] == "kept"
        assert len(engine.runs()) == 1
        again = await browser.submit(again, "main form", data='{"price": 7}')
        await engine.until_idle()
        assert rerun_of(engine).output == 7


async def test_what_cannot_be_rerun_says_why(engine: VirtualEngine) -> None:
    """An open run and a run without failure are conflicts, an unknown step is an error; a reader may not rerun."""
    await engine.send(Event("order", {"amount": 5, "id": 7}), Event("loop"))
    browser = browser_of(engine)
    path = f"/ui/runs/{engine.run('fulfil').run_id}/rerun"
    assert "has not ended" in (await browser.submit(await browser.open(path), "main form")).text
    ended = f"/ui/runs/{engine.run('loop').run_id}"
    assert (await browser.open(f"{ended}/rerun?from=failure")).status == 409
    assert (await browser.open(f"{ended}/rerun?from=nothing")).status == 400
    assert (await browser.open(f"/ui/runs/{'0' * 26}/rerun")).status == 404
    reader = browser_of(engine, Keys("event", "api", "read"))
    reader.client.headers["Authorization"] = "Bearer read"
    assert "Rerun" not in (await reader.open(ended)).text
    assert (await reader.open(f"{ended}/rerun")).status == 403


async def test_a_large_value_is_not_put_into_a_field(monkeypatch: pytest.MonkeyPatch) -> None:
    """The page names the command instead, and reruns the run with the value as it is."""
    monkeypatch.setattr("stepstream.api.pages.runs.rerun_page._EDITABLE_BYTES_MAX", 10)
    async with VirtualEngine(app) as engine:
        browser, page = await opened(engine, 123_456)
        form = await browser.open(page.link("Edit the data and rerun from the start"))
        assert "stepstream runs rerun" in form.text
        await browser.submit(form, "main form")
        await engine.until_idle()
        assert rerun_of(engine).output == 123_456


async def test_attributes_lead_to_the_runs_that_have_them(
    engine: VirtualEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each value is a link to a filter, with the text that filters use."""
    await engine.send(Event("loop"))
    shown = engine.index.queries.show

    async def show(queries: RunQueries, run_id: str) -> object:
        run = await shown(run_id)
        assert run is not None
        return replace(run, attributes={"order": "a b", "paid": True, "total": 2.0, "status": "x"})

    monkeypatch.setattr(RunQueries, "show", show)
    browser = browser_of(engine)
    page = await browser.open(f"/ui/runs/{engine.run().run_id}")
    links = {page.link(value): value for value in ("a b", "true", "2", "x")}
    filters = [(await browser.open(link)).all("#filter")[0].attributes["value"] for link in links]
    assert filters == ['order:"a b"', "paid:true", "total:2", "attr.status:x"]


async def test_edited_and_copied_results_are_marked() -> None:
    """The rerun names what was edited and who did it, with links to the former values, and what it took over."""
    async with VirtualEngine(app) as engine:
        browser, page = await opened(engine, 1)
        origin = page.path.rpartition("/")[2]
        form = await browser.open(page.link("Edit data or results and rerun from the failure"))
        form = await browser.press(form, "edit the result of tax")
        (name,) = [str(node.attributes["name"]) for node in form.all("textarea[name^=result]")]
        await browser.submit(form, 'main form[aria-label="Rerun"]', **{name: "4", "data": '{"price": 2}'})
        await engine.until_idle()
        new = rerun_of(engine)
        assert isinstance(new.rerun, dict)
        assert (new.rerun["by"], new.rerun["edited_data"], new.rerun["edited_steps"]) == (
            "local",
            True,
            [new.steps[1].step],
        )
        page = await browser.open(f"/ui/runs/{new.run_id}")
        assert "the data of the event, its former data data.price : 1 → 2" in page.text
        assert "the result of tax , its former result result : 0 → 4" in page.text
        assert page.texts("#input ~ .note") == ["The data was edited for this rerun; its former data"]
        marks = [" ".join(node.text(separator=" ").split()) for node in page.all("#steps ~ .scroll .copied")]
        assert marks == [f"taken over from …{origin[-6:]}", "edited for this rerun, its former result"]
        before = await browser.open(page.link("its former result"))
        assert before.texts("tr.details .json") == ["raw download copy 0"]
        assert not before.all(".copied")


async def test_a_repeated_value_is_no_edit() -> None:
    """A request with the values that the run had marks nothing as edited."""
    async with VirtualEngine(app) as engine:
        await engine.send(Event("add", {"price": 1}))
        recorded = await engine.index.queries.recorded(engine.run().run_id)
        assert recorded is not None
        same = RerunOptions("again", "check", data=Raw(b'{"price": 1}'), results={"tax": Raw(b" 0")})
        rerun = rerun_request(recorded, same, DEFAULT_LIMITS).rerun
        assert (rerun.edited_data, rerun.edited_steps) == (False, ())


async def test_forms_of_a_rerun_lead_to_each_other() -> None:
    """From the data of the event to the failure and to each step, and back to the whole run."""
    async with VirtualEngine(app) as engine:
        browser, page = await opened(engine, 1)
        form = await browser.open(page.link("Edit the data and rerun from the start"))
        form = await browser.press(form, "Rerun from the failure")
        assert form.texts("h1") == ["Rerun from the failure"]
        form = await browser.press(form, "Rerun from step tax")
        form = await browser.press(form, "Rerun from the start")
        assert form.texts("h1") == ["Rerun from the start"]


async def test_a_form_of_a_rerun_keeps_what_was_entered() -> None:
    """Adding a result, or rerunning from elsewhere, loses neither the data, the reason nor the results."""
    async with VirtualEngine(app) as engine:
        browser, page = await opened(engine, 1)
        form = await browser.open(page.link("Edit data or results and rerun from the failure"))
        form = await browser.press(form, "edit the result of price", data='{"price": 2}', why="a typo")
        (price,) = [str(node.attributes["name"]) for node in form.all("textarea[name^=result]")]
        form = await browser.press(form, "edit the result of tax", **{price: "40"})
        form = await browser.press(form, "Rerun from step tax")
        assert form.all(f"textarea[name={price}]")
        assert "for step tax is not used: the step runs again" in form.text
        form = await browser.press(form, "Rerun from the failure")
        (tax,) = [str(node.attributes["name"]) for node in form.all("textarea[name^=result]")[1:]]
        assert form.all("form#rerun[data-guard=entered]")
        await browser.submit(form, "form#rerun", **{tax: "2"})
        await engine.until_idle()
        new = rerun_of(engine)
        assert new.output == 42
        assert isinstance(new.events, list)
        assert [event["data"] for event in new.events if isinstance(event, dict)] == [{"price": 2}]
        assert isinstance(new.rerun, dict)
        assert new.rerun["why"] == "a typo"


async def test_a_cancelled_run_offers_no_rerun_from_a_failure() -> None:
    """It continues from where it was cancelled, if it had results by then; else it can only be rerun whole."""
    waiting = App("waits")

    @waiting.function(on("late"))
    async def late(ctx: Context) -> None:
        if ctx.event.data.get("first"):
            await ctx.step.run("first", lambda: 1)
        await ctx.step.sleep("nap", "1h")

    async with VirtualEngine(waiting) as engine:
        browser, labels = browser_of(engine), []
        for data in ({}, {"first": True}):
            await engine.send(Event("late", data))
            (run,) = (run for run in engine.runs() if run.status == "running")
            page = await browser.open(f"/ui/runs/{run.run_id}")
            page = await browser.submit(page, 'form[aria-label="Cancel the run"]')
            await engine.until_idle()
            page = await browser.open(f"/ui/runs/{run.run_id}")
            labels.append(page.texts(".actions button"))
        again = "Rerun from where it was cancelled"
        assert labels == [["Rerun the run"], [again, "Rerun the run"]]
        assert (await browser.open(page.link(f"Edit data or results and r{again[1:]}"))).texts("h1") == [again]
