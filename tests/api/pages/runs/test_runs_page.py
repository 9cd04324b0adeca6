"""The page of runs: filters in the URL, pages of a list, and finding a run by what was pasted."""

import pytest

from stepstream import App, Context, Event, on
from stepstream.api.pages.runs.filter_help import TERMS
from stepstream.runtime.readmodel.queries import QueryTooSlow, RunQueries
from stepstream.runtime.readmodel.search.filters import FIELDS, Filter
from stepstream.testing import VirtualEngine
from tests.api.pages.browsing import browser_of


async def test_runs_are_listed_newest_first(engine: VirtualEngine) -> None:
    """Each run has a row with its function, status, event and error; the numbers by status are links."""
    await engine.send(Event("order", {"amount": 5, "id": 1}))
    await engine.send(Event("order", {"amount": -1, "id": 2}))
    page = await browser_of(engine).open("/ui/runs")
    assert [words.split(" ")[1:3] for words in page.texts("tbody tr")] == [["fulfil", "failed"], ["fulfil", "sleeping"]]
    assert "ValueError: amount -1 is negative" in page.texts("tbody tr")[0]
    assert [words for words in page.texts(".tabs li") if not words.endswith(" 0")] == [
        "all",
        "running or waiting 1",
        "failed 1",
    ]


async def test_a_row_distinguishes_its_run() -> None:
    """By its attributes, else by the event and an id that is not a ULID; a run that is retried shows the error."""
    app = App("shop")

    def refuse() -> None:
        raise ConnectionError("bank is down\nand a second line")

    @app.function(on("order"), attributes={f"a{n}": f"event.data.n + {n}" for n in range(5)})
    async def charge(ctx: Context) -> None:
        await ctx.step.run("pay", refuse)

    @app.function(on("other"))
    async def other(_: Context) -> None:
        pass

    async with VirtualEngine(app) as engine:
        await engine.send(Event("order", {"n": 1}), Event("other", id="o-7"), Event("other", id="0" * 26))
        page = await browser_of(engine).open("/ui/runs")
        named = sorted(page.texts("tbody td:nth-child(4)"))
        assert named == ["a0: 1 , a1: 2 , a2: 3 and 2 more", "other", "other o-7"]
        assert [words for words in page.texts("tbody .error") if words] == ["ConnectionError: bank is down"]


async def test_a_filter_that_finds_nothing_says_what_it_searched(engine: VirtualEngine) -> None:
    """An unknown key is an attribute; the data of events is searched by an expression, to which a link leads."""
    await engine.send(Event("order", {"amount": -1, "id": "B6-727"}))
    browser = browser_of(engine)
    page = await browser.open("/ui/runs?filter=id_of_flight:x%27y")
    assert "id_of_flight was taken as the name of an attribute of runs." in page.text
    assert "cel:\"event.data.KEY == 'VALUE'\"" in page.text
    page = await browser.open("/ui/runs?filter=data.id%3DB6-727")
    page = await browser.open(page.link("cel:\"event.data.id == 'B6-727'\""))
    assert len(page.all("tbody tr[data-row]")) == 1


async def test_filter_help_has_each_key(engine: VirtualEngine) -> None:
    """Each key of filters is among the terms, and each term is a filter."""
    page = await browser_of(engine).open("/ui/runs")
    forms = page.texts("#filter-terms dt")
    assert len(forms) == len(TERMS)
    written = [form.replace("RUN_ID", "FK8ZDFSF").replace(": ", ":-1h ") for form in forms]
    found = {term.key for form in written for term in Filter.parse(form + "-1h" * form.endswith(":")).terms}
    assert found == {*FIELDS, "", "attr.order_id"}


