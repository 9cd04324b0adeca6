"""The page of a run: why it does not continue, its steps, values, errors and relations, and what its forms do."""

import asyncio
import json

import pytest

from stepstream import App, Concurrency, Context, Event, Limit, on
from stepstream.contract.history import RunUnpaused
from stepstream.contract.limits import REASON_CHARACTERS_MAX
from stepstream.contract.model_usage import ModelUsage
from stepstream.sdk.event import to_record
from stepstream.sdk.spending import note_usage
from stepstream.testing import VirtualEngine
from tests.api.pages.browsing import browser_of
from tests.fakes.waiting import until


async def test_an_open_run_says_what_it_waits_for(engine: VirtualEngine) -> None:
    """One sentence says why the run does not continue, and follows it from a sleep to an event and a signal."""
    await engine.send(Event("order", {"amount": 5, "id": 7}))
    browser, path = browser_of(engine), f"/ui/runs/{engine.run().run_id}"
    said = (await browser.open(path)).texts(".why")
    assert ["Step 'nap' has slept since" in each for each in said] == [True]
    await engine.advance("1h")
    (why,) = (await browser.open(path)).texts(".why")
    assert why.startswith("Step 'parcel' has waited since")
    assert "for the event 'parcel/left' with data.id = 7" in why
    await engine.send(Event("parcel/left", {"id": 7}))
    (why,) = (await browser.open(path)).texts(".why")
    assert "for the signal 'approve/7'" in why
    await engine.signal("approve/7")
    page = await browser.open(path)
    assert not page.all(".why")
    assert page.texts(".heading .state") == ["completed"]
    assert "charged : 5" in page.text


async def test_a_failed_run_shows_its_error_and_its_line(engine: VirtualEngine) -> None:
    """The error has its message, the line of the user's code that raised it, and the traceback."""
    await engine.send(Event("order", {"amount": -1, "id": 7}))
    page = await browser_of(engine).open(f"/ui/runs/{engine.run().run_id}")
    (failure,) = page.texts(".failure")
    assert "ValueError : amount -1 is negative" in failure
    assert "tests/api/pages/conftest.py:" in failure.partition("Traceback")[0]
    assert 'raise ValueError(f"amount {amount} is negative")' in failure
    assert page.texts(".actions button") == ["Rerun from the failure", "Rerun the run"]


async def test_the_limits_that_a_run_has_passed_are_shown() -> None:
    """With the place and the wait: those of the run, and those of a step that is opened; others have no such line."""
    app = App("imports")

    @app.function(on("import"), concurrency=Concurrency(1, counts="runs"))
    async def load(ctx: Context) -> None:
        await ctx.step.options(limit=Limit("db", 1)).run("read", int)
        await ctx.step.sleep("rest", "1h")

    async with VirtualEngine(app) as engine:
        await engine.send(Event("import"))
        await engine.send(Event("import"))
        await engine.advance("3h")
        run = engine.runs()[1]
        (read, rest) = run.steps
        page = await browser_of(engine).open(f"/ui/runs/{run.run_id}?step={read.step}&step={rest.step}")
        assert "concurrency of function load: place 1, waited 1h" in page.text
        assert page.text.count("db: at once") == 1


async def test_the_state_of_a_run_is_shown_and_linked_as_json() -> None:
    """A run whose code sets a state has it as a tree, with its text; other runs have no such section."""
    app = App("imports")

    @app.function(on("import"))
    async def load(ctx: Context) -> None:
        if ctx.event.data.get("pages"):
            ctx.state["progress"] = {"page": 3, "note": "<b>"}
        await ctx.step.sleep("rest", "1h")

    async with VirtualEngine(app) as engine:
        await engine.send(Event("import", {"pages": 4}), Event("import"))
        with_state, without = (f"/ui/runs/{run.run_id}" for run in engine.runs())
        browser = browser_of(engine)
        page = await browser.open(with_state)
        (shown,) = page.texts("section[aria-labelledby=state]")
        assert "page : 3" in shown
        assert "<b>" in shown
        raw = await browser.client.get(f"{with_state}/raw?part=state")
        assert raw.json() == {"progress": {"page": 3, "note": "<b>"}}
        assert not (await browser.open(without)).all("section[aria-labelledby=state]")


