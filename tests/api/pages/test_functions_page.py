"""The pages of functions: what is registered, how often it ran and how long, and starting it by a form."""

import dataclasses
from collections.abc import AsyncIterator, Sequence
from typing import Any, Literal

import httpx
import pytest
from pydantic import BaseModel, Field

from stepstream import App, CancelOn, Concurrency, Context, DefinitionError, Event, Timeouts, cron, on
from stepstream.api.guards import Keys
from stepstream.api.http import make_api
from stepstream.api.routes.functions import cron_times
from stepstream.contract.functions import CronTrigger, FunctionRegistered
from stepstream.contract.limits import REASON_CHARACTERS_MAX
from stepstream.runtime.overview import ScopeChangeView, ScopePauseView, ShardView
from stepstream.testing import VirtualEngine
from tests.api.pages.browsing import browser_of, words
from tests.fakes.facades import facade_of

app = App("shop", queues=["gpu"], lookback="1h")


RULES = [CancelOn("<b>", match="data.id"), CancelOn("stop", if_="async.data.all", timeout="1h")]


@app.function(
    on("order", if_="event.data.total > 0"),
    cron("0 3 * * *", tz="Europe/Berlin"),
    retries=0,
    cancel_on=RULES,
    timeouts=Timeouts(finish="2h"),
    concurrency=Concurrency(50, counts="runs", key="event.data.total"),
)
async def fulfil(ctx: Context) -> str:
    """Sleep for as many seconds as the event says; fail for a negative number."""
    seconds = ctx.event.data.get("seconds", 0)
    if seconds < 0:
        raise ValueError("negative")
    await ctx.step.sleep("nap", seconds)
    return "done"


class Customer(BaseModel):
    """A customer."""

    name: str


class Booking(BaseModel):
    """What a flight needs."""

    guests: int = Field(2, ge=1, le=9, description="together")
    cabin: Literal["economy", "business"]
    note: str | None = None
    customer: Customer


@app.function(on("booking"), input=Booking, retries=2)
async def book(ctx: Context) -> Any:
    """Return the data."""
    return ctx.event.data


@app.function(id='a/"b" <i>')
async def invoked(_ctx: Context) -> None:
    """Wait to be invoked."""


@pytest.fixture
async def engine() -> AsyncIterator[VirtualEngine]:
    """Yield the engine of the shop."""
    async with VirtualEngine(app) as made:
        yield made


async def ran(engine: VirtualEngine, *seconds: int) -> None:
    """Let a run take each of these times."""
    for number in seconds:
        await engine.send(Event("order", {"total": 1, "seconds": number}))
    await engine.advance("10m")


async def test_functions_are_listed_with_their_runs(engine: VirtualEngine) -> None:
    """Each registered function has its triggers, its next time, and counts that link to its runs."""
    await ran(engine, 5, -1, 700)
    browser = browser_of(engine)
    page = await browser.open("/ui/functions")
    other, _, row = page.texts("tbody tr")
    assert other == 'a/"b" <i> shop invoked only 0 0 0 0 0'
    assert row.startswith(
        "fulfil shop event order if event.data.total > 0 cron 0 3 * * * Europe/Berlin 2026-01-01 02:00"
    )
    assert row.endswith("1 1 1 0 0 2 ended, 1 of them failed (50%)")
    assert page.texts("nav[aria-label=Pages] [aria-current=page]") == ["Functions"]
    link = page.all("tbody tr:last-child td:nth-child(7) a")[0].attributes["href"]
    assert [row.split(" ")[1:3] for row in (await browser.open(link or "")).texts("tbody tr")] == [["fulfil", "failed"]]
    found = await browser.submit(page, ".filters", name="FUL")
    assert [row.split(" ")[0] for row in found.texts("tbody tr")] == ["fulfil"]
    assert "No function matches" in (await browser.open("/ui/functions?name=x%00y")).text


