"""An event from outside that nobody hears is told in a line, with what to do about it."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from stepstream import App, Context, Event, on
from stepstream.contract.history import HistoryEntry
from stepstream.host.embedded import running_engine
from stepstream.host.settings import Settings
from stepstream.host.unmatched import UnmatchedEventReporter, near_names
from stepstream.sdk.event import to_record

app = App("shop")


@app.function(on("shop/order.created", if_="event.data.total > 0"))
async def fulfil_order(ctx: Context) -> None:
    """Wait for a payment of the same order."""
    await ctx.step.wait_for_event("paid", event="shop/paid", match="data.order", timeout="1h")


class Told:
    """The lines that were told; each can be waited for."""

    def __init__(self) -> None:
        self.lines: asyncio.Queue[str] = asyncio.Queue()
        self.door: UnmatchedEventReporter | None = None
        self.until_idle: Callable[[], Awaitable[None]] | None = None

    def watch(self, entry: HistoryEntry) -> None:
        """Hand on to the door."""
        if self.door is not None:
            self.door.watch(entry)

    async def send(self, *events: Event) -> None:
        """Send events through the door; return when all has happened that they cause."""
        assert self.door is not None
        assert self.until_idle is not None
        await self.door.send([to_record(event) for event in events])
        await self.until_idle()

    async def line(self) -> str:
        """Return the next line."""
        async with asyncio.timeout(20):
            return await self.lines.get()


@asynccontextmanager
async def listening(folder: Path) -> AsyncIterator[Told]:
    """Run the app on disk behind a door that listens."""
    told = Told()
    async with running_engine(app, Settings(data_dir=folder), told.watch) as (engine, backbone, index, _):
        told.door = UnmatchedEventReporter(engine, index, app, backbone.is_idle, told.lines.put_nowait)
        told.until_idle = engine.until_idle
        yield told


ORDER = Event("shop/order.created", {"total": 1, "order": 7}, id="first")
NAMES = "'billing/*', 'shop/order.created', 'shop/paid'"
UNHEARD = "starts no function and wakes no wait"


async def test_an_event_that_nobody_hears_is_told(tmp_path: Path) -> None:
    """A wrong name has its neighbours, a condition that fails is shown, a repeated id is said to be one."""
    async with listening(tmp_path) as told:
        await told.send(Event("shop/order.create", {"total": 1}))
        assert await told.line() == (
            f"event 'shop/order.create' {UNHEARD}: nothing listens to that name; did you mean 'shop/order.created'?"
        )
        await told.send(Event("shop/order.created", {"total": 0}))
        assert (await told.line()).endswith(": fulfil-order: the condition event.data.total > 0 does not hold")
        await told.send(Event("shop/order.created", {"totl": 1}), Event("shop/order.created", {"total": "1"}))
        unmet = "fulfil-order: the condition event.data.total > 0 cannot be told of this event: "
        assert {(await told.line()).partition(f"{UNHEARD}: ")[2] for _ in range(2)} == {
            unmet + "there is no field 'total' (below event)",
            unmet + "> does not take string and int",
        }
        await told.send(ORDER)
        await told.send(ORDER, Event("other"), Event("other"))
        lines = {await told.line(), await told.line()}
        assert lines == {
            f"event 'shop/order.created' {UNHEARD}: the id 'first' came before; each starts a function once in 24 h",
            f"event 'other' {UNHEARD}: nothing listens to that name, only to {NAMES} (2 times)",
        }


async def test_an_event_that_is_heard_is_not_told(tmp_path: Path) -> None:
    """What starts a run or wakes a wait makes no line; what fits no wait of its name does."""
    async with listening(tmp_path) as told:
        await told.send(ORDER)
        await told.send(Event("shop/paid", {"order": 8}))
        assert (await told.line()).endswith(
            "runs wait for that name, but their match= or if_= does not hold, or it came before they did"
        )
        await told.send(Event("shop/paid", {"order": 7}), Event("shop/pay", {"order": 7}))
        assert "'shop/pay'" in await told.line()
        assert told.lines.empty()


REFUND = "shop/refunded"


async def later(ctx: Context) -> None:
    """Wait for a refund."""
    await ctx.step.wait_for_event("refund", event=REFUND, timeout="1h")


@app.function(on("billing/*"))
async def watch_billing(ctx: Context) -> None:
    """Leave the wait to another."""
    await later(ctx)


@pytest.mark.parametrize("name", ["shop/paid", REFUND])
async def test_an_event_before_its_wait_is_told_as_such(tmp_path: Path, name: str) -> None:
    """What code waits for, be it in what it calls, is not said to be a name that nothing listens to."""
    async with listening(tmp_path) as told:
        await told.send(Event(name, {"order": 7}))
        line = await told.line()
        assert "no run waits for that name now, and an event wakes only those who wait when it comes" in line
        assert "lookback=" in line
        await told.send(Event("billing/x"), Event("bill/x"))
        assert "'bill/x'" in await told.line()
        assert told.lines.empty(), "a wildcard hears its event"


@pytest.mark.parametrize(
    ("known", "words"),
    [
        ([], "nothing listens to any event"),
        (["b/1", "b/2", "b/3", "b/4", "b/5", "b/6"], "only to 'b/1', 'b/2', 'b/3', 'b/4', 'b/5', …"),
    ],
)
def test_names_are_told_in_moderation(known: list[str], words: str) -> None:
    """No more than five names are told; without any, the remedy is."""
    assert words in near_names("xyz", known)