async def test_a_loop_is_one_row_that_opens(engine: VirtualEngine) -> None:
    """400 steps whose ids differ in a number are one row; its link shows each of them, and hides them again."""
    await engine.send(Event("loop"))
    browser = browser_of(engine)
    page = await browser.open(f"/ui/runs/{engine.run().run_id}")
    assert [words.split(" run ")[0] for words in page.texts("tbody tr")] == ["page 0…399"]
    assert "400 completed" in page.texts("tbody tr")[0]
    opened = await browser.open(page.link("page 0…399"))
    assert len(opened.all("tbody tr")) == 401
    closed = await browser.open(opened.link("page 0…399"))
    assert len(closed.all("tbody tr")) == 1


async def test_several_steps_are_open_at_once(engine: VirtualEngine) -> None:
    """A step's link opens its times and its result below it; the URL keeps the steps that were open."""
    await engine.send(Event("order", {"amount": 5, "id": 7}))
    await engine.advance("1h")
    browser = browser_of(engine)
    page = await browser.open(f"/ui/runs/{engine.run().run_id}")
    assert not page.all(".details")
    page = await browser.open(page.link("charge"))
    page = await browser.open(page.link("parcel"))
    charge, parcel = page.texts(".details")
    assert "charged : 5" in charge
    assert "Waits for parcel/left data.id" in parcel


async def test_attempts_of_a_step_are_ticks_and_a_list() -> None:
    """Failed ones stay after the step succeeded, each with its time, its error and its line; the last one follows."""
    app, left = App("shop"), ["<b> again\nmore", "bank is down"]

    def charge() -> str:
        if left:
            raise ConnectionError(left.pop())
        return "paid"

    @app.function(on("order"), retries=3, backoff="1m")
    async def fulfil(ctx: Context) -> None:
        await ctx.step.run("charge", charge)

    async with VirtualEngine(app) as engine:
        await engine.send(Event("order"))
        await engine.advance("1h")
        browser = browser_of(engine)
        page = await browser.open(f"/ui/runs/{engine.run().run_id}")
        (bar,) = page.all(".timeline svg")
        assert len(bar.css(".bar-failed")) == 2
        assert (bar.attributes["aria-label"] or "").endswith(", 2 failed attempts")
        assert page.texts(".timeline svg title") == [bar.attributes["aria-label"]]
        assert page.texts(".legend li") == ["last attempt", "failed attempt", "wait for the next attempt"]
        start, middle, end = page.texts("th .axis span")
        assert start == "0 ms"
        assert middle != end
        assert "completed 3 attempts" in page.all(".timeline")[0].text()
        page = await browser.open(page.link("charge"))
        first, second, last = page.texts("[aria-label='Attempts of charge'] tbody tr")
        assert first.startswith("1 2026-01-01 0")
        assert " 0 ms ConnectionError: bank is down raised at " in first
        assert f"{__file__}:" in first
        assert " ConnectionError: <b> again raised at " in second
        assert last.startswith("3 2026-01-01 0")
        assert last.endswith(" 0 ms completed")
        assert "Until" not in page.texts(".details dt")
        folded = page.all("[aria-label='Attempts of charge'] details")
        assert ["open" in each.attributes for each in folded] == [False, False]
        assert ["raise ConnectionError(left.pop())" in each.text() for each in folded] == [True, True]
        assert ["ConnectionError: bank is down" in each.text() for each in folded] == [True, False]


async def test_a_body_shows_its_progress_while_it_runs() -> None:
    """The row has the progress and when the body was last alive; below it, the progress is a value with its text."""
    app, finish = App("copy"), asyncio.Event()

    @app.function(on("go"))
    async def function(ctx: Context) -> None:
        async def copy() -> None:
            ctx.heartbeat({"page": 7})
            await finish.wait()

        await ctx.step.run("copy", copy)

    async with VirtualEngine(app) as engine:
        await engine.engine.send([to_record(Event("go"))])
        await until(lambda: [step for run in engine.runs() for step in run.steps])
        browser, run = browser_of(engine), engine.run()
        page = await browser.open(f"/ui/runs/{run.run_id}")
        (row,) = page.texts("tbody tr")
        assert "running" in row
        assert 'progress {"page": 7} at 20' in row
        opened = await browser.open(page.link("copy"))
        (details,) = opened.texts(".details")
        assert "Last heartbeat" in details
        assert "page : 7" in details
        raw = await browser.open(f"/ui/runs/{run.run_id}/raw?part=progress-{run.steps[0].step}")
        assert json.loads(raw.response.text) == {"page": 7}
        finish.set()
        await engine.until_idle()


