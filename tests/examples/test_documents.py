"""The example of a document pipeline: 200 pages at once, the merging of what was found, and kills in between."""

from collections.abc import Sequence

import documents
import pytest
from documents import Expenses, app, merged, split

from stepstream import Event
from stepstream.testing import VirtualEngine
from stepstream.testing.crashes import Crash

PAGES = 200
UPLOADED = Event("report.uploaded", {"name": "expenses", "pages": PAGES})
REQUESTS = {
    *(f"page {number}" for number in range(1, PAGES + 1)),
    *(f"level 1 group {number}" for number in range(1, 11)),
    "level 2 group 1",
}


@pytest.fixture
def requests(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The requests to the model: of how many parts each is."""
    made: list[int] = []

    def count(parts: Sequence[Expenses]) -> Expenses:
        made.append(len(parts))
        return merged(parts)

    monkeypatch.setattr(documents, "merged", count)
    return made


def expected() -> dict[str, object]:
    """Return what a person would find in the report."""
    lines = [line for page in split("expenses", PAGES) for line in page.splitlines()]
    amounts = [int(line.split()[-2]) for line in lines]
    return {"total": sum(amounts), "receipts": len(lines), "largest": lines[amounts.index(max(amounts))]}


async def test_each_page_of_a_report_is_read_once(requests: list[int]) -> None:
    """So is each group merged once; the run shows how far it is, and each request has its tokens."""
    async with VirtualEngine(app) as engine:
        await engine.send(UPLOADED)
        await engine.advance("10m")
        run = engine.run()
        assert run.output == expected()
        assert run.state == {"progress": {"read": PAGES, "of": PAGES}}
        assert {step.id for step in run.steps if step.usage} == REQUESTS
        assert not run.warnings
    assert len(requests) == len(REQUESTS)


@pytest.mark.parametrize("live_cache", [True, False])
async def test_kills_repeat_no_page(requests: list[int], live_cache: bool) -> None:
    """Workers and engines crash while pages and groups ask for their tokens; each request is still made once."""
    crashes = [
        Crash("worker", "before", "page 30"),
        Crash("engine", "before", "page 100"),
        Crash("worker", "after", "page 200"),
        Crash("engine", "after", "level 1 group 4"),
        Crash("worker", "before", "level 2 group 1"),
    ]
    async with VirtualEngine(app, crashes=crashes, live_cache=live_cache) as engine:
        await engine.send(UPLOADED)
        await engine.advance("10m")
        run = engine.run()
        assert run.output == expected()
        assert not run.warnings
    assert len(requests) == len(REQUESTS)