async def test_a_function_has_its_configuration_and_its_times(engine: VirtualEngine) -> None:
    """The page has what is registered, percentiles, and the slowest runs, which it links."""
    await ran(engine, 1, 2, 3, 4, 500)
    browser = browser_of(engine)
    page = await browser.open((await browser.open("/ui/functions")).link("fulfil"))
    shown = dict(zip(page.texts(".facts dt"), page.texts(".facts dd"), strict=True))
    assert (shown["Queues of the app"], shown["Runs in a chain, at most"]) == ("gpu", "100")
    assert shown["Limits"] == "concurrency of function fulfil by event.data.total: 50 runs at a time"
    assert shown["Cancelled by"] == "event <b> with the same data.id event stop if async.data.all within 1h 0m"
    assert (shown["Must end within"], "Must start within" in shown) == ("2h 0m", False)
    assert shown["Next times"].count("2026-01-0") == 3
    assert (shown["p50"], shown["p99"]) == ("3.0 s", "8m 20s")
    slow = engine.runs()[-1]
    assert page.texts("section tbody tr")[0] == f"{slow.run_id} 8m 20s"
    assert (await browser.open(page.link(slow.run_id))).path == f"/ui/runs/{slow.run_id}"
    assert "completed 5" in page.text
    assert "of 5 completed runs, whenever they ended; failed runs do not count" in page.text
    assert "These are runs that completed or failed" in page.text
    assert "The page of a function" not in page.text
    assert "Since 2025-12-31 23:00:00 : 5 ended; 4.3 ended per hour." in page.text
    odd = await browser.open((await browser.open("/ui/functions")).link('a/"b" <i>'))
    assert odd.texts("h1") == ['a/"b" <i>']
    assert odd.texts(".facts dd")[:2] == ["shop", "invoked only"]
    assert not odd.all("#start")
    assert (await browser.open("/ui/function?id=none")).status == 404


async def test_a_function_is_started_with_the_data_of_its_latest_event(engine: VirtualEngine) -> None:
    """The form has the latest event as an example, also after runs by cron; its answer lists what it started."""
    browser = browser_of(engine)
    page = await browser.open("/ui/function?id=fulfil")
    assert page.all("#event-name")[0].attributes["value"] == "order"
    await engine.send(Event("order", {"total": 1, "seconds": 9}))
    await engine.advance("2d")
    page = await browser.open("/ui/function?id=fulfil")
    assert '"seconds": 9' in page.all("#event-data")[0].text()
    started = await browser.submit(page, "section .actions", id="order-7")
    await engine.until_idle()
    assert started.path.startswith("/ui/event?id=order-7&done=sent.")
    (run,) = engine.runs("fulfil", status="running")
    assert isinstance(run.events, list)
    sent = {"name": "order", "data": {"total": 1, "seconds": 9}, "id": "order-7", "ts": engine.now_ms}
    assert run.events[0] == sent | {"meta": {"by": "local"}}
    assert f"…{run.run_id[-6:]} fulfil sleeping until" in (await browser.open(started.path)).text
    # Without an id, the form itself has one: sent twice, it starts one run.
    for _ in range(2):
        await browser.submit(page, "section .actions", data='{"total": 2}')
    await engine.until_idle()
    assert sum(run.events[0]["data"] == {"total": 2} for run in engine.runs("fulfil")) == 1  # type: ignore[index,call-overload]


async def test_the_example_is_the_latest_event_of_no_rerun(engine: VirtualEngine) -> None:
    """A rerun with other data is no example, also if no other run is among the latest."""
    browser = browser_of(engine)
    await engine.send(Event("order", {"total": 1, "seconds": 1}))
    await engine.advance("1m")
    await engine.send(Event("order", {"total": 1, "seconds": 2}))
    await engine.advance("1m")
    first = min(engine.runs("fulfil"), key=lambda run: run.run_id)
    for _ in range(25):
        await engine.rerun(first.run_id, data={"total": 1, "seconds": 3})
    await engine.until_idle()
    assert '"seconds": 2' in (await browser.open("/ui/function?id=fulfil")).all("#event-data")[0].text()
    await engine.advance("1m")
    assert '"seconds": 1' in (await browser.open("/ui/function?id=fulfil")).all("#event-data")[0].text()


@pytest.mark.parametrize(
    ("entered", "field", "says"),
    [
        ({"data": '{"total": '}, "data", "not valid JSON"),
        ({"data": "[1]"}, "data", "object"),
        ({"name": " "}, "name", "give the name of the event"),
        ({"name": "stream/function.failed"}, "name", "stream/"),
        ({"id": "x" * 300}, "id", "characters"),
    ],
)
async def test_a_wrong_event_keeps_what_was_entered(
    engine: VirtualEngine, entered: dict[str, str], field: str, says: str
) -> None:
    """The reason is beside its field, and nothing is sent."""
    browser = browser_of(engine)
    page = await browser.submit(await browser.open("/ui/function?id=fulfil"), "section .actions", **entered)
    assert page.status == 400
    (wrong,) = page.all("[aria-invalid=true]")
    assert wrong.attributes["name"] == field
    assert entered[field].strip() in (wrong.text() or wrong.attributes.get("value") or "")
    assert any(says in reason for reason in page.texts(".field [role=alert]"))
    assert not engine.runs()