async def test_filter_is_in_the_url(engine: VirtualEngine) -> None:
    """The field leads to a URL that shows the same list again; the numbers by status change that term only."""
    await engine.send(Event("order", {"amount": 5, "id": 1}), Event("order", {"amount": -1, "id": 2}), Event("loop"))
    browser = browser_of(engine)
    page = await browser.submit(await browser.open("/ui/runs"), ".filters", filter="function:fulfil status:running")
    assert page.path == "/ui/runs?filter=function%3Afulfil+status%3Arunning"
    assert [words.split(" ")[1:3] for words in page.texts("tbody tr")] == [["fulfil", "sleeping"]]
    assert page.all("input[name=filter]")[0].attributes["value"] == "function:fulfil status:running"
    assert page.texts("#statuses [aria-current]") == ["running or waiting 1"]
    failed = await browser.open(page.link("failed 1"))
    assert [words.split(" ")[1:3] for words in failed.texts("tbody tr")] == [["fulfil", "failed"]]
    assert len((await browser.open(failed.link("all"))).all("tbody tr")) == 2
    page = await browser.open(page.link("completed 0"))
    assert page.text.count("No run matches this filter") == 1
    page = await browser.open("/ui/runs?filter=cel:true")
    assert [words for words in page.texts("#statuses li") if words[-1].isdigit()] == []


async def test_a_row_says_what_its_run_does(engine: VirtualEngine) -> None:
    """A run that sleeps, waits, or is paused is not shown as running, and each can be asked for."""
    await engine.send(Event("order", {"amount": 5, "id": 1}))
    await engine.send(Event("parent"))
    browser, seen = browser_of(engine), list[str]()
    for length in ("0s", "1h", "2h"):
        await engine.advance(length)
        seen += (await browser.open("/ui/runs?function=fulfil")).texts("tbody td:nth-child(3)")
    assert seen[0].startswith("sleeping until 2026-")
    assert seen[1:] == ["waiting for event parcel/left", "waiting for signal approve/7"]
    assert (await browser.open("/ui/runs?function=parent")).texts("tbody td:nth-child(3)") == [
        "waiting for run of child"
    ]
    assert len((await browser.open("/ui/runs?filter=status:waiting")).all("tbody tr")) == 3
    page = await browser.open((await browser.open("/ui/runs?status=running")).link("sleeping"))
    assert not page.all("tbody tr")
    assert page.texts(".tabs [aria-current]") == ["running or waiting 3", "sleeping"]
    assert len((await browser.open(page.link("waiting"))).all("tbody tr")) == 3
    run = engine.run("fulfil")
    await browser.submit(await browser.open(f"/ui/runs/{run.run_id}"), "form[aria-label='Pause the run']")
    await engine.until_idle()
    page = await browser.open(f"/ui/runs/{run.run_id}")
    assert page.texts(".heading span")[0] == "paused waiting for signal approve/7"


async def test_links_with_a_parameter_for_each_key_remain(engine: VirtualEngine) -> None:
    """The parameters function, status, event_id and tail become terms of the filter."""
    await engine.send(Event("order", {"amount": 5, "id": 1}, id="o 1"), Event("loop"))
    page = await browser_of(engine).open("/ui/runs?function=fulfil&status=running&event_id=o+1")
    assert page.all("input[name=filter]")[0].attributes["value"] == 'status:running function:fulfil event_id:"o 1"'
    assert len(page.all("tbody tr")) == 1


