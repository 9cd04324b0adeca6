"""The page of what waits, and approvals: their forms, an answer that counts once, and the person in history."""

import enum
import re
from collections.abc import AsyncIterator
from typing import Annotated, Any, Literal

import pydantic
import pytest

from stepstream import App, Concurrency, Context, Event, on
from stepstream.api.guards import Keys
from stepstream.api.pages.waiting.waiting_page import APPROVALS, ROWS
from stepstream.runtime.readmodel.tables import waiting
from stepstream.testing import VirtualEngine
from tests.api.pages.browsing import Browser, Page, browser_of

app = App("shop")


class Speed(enum.Enum):
    """How fast."""

    SLOW = "slow"
    FAST = "fast"


class Refund(pydantic.BaseModel):
    """A field of each kind."""

    amount: Annotated[float, pydantic.Field(gt=0, description="in euros")]
    note: str
    is_partial: bool
    speed: Speed = Speed.SLOW
    channel: Literal["mail", "phone"] | None = None
    count: int | None = None
    items: list[str] = []


class Odd(pydantic.BaseModel):
    """A name that no field of a page can have."""

    total: int = pydantic.Field(alias="the total <€>")


class Wide(pydantic.BaseModel):
    """A model whose form is a single value, as it has no known fields."""

    model_config = pydantic.ConfigDict(extra="allow")


@app.function(on("refund"), retries=0)
async def refund(ctx: Context) -> Any:
    """Ask a person for the values of a refund."""
    form: Any = {"refund": Refund, "wide": Wide, "odd": Odd}.get(ctx.event.data.get("form", ""))
    decision: Any = await ctx.step.wait_for_approval(
        "ask", title=f"Refund {ctx.event.id}?", description="Look twice.", to=["ann", "bob"], form=form, timeout="3d"
    )
    if decision is None:
        return None
    values = decision.values.model_dump(mode="json") if decision.values is not None else None
    return [decision.approved, decision.by, decision.comment, values]


@app.function(on("wait"))
async def wait(ctx: Context) -> None:
    """Wait in each way."""
    await ctx.group.parallel(
        ctx.step.wait_for_event("event", event="parcel/left", match="data.id", timeout="1d"),
        ctx.step.wait_for_signal("signal", signal=f"go/{ctx.event.id}", timeout="1d"),
        ctx.step.sleep("sleep", "2d"),
        ctx.step.wait_for_request("request", timeout="1d"),
    )


@app.function(on("guess"))
async def guess(ctx: Context) -> None:
    """Wait for an event by an expression."""
    await ctx.step.wait_for_event("guess", event="guessed", if_="async.data.id > event.data.least", timeout="1d")


@app.function(on("slow"), concurrency=Concurrency(1, counts="runs"))
async def slow(ctx: Context) -> None:
    """Sleep, while no other run may start."""
    await ctx.step.sleep("sleep", "2d")


@pytest.fixture
async def engine() -> AsyncIterator[VirtualEngine]:
    """Yield an engine of this module."""
    async with VirtualEngine(app) as made:
        yield made


async def asked_page(engine: VirtualEngine, form: str = "") -> tuple[Browser, Page]:
    """Return a browser on the list, in which one approval waits."""
    await engine.send(Event("refund", {"form": form}, id="r1"))
    browser = browser_of(engine)
    return browser, await browser.open("/ui/waiting")


async def test_an_approval_is_answered_from_the_list(engine: VirtualEngine) -> None:
    """It shows what is asked, and the people it is for; the answer, with the person, is the result of the step."""
    browser, page = await asked_page(engine)
    assert page.texts(".approval h2") == ["Refund r1?"]
    assert "Look twice. For ann bob" in page.text
    assert page.texts("nav[aria-label=Pages] [aria-current]") == ["Waiting 1 to decide"]
    done = await browser.submit(page, ".approval form", decision="approve", by="ann", comment="as\r\nagreed")
    assert done.texts(".note")[0] == f"Your decision for run …{engine.run().run_id[-6:]} is stored."
    assert not done.all(".approval")
    await engine.until_idle()
    assert engine.run().output == [True, "ann", "as\nagreed", None]
    assert "No approval waits" in (await browser.open("/ui/waiting")).text
    assert (await browser.open("/ui/runs")).texts("nav[aria-label=Pages] .count") == []