async def test_readers_see_functions_without_the_form(engine: VirtualEngine) -> None:
    """The read key shows the page; a form that is sent nevertheless is refused."""
    browser = browser_of(engine, Keys("event", "api", "read"))
    browser.client.headers["Authorization"] = "Bearer read"
    page = await browser.open("/ui/function?id=fulfil")
    assert page.status == 200
    assert not page.all("main form[method=post]")
    refused = await browser.client.post("/ui/function?id=fulfil", data={"name": "order", "data": "{}"})
    assert refused.status_code == 403
    assert all(row.css_first("a") for row in (await browser.open("/ui/functions")).all("tr[data-row]"))


class _Elsewhere:
    """What an engine knows that serves no shard."""

    def __init__(self, *functions: FunctionRegistered) -> None:
        self._functions = functions

    def functions(self) -> Sequence[FunctionRegistered]:
        """Return the registrations."""
        return self._functions

    def pauses(self) -> Sequence[ScopePauseView]:
        """Return no pause."""
        return ()

    def pause_changes(self, scope: str) -> Sequence[ScopeChangeView]:  # noqa: ARG002 - the port names it
        """Return none."""
        return ()

    def shards(self) -> Sequence[ShardView]:
        """Return none."""
        return []


async def test_an_engine_without_shards_says_what_it_does_not_know(engine: VirtualEngine) -> None:
    """Functions that have runs are listed; without any the page says what registers one."""
    await ran(engine, 1)
    facade = dataclasses.replace(facade_of(engine.engine), overview=_Elsewhere())
    api = make_api(facade, engine.index, bytes)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=api), base_url="http://localhost") as client:
        for path in ("/ui/functions", "/ui/function?id=fulfil"):
            assert "it does not know what is registered" in (await client.get(path)).text
        (only,) = (await client.get("/v1/functions")).json()["functions"]
    assert only.pop("rate").keys() == {"since", "ended", "failed"}
    assert only == {"id": "fulfil", "registration": None, "counts": {"completed": 1}, "cron_times": {}}
    async with VirtualEngine() as empty:
        assert "No function yet" in (await browser_of(empty).open("/ui/functions")).text


async def test_apps_that_failed_to_register_are_above_the_list(engine: VirtualEngine) -> None:
    """The developer may look there for a function that is missing."""
    line = "App shop at http://shop/api/inngest failed to register: <b>bad</b>"
    facade = dataclasses.replace(facade_of(engine.engine), failed_apps=lambda: [line])
    api = make_api(facade, engine.index, bytes)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=api), base_url="http://localhost") as client:
        text = (await client.get("/ui/functions")).text
    assert "App shop at http://shop/api/inngest failed to register: &lt;b&gt;bad&lt;/b&gt;" in text


async def test_a_retired_function_says_that_nothing_starts_it(engine: VirtualEngine) -> None:
    """It stays listed while its registration is kept; it has no form."""
    retired = FunctionRegistered("fulfil", "shop", retired=True)
    facade = dataclasses.replace(facade_of(engine.engine), overview=_Elsewhere(retired))
    api = make_api(facade, engine.index, bytes)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=api), base_url="http://localhost") as client:
        text = (await client.get("/ui/function?id=fulfil")).text
    assert "nothing starts it" in text
    assert "Send an event" not in text


