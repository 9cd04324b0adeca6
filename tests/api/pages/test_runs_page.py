"""The page of runs: filters in the URL, pages of a list, and finding a run by what was pasted."""

import pytest

from stepstream import Event
from stepstream.testing import VirtualEngine
from tests.api.pages.browsing import browser_of


async def test_runs_are_listed_newest_first(engine: VirtualEngine) -> None:
    """Each run has a row with its function, status, event and error; the numbers by status are links."""
    await engine.send(Event("order", {"amount": 5, "id": 1}))
    await engine.send(Event("order", {"amount": -1, "id": 2}))
    page = await browser_of(engine).open("/ui/runs")
    assert [words.split(" ")[1:3] for words in page.texts("tbody tr")] == [["fulfil", "failed"], ["fulfil", "running"]]
    assert "ValueError: amount -1 is negative" in page.texts("tbody tr")[0]
    assert [words for words in page.texts(".tabs li") if not words.endswith(" 0")] == ["all", "running 1", "failed 1"]


async def test_filter_is_in_the_url(engine: VirtualEngine) -> None:
    """The form of the filters leads to a URL that shows the same list again, with the fields filled."""
    await engine.send(Event("order", {"amount": 5, "id": 1}), Event("loop"))
    browser = browser_of(engine)
    page = await browser.submit(await browser.open("/ui/runs?status=running"), ".filters", function="fulfil")
    assert {"status=running", "function=fulfil"} <= set(page.path.removeprefix("/ui/runs?").split("&"))
    assert [words.split(" ")[1] for words in page.texts("tbody tr")] == ["fulfil"]
    assert page.all("input[name=function]")[0].attributes["value"] == "fulfil"
    page = await browser.open(page.link("completed 1"))
    assert page.text.count("No run matches these filters") == 1


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
        assert "function=fulfil" in page.path
    assert sizes == [50, 50, 20]
    assert len(set(seen)) == 120
    assert seen == sorted(seen, reverse=True)
    assert (await browser.open(page.link("Newest runs"))).all("tbody tr")[0].attributes["id"] == seen[0]


async def test_a_pasted_id_finds_its_run(engine: VirtualEngine) -> None:
    """A run is found by its id, by the end of its id in any case, and by the id of its event."""
    await engine.send(Event("order", {"amount": 5, "id": 1}, id="order-1"))
    run_id = engine.run().run_id
    browser = browser_of(engine)
    start = await browser.open("/ui/runs")
    assert (await browser.submit(start, ".find", id=f" {run_id} ")).path == f"/ui/runs/{run_id}"
    for given in (run_id[-6:].lower(), "order-1"):
        page = await browser.submit(start, ".find", id=given)
        assert [row.attributes["id"] for row in page.all("tbody tr")] == [f"run-{run_id}"]


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ("functoin=a", "unknown parameter 'functoin'"),
        ("status=done", "status 'done' is not one of"),
        ("before=x", "before 'x' is not a run id"),
        ("tail=abc", "at least 6 characters"),
    ],
)
async def test_a_filter_that_cannot_match_is_refused(engine: VirtualEngine, query: str, says: str) -> None:
    """A misspelled filter is an error that names it, and not a list of all runs."""
    page = await browser_of(engine).open(f"/ui/runs?{query}")
    assert page.status == 400
    assert says in page.text


async def test_an_empty_list_says_what_to_do(engine: VirtualEngine) -> None:
    """Without a run the page says what starts one."""
    assert "No run yet: send an event" in (await browser_of(engine).open("/ui/")).text