async def test_the_first_answer_counts(engine: VirtualEngine) -> None:
    """Who comes later learns that the decision does not count, and who decided."""
    browser, page = await asked_page(engine)
    await browser.submit(page, ".approval form", decision="approve", by="ann", comment="fine")
    late = await browser.submit(page, ".approval form", decision="reject", by="bob")
    assert "your decision does not count" in late.texts(".note.is-bad")[0]
    assert not late.all("main form")
    await engine.until_idle()
    late = await browser.open(late.path)
    assert "Approved by ann at" in late.text
    assert "fine" in late.text
    assert engine.run().output == [True, "ann", "fine", None]


async def test_a_form_has_a_field_for_each_simple_value(engine: VirtualEngine) -> None:
    """Text, numbers, choices and yes or no have fields; other values are JSON."""
    browser, page = await asked_page(engine, "refund")
    names = [node.attributes["name"] for node in page.all(".approval [name^=values]")]
    assert names == [f"values.{name}" for name in Refund.model_fields]
    assert [words.split(" ")[0] for words in page.texts(".approval label")[:3]] == ["Amount", "Note", "Is"]
    options = [[each.attributes["value"] for each in node.css("option")] for node in page.all(".approval select")]
    assert options == [["", "true", "false"], ["", '"slow"', '"fast"'], ["", '"mail"', '"phone"']]
    entered = {"amount": "12.50", "note": "", "is_partial": "true", "channel": '"mail"', "items": '["a"]'}
    values = {f"values.{name}": value for name, value in entered.items()}
    await browser.submit(page, ".approval form", decision="approve", by="ann", **values)
    await engine.until_idle()
    expected = {"amount": 12.5, "note": "", "is_partial": True, "speed": "slow", "channel": "mail", "count": None}
    assert engine.run().output == [True, "ann", "", {**expected, "items": ["a"]}]


@pytest.mark.parametrize(
    ("entered", "field", "says"),
    [
        ({"values.amount": "many"}, "values.amount", "use a number, such as 7 or 0.5"),
        ({"values.amount": "-1"}, "values.amount", "less than or equal"),
        ({"values.amount": ""}, "values.amount", "a value is required"),
        ({"values.items": "a"}, "values.items", "expected JSON"),
        ({"values.items": '["a", 1]'}, "values.items", "not of type"),
        ({"by": " "}, "by", "name the person"),
        ({"comment": "x" * 10_001}, "comment", "at most 10,000"),
        ({"decision": "maybe"}, "", "choose Approve or Reject"),
    ],
)
async def test_what_is_wrong_is_beside_its_field(
    engine: VirtualEngine, entered: dict[str, str], field: str, says: str
) -> None:
    """The form keeps what was entered, and nothing is decided."""
    browser, page = await asked_page(engine, "refund")
    good = {"values.amount": "1", "values.is_partial": "true", "decision": "approve", "by": "ann"}
    again = await browser.submit(page, ".approval form", **{**good, **entered})
    assert again.status == 400
    assert says in again.texts("main form .note.is-bad")[0]
    assert [node.attributes["name"] for node in again.all("[aria-invalid]")] == ([field] if field else [])
    described = [node.attributes["aria-describedby"] for node in again.all("[aria-invalid]")]
    assert all(again.texts(f"#{each}") for each in described)
    assert again.all("[name='values.is_partial'] [selected]")[0].attributes["value"] == "true"
    await engine.until_idle()
    assert engine.run().status == "running"


async def test_a_value_may_have_any_name(engine: VirtualEngine) -> None:
    """Its field has its place as a name, and errors in it are beside it."""
    browser, page = await asked_page(engine, "odd")
    entered = {"decision": "approve", "by": "ann"}
    again = await browser.submit(page, ".approval form", **entered, **{"values.0": "1.5"})
    assert [node.attributes["name"] for node in again.all("[aria-invalid]")] == ["values.0"]
    await browser.submit(again, "main form", **entered, **{"values.0": "7"})
    await engine.until_idle()
    assert engine.run().output == [True, "ann", "", {"total": 7}]


async def test_other_forms_are_one_json_value(engine: VirtualEngine) -> None:
    """A schema without properties has a field for the whole value; a rejection needs none."""
    browser, page = await asked_page(engine, "wide")
    assert [node.attributes["name"] for node in page.all(".approval textarea")] == ["values", "comment"]
    again = await browser.submit(page, ".approval form", decision="approve", by="ann", values="[1]")
    assert "not of type" in again.texts("main form .note.is-bad")[0]
    await browser.submit(again, "main form", decision="reject", by="ann", values="[1]")
    await engine.until_idle()
    assert engine.run().output == [False, "ann", "", None]


