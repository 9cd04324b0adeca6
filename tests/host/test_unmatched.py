"""An event from outside that matches nothing is reported in a line, with what to do about it."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from stepstream import App, CancelOn, Context, Event, on
from stepstream.contract.history import HistoryEntry
from stepstream.host.embedded import running_engine
from stepstream.host.settings import Settings
from stepstream.host.unmatched import UnmatchedEventReporter, near_names
from stepstream.sdk.event import to_record

app = App("shop")


@app.function(
    on("shop/order.created", if_="event.data.total > 0"), cancel_on=[CancelOn("shop/stop", match="data.order")]
)
async def fulfil_order(ctx: Context) -> None:
    """Wait for a payment of the same order."""
    await ctx.step.wait_for_event("paid", event="shop/paid", match="data.order", timeout="1h")


class Reports:
    """The reported lines, each of which can be awaited, and what sends the events."""

    def __init__(self) -> None:
        self.lines: asyncio.Queue[str] = asyncio.Queue()
        self.reporter: UnmatchedEventReporter | None = None
        self.until_idle: Callable[[], Awaitable[None]] | None = None

    def watch(self, entry: HistoryEntry) -> None:
        """Pass history to the reporter."""
        if self.reporter is not None:
            self.reporter.watch(entry)

    async def send(self, *events: Event) -> None:
        """Send events; return when everything that they cause has happened."""
        assert self.reporter is not None
        assert self.until_idle is not None
        await self.reporter.send([to_record(event) for event in events])
        await self.until_idle()

    async def line(self) -> str:
        """Return the next line."""
        async with asyncio.timeout(20):
            return await self.lines.get()


@asynccontextmanager
async def reporting(folder: Path) -> AsyncIterator[Reports]:
    """Run the app on disk with a reporter."""
    reports = Reports()
    async with running_engine(app, Settings(data_dir=folder), reports.watch) as (engine, backbone, index, _):
        report = reports.lines.put_nowait
        reports.reporter = UnmatchedEventReporter(engine.send, index, engine.functions, backbone.is_idle, report, app)
        reports.until_idle = engine.until_idle
        yield reports


ORDER = Event("shop/order.created", {"total": 1, "order": 7}, id="first")
NAMES = "'billing/*', 'shop/order.created', 'shop/paid', 'shop/stop'"
REASON = "nothing listens to that name; did you mean 'shop/order.created'?"
UNMATCHED = "starts no function and resumes no wait"


async def test_an_event_that_matches_nothing_is_reported(tmp_path: Path) -> None:
    """A wrong name gets similar ones, a condition that is false is shown, and a repeated id is named as such."""
    async with reporting(tmp_path) as reports:
        await reports.send(Event("shop/order.create", {"total": 1}))
        assert await reports.line() == (f"event 'shop/order.create' {UNMATCHED}: {REASON}")
        await reports.send(Event("shop/order.created", {"total": 0}))
        assert (await reports.line()).endswith(": fulfil-order: the condition event.data.total > 0 is false")
        assert reports.reporter is not None
        latest = [(event.name, event.reason.partition(":")[0]) for event in reports.reporter.unmatched()]
        assert latest == [("shop/order.created", "fulfil-order"), ("shop/order.create", REASON)]
        await reports.send(Event("shop/order.created", {"totl": 1}), Event("shop/order.created", {"total": "1"}))
        unmet = "fulfil-order: the condition event.data.total > 0 fails on this event: "
        assert {(await reports.line()).partition(f"{UNMATCHED}: ")[2] for _ in range(2)} == {
            unmet + "there is no field 'total' (below event)",
            unmet + "> does not take string and int",
        }
        await reports.send(ORDER)
        await reports.send(ORDER, Event("other"), Event("other"))
        lines = {await reports.line(), await reports.line()}
        assert lines == {
            f"event 'shop/order.created' {UNMATCHED}: an event with the id 'first' arrived before; "
            "each id starts a function once in 24 h",
            f"event 'other' {UNMATCHED}: nothing listens to that name; known names are {NAMES} (2 times)",
        }


async def test_an_event_that_matches_is_not_reported(tmp_path: Path) -> None:
    """An event that starts a run or resumes a wait makes no line; one that fits no wait of its name does."""
    async with reporting(tmp_path) as reports:
        await reports.send(ORDER)
        await reports.send(Event("shop/paid", {"order": 8}))
        assert (await reports.line()).endswith(
            "runs wait for that name, but for other data, or the event came before the wait"
        )
        await reports.send(Event("shop/paid", {"order": 7}), Event("shop/pay", {"order": 7}))
        assert "'shop/pay'" in await reports.line()
        assert reports.lines.empty()


async def test_an_event_that_cancels_a_run_is_not_reported(tmp_path: Path) -> None:
    """One that finds no run to cancel is, with the functions that it would cancel."""
    async with reporting(tmp_path) as reports:
        await reports.send(ORDER)
        await reports.send(Event("shop/stop", {"order": 7}))
        await reports.send(Event("shop/stop", {"order": 7}))
        assert (await reports.line()).endswith("it would cancel runs of fulfil-order, but no open run matches")
        assert reports.lines.empty()


REFUND = "shop/refunded"


async def later(ctx: Context) -> None:
    """Wait for a refund."""
    await ctx.step.wait_for_event("refund", event=REFUND, timeout="1h")


@app.function(on("billing/*"))
async def watch_billing(ctx: Context) -> None:
    """Wait in another function."""
    await later(ctx)


@pytest.mark.parametrize("name", ["shop/paid", REFUND])
async def test_an_event_before_its_wait_is_reported_as_early(tmp_path: Path, name: str) -> None:
    """A name that code waits for, even in a function that it calls, is not reported as unknown."""
    async with reporting(tmp_path) as reports:
        await reports.send(Event(name, {"order": 7}))
        line = await reports.line()
        assert "no run waits for that name now, and an event resumes only waits that are open when it arrives" in line
        assert "lookback=" in line
        await reports.send(Event("billing/x"), Event("bill/x"))
        assert "'bill/x'" in await reports.line()
        assert reports.lines.empty(), "a wildcard matches its event"


@pytest.mark.parametrize(
    ("known", "words"),
    [
        ([], "nothing listens to any event"),
        (["b/1", "b/2", "b/3", "b/4", "b/5", "b/6"], "known names are 'b/1', 'b/2', 'b/3', 'b/4', 'b/5', …"),
    ],
)
def test_at_most_five_names_are_listed(known: list[str], words: str) -> None:
    """If there is no name at all, the line says how to listen to one."""
    assert words in near_names("xyz", known)
