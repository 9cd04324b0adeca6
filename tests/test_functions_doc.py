"""docs/functions.md: its examples are one file, and each function in it is run and does what the text says."""

import re
import sys
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from stepstream import App, Context, Event, on
from stepstream.host.loading import load_app
from stepstream.testing import VirtualEngine
from tests.tidy_rules import ROOT

TEXT = (ROOT / "docs" / "functions.md").read_text("utf-8")
Scenario = Callable[[VirtualEngine], Awaitable[None]]
SCENARIOS: dict[str, Scenario] = {}


@pytest.fixture(scope="module")
def guide(tmp_path_factory: pytest.TempPathFactory) -> App:
    """The app of all examples, one after the other in a file."""
    path = tmp_path_factory.mktemp("guide") / "functions_guide.py"
    path.write_text("\n\n".join(re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)), encoding="utf-8")
    return load_app(str(path))


@pytest.fixture
async def engine(guide: App) -> AsyncIterator[VirtualEngine]:
    """An engine that runs the examples."""
    async with VirtualEngine(guide) as made:
        yield made


def shows(*functions: str) -> Callable[[Scenario], Scenario]:
    """Take a scenario as what runs these functions of the document."""

    def keep(scenario: Scenario) -> Scenario:
        SCENARIOS.update(dict.fromkeys(functions, scenario))
        return scenario

    return keep


def test_every_function_has_a_scenario(guide: App) -> None:
    """No example stands in the document that is not run here."""
    assert {function.id for function in guide} == SCENARIOS.keys()


@shows("charge-order")
async def run(engine: VirtualEngine) -> None:
    """A result goes from step to step; an order without a total starts nothing."""
    await engine.send(Event("order.created", {"total": 5}), Event("order.created", {"total": 0}))
    assert engine.run("charge-order").output == "RECEIPT FOR 5"


@shows("render-film")
async def queue(engine: VirtualEngine) -> None:
    """The body of a queue is run by its workers."""
    await engine.send(Event("film.uploaded", {"film": "M"}))
    (step,) = engine.run("render-film").steps
    assert (step.detail, step.output) == ("queue gpu", "frames of M")


@shows("remind-of-trial")
async def sleep(engine: VirtualEngine) -> None:
    """It ends on the day that is named."""
    await engine.send(Event("trial.started"))
    await engine.advance("12d23h")
    assert engine.run("remind-of-trial").status == "running"
    await engine.advance("1h")
    assert engine.run("remind-of-trial").output == "it ends tomorrow"


@shows("await-payment")
async def wait(engine: VirtualEngine) -> None:
    """Only the payment of this order wakes it, and only one that is high enough settles it."""
    await engine.send(Event("order.placed", {"order_id": 1, "total": 5}))
    await engine.send(Event("order.paid", {"order_id": 2}), Event("order.paid", {"order_id": 1}))
    await engine.send(Event("bank.settled", {"order_id": 1, "total": 4}))
    await engine.send(Event("bank.settled", {"order_id": 1, "total": 6}))
    assert engine.run("await-payment").output == {"paid": True, "settled": 6}


@shows("await-courier")
async def lookback(engine: VirtualEngine) -> None:
    """A courier who came before the parcel was packed is seen."""
    await engine.send(Event("courier.arrived", {"gate": 3}))
    await engine.advance("30m")
    await engine.send(Event("parcel.packed", {"gate": 3}))
    assert engine.run("await-courier").output is True


@shows("approve-expense")
async def signal(engine: VirtualEngine) -> None:
    """The signal of the text is heard by the run that waits, and by nobody else."""
    assert not await engine.signal("approved/42")
    await engine.send(Event("expense.filed", {"id": 42}), Event("expense.filed", {"id": 43}))
    assert await engine.signal("approved/42", {"by": "ann"})
    await engine.advance("14d")
    assert {run.output for run in engine.runs("approve-expense")} == {"approved by ann", "nobody answered"}


@shows("announce-month")
async def send(engine: VirtualEngine) -> None:
    """Two events are sent by one step."""
    await engine.send(Event("month.closed", {"customers": ["a", "b"]}))
    assert engine.run("announce-month").output == 2


@shows("vat", "write-invoice")
async def invoke(engine: VirtualEngine) -> None:
    """The other function's result comes back."""
    await engine.send(Event("invoice.wanted", {"net": 100}))
    assert engine.run("write-invoice").output == 119
    assert engine.run("vat").output == 19


@shows("answer-ticket")
async def model(engine: VirtualEngine) -> None:
    """Each call is a step whose answer is kept."""
    await engine.send(Event("ticket.opened", {"question": "why"}))
    assert engine.run("answer-ticket").output == "why"