@pytest.mark.parametrize(("part", "value"), [("event-0", {"amount": 5, "id": 7}), ("output", {"charged": 5})])
async def test_a_value_has_its_whole_text(engine: VirtualEngine, part: str, value: object) -> None:
    """The raw text of a value is JSON, which browsers show as text or save."""
    await engine.send(Event("order", {"amount": 5, "id": 7}))
    await engine.advance("1h")
    await engine.send(Event("parcel/left", {"id": 7}))
    await engine.signal("approve/7")
    browser, path = browser_of(engine), f"/ui/runs/{engine.run().run_id}/raw?part={part}"
    shown = (await browser.open(path)).response
    found = json.loads(shown.text)
    assert (found.get("data", found), shown.headers["content-type"]) == (value, "text/plain; charset=utf-8")
    saved = (await browser.open(f"{path}&download=1")).response
    assert saved.headers["content-disposition"].startswith('attachment; filename="')
    assert (await browser.open(f"{path}9")).status == 404


async def test_an_invoked_run_is_linked_both_ways(engine: VirtualEngine) -> None:
    """The step that invoked a run links to it, and that run to its caller."""
    await engine.send(Event("parent"))
    caller, called = sorted(engine.runs(), key=lambda run: run.function != "parent")
    browser = browser_of(engine)
    page = await browser.open(f"/ui/runs/{caller.run_id}")
    assert "for the run of 'child' that it invoked" in page.texts(".why")[0]
    opened = await browser.open(page.link("call"))
    assert opened.texts(".details dd a") == [f"…{called.run_id[-6:]}"]
    below = await browser.open(page.link(f"…{called.run_id[-6:]}"))
    assert below.path == f"/ui/runs/{called.run_id}"
    assert (await browser.open(below.link(caller.run_id))).path == f"/ui/runs/{caller.run_id}"


async def test_a_run_is_cancelled_once(engine: VirtualEngine) -> None:
    """The page says so, and who did it and why; a long reason is refused, and a second press changes nothing."""
    await engine.send(Event("order", {"amount": 5, "id": 7}))
    browser = browser_of(engine)
    page = await browser.open(f"/ui/runs/{engine.run().run_id}")
    refused = await browser.submit(page, 'form[aria-label="Cancel the run"]', why="x" * (REASON_CHARACTERS_MAX + 1))
    assert (refused.status, len(refused.texts("#cancel-why-reason"))) == (400, 1)
    done = await browser.submit(page, 'form[aria-label="Cancel the run"]', why=" wrong <template> ")
    assert done.texts(".note") == ["The run is cancelled."]
    await engine.until_idle()
    assert engine.run().status == "cancelled"
    assert "the run was cancelled by local: wrong <template>" in (await browser.open(done.path)).text
    assert "had ended already" in (await browser.submit(page, 'form[aria-label="Cancel the run"]')).text


async def test_a_run_is_paused_and_resumed(engine: VirtualEngine) -> None:
    """A time that cannot be read is refused beside the field; then the page says who paused the run and why."""
    await engine.send(Event("parent"))
    browser, run_id = browser_of(engine), engine.run("child").run_id
    page = await browser.open(f"/ui/runs/{run_id}")
    refused = await browser.submit(page, 'form[aria-label="Pause the run"]', until="soon", why="bank is down")
    assert refused.status == 400
    assert "'soon' is not a time" in refused.texts(".signal[open] .note")[0]
    done = await browser.submit(refused, 'form[aria-label="Pause the run"]', until="2h", why="bank is down")
    assert done.texts(".note") == ["The run is paused."]
    await engine.until_idle()
    paused = await browser.open(f"/ui/runs/{run_id}")
    assert "It was paused by local at" in paused.texts(".why")[0]
    assert "bank is down" in paused.texts(".why")[0]
    resume = 'form[aria-label="Resume the run"]'
    assert (await browser.submit(paused, resume, why="x" * (REASON_CHARACTERS_MAX + 1))).status == 400
    done = await browser.submit(paused, resume, why="bank is back")
    assert done.texts(".note") == ["The run is resumed."]
    assert "was not paused" in (await browser.submit(paused, 'form[aria-label="Resume the run"]')).text
    await engine.until_idle()
    assert engine.run("child").paused is None
    (ended,) = [entry for entry in engine.history if isinstance(entry, RunUnpaused)]
    assert (ended.by, ended.why) == ("local", "bank is back")