async def test_a_named_visitor_answers_in_its_name(engine: VirtualEngine) -> None:
    """The name of the login is who decides; a reader sees what is asked, and has no form."""
    await engine.send(Event("refund", {}, id="r1"))
    browser = browser_of(engine, Keys("event", "api-key", "read-key"))
    page = await browser.submit(await browser.open("/ui/waiting"), "main form", key="api-key", user="ann")
    assert not page.all("[name=by]")
    assert "You decide as ann" in page.text
    await browser.submit(page, ".approval form", decision="approve")
    await engine.until_idle()
    assert engine.run().output == [True, "ann", "", None]
    await engine.send(Event("refund", {}, id="r2"))
    reader = browser_of(engine, Keys("event", "api-key", "read-key"))
    page = await reader.submit(await reader.open("/ui/waiting"), "main form", key="read-key")
    assert page.texts(".approval h2") == ["Refund r2?"]
    assert not page.all("main form")


async def test_an_approval_that_ended_says_how(engine: VirtualEngine) -> None:
    """Its page says that it expired or that the run was cancelled; an unknown one is 404."""
    browser, page = await asked_page(engine)
    path = page.link("Refund r1?")
    assert "Decide the approval ask" in (await browser.open(f"/ui/runs/{engine.run().run_id}")).text
    await engine.advance("3d")
    assert "It expired without an answer" in (await browser.open(path)).text
    await engine.send(Event("refund", {}, id="r2"))
    page = await browser.open("/ui/waiting")
    path = page.link("Refund r2?")
    await engine.cancel(path.split("/")[3])
    await engine.until_idle()
    assert "The run was cancelled" in (await browser.open(path)).text
    assert (await browser.open("/ui/approvals/a/b")).status == 404


async def test_the_first_kind_with_rows_is_shown(engine: VirtualEngine) -> None:
    """Each tab has its number; without anything that waits, the page opens on approvals."""
    browser = browser_of(engine)
    page = await browser.open("/ui/waiting")
    assert page.texts("#kinds li") == [f"{kind} 0" for kind in KINDS]
    assert page.texts("#kinds [aria-current]") == ["approvals 0"]
    await engine.send(*(Event("wait", {"id": number}, id=f"w{number}") for number in range(3)))
    page = await browser.open("/ui/waiting")
    assert page.texts("#kinds [aria-current]") == ["requests 3"]
    assert page.texts("#kinds li")[:5] == ["approvals 0", "requests 3", "signals 3", "events 3", "sleeping 3"]
    assert len(page.all("tbody tr")) == 3
    await engine.send(Event("refund", {}, id="r1"))
    page = await browser.open("/ui/waiting")
    assert page.texts("#kinds li")[:3] == ["approvals 1", "requests 3", "signals 3"]
    assert page.texts("#kinds [aria-current]") == ["approvals 1"]


KINDS = ("approvals", "requests", "signals", "events", "sleeping", "queued", "scheduled")


