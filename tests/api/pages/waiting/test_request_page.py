"""What a run asks, on its page: approvals and requests by the names that users gave them, and a form for requests."""

from collections.abc import AsyncIterator

import pydantic
import pytest

from stepstream import App, Context, Event, on
from stepstream.api.guards import Keys
from stepstream.testing import VirtualEngine
from tests.api.pages.browsing import browser_of

app = App("counter")


class Change(pydantic.BaseModel):
    """What a sender asks for."""

    amount: int = pydantic.Field(description="what is added")


@app.function(on("open"))
async def count(ctx: Context) -> int:
    """Add what requests say."""
    total = 0
    while (
        request := await ctx.step.wait_for_request("orders/add", schema=Change, timeout="1d")
    ) and request.data.amount:
        total += request.data.amount
        await request.reply(total)
    return total


@app.function(on("talk"))
async def talk(ctx: Context) -> object:
    """Return what a request has."""
    request = await ctx.step.wait_for_request("say", timeout="1d")
    return request and request.data


@app.function(on("refund"))
async def refund(ctx: Context) -> object:
    """Ask a person."""
    ask = ctx.step.wait_for_approval
    return await ask("ask", title="Refund 7?", description="Look twice.", to=["ann"], timeout="1d")


@pytest.fixture
async def engine() -> AsyncIterator[VirtualEngine]:
    """Yield an engine of this module."""
    async with VirtualEngine(app) as made:
        yield made


async def test_a_request_is_sent_by_a_form(engine: VirtualEngine) -> None:
    """Its page has the schema and a field for each value, beside which errors are shown; a repeat is ignored."""
    await engine.send(Event("open"))
    browser = browser_of(engine)
    page = await browser.open(f"/ui/runs/{engine.run().run_id}")
    assert page.texts("tbody tr td")[1] == "request"
    form = await browser.open(page.link("Send the request orders/add"))
    assert form.texts("h1") == ["Request orders/add"]
    assert '"description": "what is added"' in form.text
    refused = await browser.submit(form, "main form", **{"values.amount": "many"})
    assert (refused.status, "use a number, such as 7 or 0.5" in refused.text) == (400, True)
    sent = await browser.submit(refused, "main form", **{"values.amount": "2"})
    await engine.until_idle()
    assert "The run has taken the request." in sent.text
    await browser.submit(refused, "main form", **{"values.amount": "2"})
    await engine.until_idle()
    replies = [step.output for step in engine.run().steps if "/reply/" in step.id]
    assert replies == [2]
    assert "does not wait for a request" in (await browser.open(form.path)).text


async def test_a_request_without_a_schema_takes_any_json(engine: VirtualEngine) -> None:
    """The list of what waits leads to the form; a reader sees no form, and an unknown step is no page."""
    await engine.send(Event("talk"))
    browser = browser_of(engine)
    form = await browser.open((await browser.open("/ui/waiting?kind=requests")).link("say"))
    assert "The step accepts any data." in form.text
    reader = browser_of(engine, Keys("event", "api", "read"))
    reader.client.headers["Authorization"] = "Bearer read"
    assert not (await reader.open(form.path)).all("main form")
    await browser.submit(form, "main form", values="[1]")
    await engine.until_idle()
    assert engine.run().output == [1]
    assert (await browser.open("/ui/requests/a/b")).status == 404


async def test_a_run_shows_the_question_of_its_approval(engine: VirtualEngine) -> None:
    """With its description, the people it is for, and the way to decide it; the name of its signal is not shown."""
    await engine.send(Event("refund"))
    browser, run = browser_of(engine), engine.run()
    page = await browser.open(f"/ui/runs/{run.run_id}?step={run.steps[0].step}")
    (asked,) = page.texts(".approval")
    assert "Refund 7? Look twice. For ann" in asked
    assert page.texts("tbody tr td")[1] == "approval"
    assert "approval/" not in page.text
    decision = await browser.open(page.link("the decision of ask"))
    done = await browser.submit(decision, "main form", decision="approve", by="ann")
    await engine.until_idle()
    assert done.texts(".note")[0] == f"Your decision for run …{run.run_id[-6:]} is stored."
    page = await browser.open(f"/ui/runs/{run.run_id}?step={run.steps[0].step}")
    assert not page.all(".approval")
    assert "Waited for the decision of ask" in page.text