@shows("plan-trip")
async def gather(engine: VirtualEngine) -> None:
    """Results come in the order of the code."""
    await engine.send(Event("trip.asked", {"to": "Rome"}))
    assert engine.run("plan-trip").output == ["flight to Rome", "hotel in Rome", "Small", "Large"]


@shows("first-answer")
async def race(engine: VirtualEngine) -> None:
    """The first that settles wins, and the other is cancelled."""
    await engine.send(Event("offer.made", {"offer": 1}), Event("offer.made", {"offer": 2}))
    await engine.send(Event("offer.accepted", {"offer": 2}))
    await engine.advance("2d")
    runs = engine.runs("first-answer")
    assert {run.output for run in runs} == {"accepted", "too late"}
    assert all({step.status for step in run.steps} == {"completed", "cancelled"} for run in runs)


@shows("import-pages")
async def loop(engine: VirtualEngine) -> None:
    """An id that is used again is another step."""
    await engine.send(Event("import.asked", {"pages": ["a", "bb"]}))
    assert engine.run("import-pages").output == [1, 2, 4, 4]
    assert [step.id for step in engine.run("import-pages").steps][2:] == ["one more", "one more"]


@shows("write-report")
async def plain(engine: VirtualEngine) -> None:
    """A plain function goes on after the night."""
    await engine.send(Event("report.asked", {"numbers": [3, 1, 2]}))
    await engine.advance("8h")
    assert engine.run("write-report").output == "median 2"


@shows("keep-books")
async def triggers(engine: VirtualEngine) -> None:
    """It starts by any name below `billing/`, by another, and on Monday morning."""
    await engine.send(Event("billing/paid"), Event("refund.paid"), Event("billing"))
    await engine.advance("5d")
    outputs = Counter(run.output for run in engine.runs("keep-books"))
    assert outputs.keys() >= {"billing/paid", "refund.paid"}
    assert sum(outputs.values()) == 3


@shows("book-seat", "book-seat-on-failure")
async def failure(engine: VirtualEngine) -> None:
    """A final error is not tried again; one that says when is; what is not caught has its handler."""
    await engine.send(Event("seat.chosen", {"seat": "2B"}))
    await engine.advance("89s")
    assert engine.run("book-seat").status == "running"
    await engine.advance("1s")
    assert engine.run("book-seat").output == "2B"
    await engine.send(Event("seat.chosen", {"seat": "0X", "any": True}))
    assert {run.output for run in engine.runs("book-seat")} == {"2B", "1A"}
    await engine.send(Event("seat.chosen", {"seat": "0X"}))
    assert engine.run("book-seat-on-failure").output == "0X: there is no such seat"


@shows("ship-order", "ship-order-2")
async def versions(engine: VirtualEngine) -> None:
    """New orders go to the new code."""
    await engine.send(Event("order.packed"))
    await engine.advance("25h")
    assert engine.run("ship-order-2").output == "by air"
    assert not engine.runs("ship-order")


@shows("refund")
async def branch(engine: VirtualEngine) -> None:
    """The version of the event says which way a run goes."""
    await engine.send(Event("order.returned", {"total": 1}), Event("order.returned", {"total": 2}, v="2"))
    assert [run.output for run in engine.runs("refund")].count("1") == 1
    await engine.advance("1h")
    assert {run.output for run in engine.runs("refund")} == {"1", "2"}


@pytest.mark.parametrize("scenario", dict.fromkeys(SCENARIOS.values()), ids=lambda each: each.__name__)
async def test_each_example_does_what_the_text_says(engine: VirtualEngine, scenario: Scenario) -> None:
    """Each scenario sends what its functions wait for, and looks at what they return."""
    sys.modules["functions_guide"].__dict__["calls"].clear()
    await scenario(engine)


async def test_open_runs_of_an_old_version_end_as_they_began(guide: App, tmp_path: Path) -> None:
    """A run that the code before began under the old id goes on in it, without a warning; new ones take the new."""
    before = App("guide")

    @before.function(on("order.packed"), id="ship-order")
    async def ship_order(ctx: Context) -> str:
        await ctx.step.sleep("pack", "1d")
        return "by rail"

    async with VirtualEngine(before, data_dir=tmp_path) as engine:
        await engine.send(Event("order.packed"))
        now = engine.now_ms
    async with VirtualEngine(guide, data_dir=tmp_path, now_ms=now) as engine:
        await engine.send(Event("order.packed"))
        await engine.advance("25h")
        ended = engine.run("ship-order")
        assert (ended.output, ended.warnings) == ("by rail", ())
        assert engine.run("ship-order-2").output == "by air"