async def test_a_slow_search_says_how_to_narrow_it(engine: VirtualEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    """The reason is beside the field, which keeps the filter."""

    async def search(*_: object, **__: object) -> None:
        raise QueryTooSlow

    monkeypatch.setattr(RunQueries, "search", search)
    page = await browser_of(engine).open("/ui/runs?filter=error:x")
    assert page.status == 400
    assert "narrow the filter" in page.texts("#filter-error")[0]
    assert page.all("#filter")[0].attributes["value"] == "error:x"


async def test_a_bounded_search_says_that_it_continues(engine: VirtualEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    """A search that stopped before the page was full says so and has a link, whose pages find the rest."""
    monkeypatch.setattr("stepstream.runtime.readmodel.search.search.EVALUATED_MAX", 2)
    await engine.send(*(Event("order", {"amount": -1, "id": number}) for number in range(3)))
    browser = browser_of(engine)
    page = await browser.open("/ui/runs?filter=cel:%22event.data.id+%3D%3D+0%22")
    assert "examined 2 runs" in page.text
    page = await browser.open(page.link("Older runs"))
    assert len(page.all("tbody tr")) == 1


async def test_older_runs_follow_on_further_pages(engine: VirtualEngine) -> None:
    """A page has 50 runs and a link to the next one, which keeps the filter; together they have each run once."""
    await engine.send(*(Event("order", {"amount": -1, "id": number}) for number in range(120)))
    browser = browser_of(engine)
    page, seen = await browser.open("/ui/runs?function=fulfil"), list[str]()
    sizes = []
    while True:
        rows = [row.attributes["id"] or "" for row in page.all("tbody tr")]
        seen += rows
        sizes.append(len(rows))
        if "Older runs" not in page.text:
            break
        page = await browser.open(page.link("Older runs"))
        assert "filter=function%3Afulfil" in page.path
    assert sizes == [50, 50, 20]
    assert len(set(seen)) == 120
    assert seen == sorted(seen, reverse=True)
    assert (await browser.open(page.link("Newest runs"))).all("tbody tr")[0].attributes["id"] == seen[0]


async def test_a_pasted_id_finds_its_run(engine: VirtualEngine) -> None:
    """A run is found by its id, the end of its id in any case, and the id of its event."""
    await engine.send(Event("order", {"amount": 5, "id": 1}, id="order-1"), Event("loop"))
    run_id = engine.run("fulfil").run_id
    browser = browser_of(engine)
    start = await browser.open("/ui/runs")
    for given in (f" {run_id} ", run_id[-6:].lower(), "order-1"):
        assert (await browser.submit(start, ".find", id=given)).path == f"/ui/runs/{run_id}"
    assert (await browser.submit(start, ".find", id="0" * 26)).status == 404


async def test_an_id_of_several_runs_finds_their_list(engine: VirtualEngine) -> None:
    """A text that several runs have leads to their list, a filter to what it finds, and any other to no run."""
    for number in range(3):
        await engine.send(Event("order", {"amount": -1, "id": number}, id=f"e {number}"))
    browser = browser_of(engine)
    start = await browser.open("/ui/runs")
    for given, rows in (("event:order", 3), ('event_id:"e 1"', 1), ('no "one', 0), ("", 3)):
        page = await browser.submit(start, ".find", id=given)
        assert page.status == 200
        assert len(page.all("tbody tr")) == rows


@pytest.mark.parametrize(
    ("query", "says", "selector"),
    [
        ("functoin=a", "unknown parameter 'functoin'", ".note"),
        ("before=x", "before 'x' is not a run id", ".note"),
        ("status=done", "'done' is not a status", "#filter-error"),
        ("tail=abc", "at least its last 6 characters", "#filter-error"),
        ("filter=staus:failed", "unknown key 'staus'", "#filter-error"),
        ("filter=event:%22a", "the closing quote is missing", "#filter-error"),
        ("filter=cel:+event.id", "write it in quotes, as cel:", "#filter-error"),
    ],
)
async def test_a_filter_that_is_wrong_is_refused(engine: VirtualEngine, query: str, says: str, selector: str) -> None:
    """A misspelled filter is an error that names it, beside its field, and not a list of all runs."""
    await engine.send(Event("loop"))
    page = await browser_of(engine).open(f"/ui/runs?{query}")
    assert page.status == 400
    assert says in page.texts(selector)[0]
    assert not page.all("tbody tr")


async def test_saved_views_need_the_script(engine: VirtualEngine) -> None:
    """Their part is hidden until the script fills it."""
    page = await browser_of(engine).open("/ui/runs?filter=error:x")
    assert ["hidden" in part.attributes for part in page.all("#views")] == [True]
    assert len(page.all("#views ul")) == len(page.all("#views form input[name=name]")) == 1


async def test_an_empty_list_says_what_to_do(engine: VirtualEngine) -> None:
    """Without a run the page says what starts one."""
    assert "No run yet: send an event" in (await browser_of(engine).open("/ui/")).text