async def test_a_signal_is_sent_to_the_run_that_waits(engine: VirtualEngine) -> None:
    """Invalid JSON is refused beside the field, which keeps it; then the run gets the data, once."""
    await engine.send(Event("parent"))
    browser, run_id = browser_of(engine), engine.run("child").run_id
    page = await browser.open(f"/ui/runs/{run_id}")
    form = 'form[aria-label="Send the signal child"]'
    refused = await browser.submit(page, form, data="{'a': 1}")
    assert refused.status == 400
    assert "not valid JSON" in refused.texts(".signal .note")[0]
    assert refused.texts(".signal[open] textarea") == ["{'a': 1}"]
    done = await browser.submit(refused, form, data='{"a": 1}')
    assert done.texts(".note") == ["The signal was delivered."]
    await engine.until_idle()
    assert engine.run("child").output == "{'a': 1}"
    (step,) = engine.run("child").steps
    opened = await browser.open(f"/ui/runs/{run_id}?step={step.step}")
    assert "Signal sent by local" in " ".join(opened.text.split())
    assert "No run waits for that signal" in (await browser.submit(page, form)).text
    assert not (await browser.open(f"/ui/runs/{run_id}")).all(".signal")


async def test_an_unknown_run_is_a_page(engine: VirtualEngine) -> None:
    """A run that does not exist is answered with 404, an explanation, and a link to the list."""
    for run_id, search in (("XY Z", "XY+Z"), ("01KDVDNA00ZP0GFMQQFK8ZDFSF", "01KDVDNA00ZP0GFMQQFK8ZDFSF")):
        page = await browser_of(engine).open(f"/ui/runs/{run_id}")
        assert page.status == 404
        assert page.link(f"Search the runs for {run_id}") == f"/ui/find?id={search}"
        assert "There is no run with this id" in page.text
        assert page.link("All runs") == "/ui/runs"


async def test_a_series_links_its_runs() -> None:
    """A run that continued as new links its successor, and that one the run that it continues."""
    app = App("loops")

    @app.function(on("go"))
    async def loop(ctx: Context) -> None:
        if ctx.event.data["left"]:
            await ctx.continue_as_new({"left": 0})

    async with VirtualEngine(app) as engine:
        await engine.send(Event("go", {"left": 1}))
        first, second = sorted(engine.runs(), key=lambda run: "from" in str(run.continuation))
        page = await browser_of(engine).open(f"/ui/runs/{first.run_id}")
        assert f"Continued by {second.run_id}" in page.text
        page = await browser_of(engine).open(f"/ui/runs/{second.run_id}")
        assert f"Continues {first.run_id} , as number 1 of the series" in page.text


async def test_a_wait_that_lost_a_race_does_not_look_like_a_failure() -> None:
    """The step is cancelled in a neutral colour, and its tooltip says why."""
    app = App("race")

    @app.function(on("go"))
    async def function(ctx: Context) -> None:
        await ctx.group.race(
            ctx.step.wait_for_event("paid", event="paid", match="data.id", timeout="1d"), ctx.step.sleep("nap", "1s")
        )

    async with VirtualEngine(app) as engine:
        await engine.send(Event("go", {"id": 1}))
        await engine.advance("1m")
        page = await browser_of(engine).open(f"/ui/runs/{engine.run().run_id}")
        (lost,) = [each for each in page.all(".timeline .state") if each.text() == "cancelled"]
        assert lost.attributes["class"] == "state"
        assert "lost a race" in (lost.attributes["title"] or "")


async def test_a_run_shows_tokens_and_cost() -> None:
    """The step that asked a model has the tokens in its row and the rest in its details; the run has the sum."""
    app = App("ai")

    @app.function(on("ask"))
    async def ask(ctx: Context) -> None:
        async def answer() -> dict[str, int]:
            note_usage(ModelUsage("gpt-<b>", 1_000, 234, 12_300_000))
            return {}

        await ctx.step.run("one", answer)
        await ctx.step.run("two", answer)

    async with VirtualEngine(app) as engine:
        await engine.send(Event("ask"))
        run = engine.run()
        browser, path = browser_of(engine), f"/ui/runs/{run.run_id}"
        page = await browser.open(path)
        assert page.texts("tbody .tokens") == ["1,234 tokens"] * 2
        assert "Tokens 2,000 in, 468 out, $0.0246" in page.text
        details = (await browser.open(f"{path}?step={run.steps[0].step}")).texts(".details")[0]
        assert "Model gpt-<b> Tokens 1,000 in, 234 out, $0.0123" in details