async def test_functions_are_answered_by_the_api(engine: VirtualEngine) -> None:
    """Pages are ordered by id; one function has its durations too."""
    await ran(engine, 1, 3)
    api = make_api(facade_of(engine.engine), engine.index, bytes, now_ms=lambda: engine.now_ms)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=api), base_url="http://localhost") as client:
        first = (await client.get("/v1/functions", params={"limit": 1})).json()
        second = (await client.get("/v1/functions", params={"after": first["next"]})).json()
        assert [each["id"] for each in first["functions"] + second["functions"]] == ['a/"b" <i>', "book", "fulfil"]
        shown = (await client.get("/v1/functions/fulfil")).json()
        assert shown["registration"]["queues"] == ["gpu"]
        assert shown["counts"] == {"completed": 2}
        assert shown["durations"]["p90_ms"] == 3_000
        assert shown["rate"] == {"since": engine.now_ms // 3_600_000 * 3_600_000 - 3_600_000, "ended": 2, "failed": 0}
        assert len(shown["cron_times"]["0 3 * * * Europe/Berlin"]) == 3
        assert (await client.get('/v1/functions/a%2F"b" <i>')).json()["durations"]["runs"] == 0
        assert (await client.get("/v1/functions/none")).status_code == 404


def test_times_of_an_unknown_zone_are_left_out() -> None:
    """A worker may know a time zone that this engine does not."""
    assert cron_times(CronTrigger("0 3 * * *", "Moon/Crater"), 0) == []
    assert cron_times(CronTrigger("0 0 * * *"), 0, 2) == [86_400_000, 172_800_000]


async def test_a_form_is_made_from_the_model_of_the_input(engine: VirtualEngine) -> None:
    """Each value has a field with its type, default and help; what is wrong is beside its field, and stays."""
    browser = browser_of(engine)
    page = await browser.open("/ui/function?id=book")
    assert "Retries of a step, at most 2" in page.text
    guests, cabin = page.all("[name='values.guests']")[0], page.all("[name='values.cabin'] option")
    assert (guests.attributes["value"], guests.attributes["inputmode"]) == ("2", "decimal")
    assert [option.text() for option in cabin] == ["(choose)", "economy", "business"]
    assert "together" in page.text
    entered = {"values.guests": "12", "values.cabin": '"economy"', "values.customer": '{"name": "Mia"}'}
    for changed, field, says in (
        ({}, "values.guests", "maximum of 9"),
        ({"values.guests": "two"}, "values.guests", "use a number, such as 7 or 0.5"),
        ({"values.cabin": ""}, "values.cabin", "a value is required"),
        ({"values.guests": "1", "values.customer": "{}"}, "values.customer", "a value is required"),
        ({"values.guests": "1", "id": "x" * 300}, "id", "characters"),
    ):
        wrong = await browser.submit(
            page,
            "section .actions",
            **entered | changed,
        )
        assert wrong.status == 400
        assert [node.attributes["name"] for node in wrong.all("[aria-invalid=true]")] == [field]
        assert any(says in reason for reason in wrong.texts(".field [role=alert]"))
    assert not engine.runs()
    done = await browser.submit(page, "section .actions", **{**entered, "values.guests": "3"}, id="booking-1")
    assert done.path.startswith("/ui/event?id=booking-1&done=sent.")
    await engine.until_idle()
    assert engine.run().output == {"guests": 3, "cabin": "economy", "customer": {"name": "Mia"}}
    # The latest event is where the next one starts from.
    page = await browser.open("/ui/function?id=book")
    assert page.all("[name='values.guests']")[0].attributes["value"] == "3"


def test_an_input_must_have_fields() -> None:
    """A type without fields, or without a schema, is refused where the function is defined."""
    for wrong in (int, object, "Booking"):
        with pytest.raises(DefinitionError, match="input="):
            App("wrong").function(input=wrong)(book.handler)


async def test_a_function_is_paused_and_resumed_by_its_form(engine: VirtualEngine) -> None:
    """Its page says who paused it, until when and why; a pause that is wrong is not made."""
    browser = browser_of(engine)
    form = "form[aria-label='Pause the function']"
    page = await browser.submit(await browser.open("/ui/function?id=fulfil"), form, until="yesterday")
    assert page.status == 400
    assert not engine.engine.pauses()
    page = await browser.submit(page, form, until="", why="bank is <down>")
    assert page.path.startswith("/ui/function?id=fulfil&done=paused.")
    assert "bank is <down>" in page.text
    await ran(engine, 1)
    assert [run.status for run in engine.runs()] == ["queued"]
    (row,) = (await browser.open("/ui/runs")).all("tbody tr")
    cells = [words(cell).partition(" 2026-")[0] for cell in row.css("td")[2:6]]
    assert cells == ["queued", "order events-0-0", "waits since", ""]
    facts = (await browser.open(f"/ui/runs/{engine.runs()[0].run_id}")).texts(".facts dt")
    assert facts[1] == "Waits since"
    assert not {"Started", "Took"} & set(facts)
    resume = "form[aria-label='Resume the function']"
    assert (await browser.submit(page, resume, why="x" * (REASON_CHARACTERS_MAX + 1))).status == 400
    page = await browser.submit(page, resume, why="bank is <back>")
    assert "It is resumed." in page.text
    said = [words(each) for each in page.all("details .plain li")]
    assert [each.partition(" ")[0] for each in said] == ["resumed", "paused"]
    assert said[0].endswith("by local : bank is <back>")
    assert said[1].endswith("by local : bank is <down>")
    await engine.advance("1h")
    assert [run.status for run in engine.runs()] == ["completed"]
    assert (await browser.open("/ui/function?id=none")).status == 404


async def test_the_steps_of_a_function_are_listed(engine: VirtualEngine) -> None:
    """Its page has the slowest steps of the last day, and leads to all of them."""
    async with VirtualEngine(steps) as other:
        await other.send(Event("order"))
        await other.advance("1m")
        page = await browser_of(other).open("/ui/function?id=charge")
        assert page.texts("[aria-labelledby=step-times] tbody td:first-child") == ["bank", "pick"]
        assert page.link("All steps of this function") == "/ui/performance?function=charge"


steps = App("steps")


@steps.function(on("order"))
async def charge(ctx: Context) -> None:
    """Run two steps."""
    await ctx.step.run("bank", lambda: 1)
    await ctx.step.run("pick", lambda: 1)