async def test_many_waits_are_counted_up_to_a_bound(engine: VirtualEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    """The number says that there may be more."""
    monkeypatch.setattr("stepstream.runtime.readmodel.queries.WAITING_MAX", 2)
    monkeypatch.setattr("stepstream.api.pages.waiting.waiting_page.WAITING_MAX", 2)
    await engine.send(*(Event("wait", {"id": number}, id=f"w{number}") for number in range(3)))
    assert (await browser_of(engine).open("/ui/waiting")).texts("#kinds li")[1:5] == [
        "requests 2+",
        "signals 2+",
        "events 2+",
        "sleeping 2+",
    ]


async def test_queued_and_scheduled_runs_are_listed(engine: VirtualEngine) -> None:
    """They have no step that waits: their tabs list the runs, on pages, with the time since which they wait."""
    await engine.send(*(Event("slow", {}, id=f"s{number}") for number in range(ROWS + 3)))
    later = engine.now_ms + 3_600_000
    await engine.send(Event("wait", {"id": 1}, id="w1", ts=later))
    browser = browser_of(engine)
    page = await browser.open("/ui/waiting")
    assert page.texts("#kinds li")[4:] == ["sleeping 1", f"queued {ROWS + 2}", "scheduled 1"]
    page = await browser.open(page.link(f"queued {ROWS + 2}"))
    second = await browser.open(page.link("Next page"))
    shown = [node.attributes["href"] for part in (page, second) for node in part.all("tbody .id")]
    assert len(set(shown)) == ROWS + 2
    (row,) = (await browser.open(page.link("scheduled 1"))).texts("tbody tr")
    assert [words for words in row.split(" ") if words.startswith("2026-")] == ["2026-01-01"] * 2


async def test_approvals_are_paged(engine: VirtualEngine) -> None:
    """The oldest are first, and each is on one page."""
    await engine.send(*(Event("refund", {}, id=f"r{number}") for number in range(APPROVALS + 5)))
    browser = browser_of(engine)
    page = await browser.open("/ui/waiting")
    later = await browser.open(page.link("Next page"))
    titles = [*page.texts(".approval h2"), *later.texts(".approval h2")]
    assert (len(titles), len(set(titles))) == (APPROVALS + 5, APPROVALS + 5)
    assert (await browser.open(later.link("First page"))).texts(".approval h2") == titles[:APPROVALS]
    assert "Next page" not in later.text


@pytest.mark.parametrize(
    ("kind", "columns"),
    [
        ("signals", ["go/w0", "wait", "signal"]),
        ("events", ["'parcel/left' with data.id = N", "wait", "event"]),
        ("sleeping", ["wait", "sleep"]),
        ("requests", ["wait", "request"]),
    ],
)
async def test_other_waits_are_listed(engine: VirtualEngine, kind: str, columns: list[str]) -> None:
    """Each kind has its steps on pages, with links to their runs; approvals are no signals here."""
    await engine.send(Event("refund", {}, id="r1"))
    await engine.send(*(Event("wait", {"id": number}, id=f"w{number}") for number in range(ROWS + 2)))
    browser = browser_of(engine)
    page = await browser.open((await browser.open("/ui/waiting")).link(f"{kind} {ROWS + 2}"))
    cells = [words for words in page.texts("tbody tr:first-child td") if not words.startswith(("…", "20"))]
    assert [re.sub(r"= \d+$", "= N", words) for words in cells] == columns
    later = await browser.open(page.link("Next page"))
    shown = [node.attributes["href"] for part in (page, later) for node in part.all("tbody .id")]
    assert (len(shown), len(set(shown))) == (ROWS + 2, ROWS + 2)
    assert (await browser.open(shown[0] or "")).texts(".heading h1") == ["wait"]


async def test_a_run_says_how_its_request_is_sent(engine: VirtualEngine) -> None:
    """The page of the run has no form that would send the signal of a request without what the API adds to it."""
    await engine.send(Event("wait", {"id": 1}, id="w1"))
    run_id = engine.run().run_id
    page = await browser_of(engine).open(f"/ui/runs/{run_id}")
    (why,) = (each for each in page.texts(".why") if "for the request 'request'" in each)
    assert f"POST /v1/runs/{run_id}/requests/request" in why
    assert [words for words in page.texts("summary") if words.startswith("Send the signal")] == [
        "Send the signal go/w1"
    ]


async def test_a_large_event_is_not_read_for_the_list(engine: VirtualEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    """The value that is waited for is missing then; an expression has "if" before it in any case."""
    monkeypatch.setattr(waiting, "EVENT_CHARACTERS_MAX", 10)
    await engine.send(Event("wait", {"id": 7}), Event("guess", {}))
    page = await browser_of(engine).open("/ui/waiting?kind=events")
    assert page.texts("tbody td:first-child") == [
        "'guessed' if async.data.id > event.data.least",
        "'parcel/left' with the same data.id",
    ]


async def test_wrong_parameters_are_refused(engine: VirtualEngine) -> None:
    """An unknown kind is an error; a page after a step that is gone begins with the first one."""
    browser, _ = await asked_page(engine)
    assert "no nothing" not in (await browser.open("/ui/waiting?kind=signals&after=a/b")).text
    assert (await browser.open("/ui/waiting?after=gone/step")).texts(".approval h2") == ["Refund r1?"]
    page = await browser.open("/ui/waiting?kind=other")
    assert (page.status, "is not one of approvals" in page.text) == (400, True)
