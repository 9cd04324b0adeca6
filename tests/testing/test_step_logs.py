"""What runs log is kept with them: by step and attempt, once, within limits, and in every view of a run."""

import asyncio
import json
import logging
import threading
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any

import httpx
import pytest

from stepstream import App, Context, Event, on
from stepstream.api.http import make_api
from stepstream.contract.logs import LOG_BYTES_PER_ATTEMPT_MAX, LOG_LINES_PER_ATTEMPT_MAX, LogKey, LogLine, StepLogged
from stepstream.runtime.ports import LogError, NewRecord
from stepstream.runtime.worker.step_logs import StepLogs, append_logs
from stepstream.sdk.step_logs import StepLogHandler, catching
from stepstream.testing import VirtualEngine
from tests.api.pages.browsing import browser_of
from tests.fakes.facades import facade_of
from tests.fakes.waiting import until

logger = logging.getLogger("shop.orders")
app = App("shop")
HOSTILE = "<img src=x onerror=alert(1)>\x1b[31m\u202e\nsecond line"


async def charge(amount: int) -> int:
    """Log in the body of a step; an amount below 0 fails at first."""
    logger.info("charging %d", amount)
    await asyncio.sleep(0)
    logger.warning("charged")
    return amount


def pack() -> str:
    """Log in a plain body, which runs in a thread."""
    logger.info("packed in %s", threading.current_thread() is not threading.main_thread())
    return "ok"


@app.function(on("order"))
async def fulfil(ctx: Context) -> int:
    """Log between steps, in their bodies, and by `ctx.logger`."""
    logger.info("an order of %s", ctx.event.data["amount"])
    await ctx.step.run("charge", charge, ctx.event.data["amount"])
    ctx.logger.info("before the sleep")
    await ctx.step.sleep("nap", "1h")
    ctx.logger.info("after the sleep")
    await ctx.step.run("pack", pack)
    return 1


@app.function(on("flaky"))
async def flaky(ctx: Context) -> None:
    """Fail once in a body, and once between steps."""

    def body() -> None:
        logger.info("body")
        if len(failures) == 0:
            failures.append(1)
            raise ValueError("once")

    await ctx.step.run("try", body)
    logger.info("code")
    if len(failures) == 1:
        failures.append(2)
        raise ValueError("again")


@app.function(on("plain"))
def plain(ctx: Any) -> None:
    """Log in a plain function."""
    logger.info("in a thread")
    ctx.step.sleep("nap", "1h")
    logger.info("later")


@app.function(on("chatty"))
async def chatty(ctx: Context) -> None:
    """Log what the event says, in one step."""

    def body() -> None:
        for number in range(ctx.event.data["lines"]):
            logger.info(ctx.event.data["text"] + str(number))

    await ctx.step.run("talk", body)


failures: list[int] = []


@pytest.fixture(autouse=True)
def info(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Let the root logger pass what is logged as info, as the processes of stepstream do."""
    failures.clear()
    with caplog.at_level(logging.INFO):
        yield


@pytest.fixture(params=[True, False], ids=["live", "replayed"])
async def engine(request: pytest.FixtureRequest) -> AsyncIterator[VirtualEngine]:
    """Yield an engine whose runs stay in memory while they wait, and one that runs their code again."""
    async with VirtualEngine(app, live_cache=request.param) as made:
        yield made


async def test_lines_belong_to_their_step(engine: VirtualEngine) -> None:
    """A line belongs to the step whose body logged it, in a thread too, or to the code between steps; none repeats."""
    await engine.send(Event("order", {"amount": 5}))
    await engine.advance("1h")
    run = engine.run()
    assert run.status == "completed"
    assert engine.logs(run.run_id, "charge") == ["charging 5", "charged"]
    assert engine.logs(run.run_id, "pack") == ["packed in True"]
    assert engine.logs(run.run_id, "") == ["an order of 5", "before the sleep", "after the sleep"]
    assert len(engine.logs(run.run_id)) == 6
    with pytest.raises(LookupError, match="no step 'other'"):
        engine.logs(run.run_id, "other")


async def test_lines_of_plain_functions_are_kept_once(engine: VirtualEngine) -> None:
    """What a plain function logs is kept, once, although its code may run again."""
    await engine.send(Event("plain"))
    await engine.advance("1h")
    assert engine.logs(engine.run().run_id) == ["in a thread", "later"]


async def test_each_attempt_has_its_lines(engine: VirtualEngine) -> None:
    """Attempts of a step, and of the code between steps, differ in their number."""
    await engine.send(Event("flaky"))
    await engine.advance("1h")
    run = engine.run()
    assert run.status == "completed"
    lines = engine.index.logs(run.run_id)
    found = [(line.text, line.attempt, line.step != "") for line in lines]
    assert found == [("body", 0, True), ("body", 1, True), ("code", 0, False), ("code", 1, False)]


async def test_logs_of_an_attempt_are_bounded(engine: VirtualEngine) -> None:
    """An attempt has at most so many lines and bytes; a last line says how many were dropped."""
    await engine.send(Event("chatty", {"lines": LOG_LINES_PER_ATTEMPT_MAX + 5, "text": "x"}))
    lines = engine.logs(engine.run().run_id)
    assert len(lines) == LOG_LINES_PER_ATTEMPT_MAX + 1
    assert lines[-1].startswith("5 more lines were dropped")


async def test_large_lines_are_bounded(engine: VirtualEngine) -> None:
    """A long line is cut, and lines beyond the bytes of an attempt are dropped."""
    await engine.send(Event("chatty", {"lines": 100, "text": "y" * 10_000}))
    lines = engine.logs(engine.run().run_id)
    assert "… (10,001 characters)" in lines[0]
    assert sum(map(len, lines)) < LOG_BYTES_PER_ATTEMPT_MAX
    assert "more lines were dropped" in lines[-1]


async def test_logs_are_served_as_json(engine: VirtualEngine) -> None:
    """The API returns lines of a run or of a step, continues after a line, and refuses what is not of a line."""
    await engine.send(Event("order", {"amount": 5}))
    run_id = engine.run().run_id
    api = make_api(facade_of(engine.engine), engine.index, lambda: b"")
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=api), base_url="http://localhost") as client:
        path = f"/v1/runs/{run_id}/logs"
        lines = (await client.get(path)).json()["lines"]
        assert [line["text"] for line in lines] == ["an order of 5", "charging 5", "charged", "before the sleep"]
        assert {line["level"] for line in lines} == {"INFO", "WARNING"}
        rest = (await client.get(path, params={"after": lines[1]["after"]})).json()["lines"]
        assert rest == lines[2:]
        of_step = (await client.get(path, params={"step": lines[1]["step"]})).json()["lines"]
        assert of_step == lines[1:3]
        assert (await client.get(path, params={"step": "", "limit": 1})).json()["lines"] == lines[:1]
        refused = await client.get(path, params={"after": "x"})
        assert (refused.status_code, refused.json()["error"]["field"]) == (400, "after")
        assert (await client.get("/v1/runs/01HZZZZZZZZZZZZZZZZZZZZZZZ/logs")).status_code == 404


async def test_page_shows_hostile_lines_as_text(engine: VirtualEngine) -> None:
    """The page of a run shows its logs below each step, escaped, whatever was logged."""
    await engine.send(Event("chatty", {"lines": 1, "text": HOSTILE}))
    page = await browser_of(engine).open(f"/ui/runs/{engine.run().run_id}")
    assert page.texts("#logs ~ details summary") == ["Step talk : 1 line"]
    assert not page.all("img")
    (line,) = page.texts(".logs .text")
    assert "<img src=x onerror=alert(1)>" in line
    assert "\\u001b[31m" in line
    assert "\\u202e" in line


async def test_logs_go_with_their_run(engine: VirtualEngine) -> None:
    """Logs are dropped with their run."""
    await engine.send(Event("chatty", {"lines": 700, "text": "x"}))
    run_id = engine.run().run_id
    assert len(engine.index.logs(run_id)) == 700
    while engine.index.drop(engine.now_ms + 1):
        pass
    assert not engine.index.logs(run_id)


async def test_logs_that_cannot_be_written_are_lost() -> None:
    """A failure of the log loses lines and nothing else; later lines are written."""
    written: list[StepLogged] = []
    failing = [True]

    async def write(entries: Any) -> None:
        if failing.pop():
            raise LogError("no broker")
        written.extend(entries)

    failing = [False, True]
    logs = StepLogs(write, lambda: 7, 0)
    attempt = logs.attempt(LogKey("run", "step", 0))
    for text in ("first", "second"):
        attempt.add("INFO", "a", text)
        await logs.flush()
    assert [(line.at, line.number, line.text) for entry in written for line in entry.lines] == [(7, 1, "second")]


def test_nothing_is_caught_outside_of_runs() -> None:
    """The handler is installed while a process runs code, and ignores what is logged outside of it."""
    root = logging.getLogger()

    def installed() -> int:
        return sum(isinstance(each, StepLogHandler) for each in root.handlers)

    with catching(), catching():
        assert installed() == 1
        logger.info("outside")
    assert installed() == 0
    assert json.dumps(HOSTILE)


async def test_lines_are_written_after_an_unexpected_error() -> None:
    """It loses what it was to write, and not what is logged while it fails or later."""
    written: list[str] = []

    async def write(entries: Sequence[StepLogged]) -> None:
        if not written:
            written.append("failed")
            logs.attempt(LogKey("02", "", 0)).add("INFO", "shop", "meanwhile")
            raise AssertionError("Unrecognized partition")
        written.extend(entry.lines[0].text for entry in entries)

    logs = StepLogs(write, lambda: 1, 0)
    logs.attempt(LogKey("01", "", 0)).add("INFO", "shop", "lost")
    await until(lambda: not logs.pending and len(written) > 1)
    logs.attempt(LogKey("03", "", 0)).add("INFO", "shop", "later")
    await until(lambda: not logs.pending and len(written) > 2)
    assert written == ["failed", "meanwhile", "later"]


async def test_lines_with_invalid_text_lose_no_others() -> None:
    """The name of a logger has half of a surrogate pair: only the lines of that attempt are lost."""
    written: list[NewRecord] = []

    async def append(records: Sequence[NewRecord]) -> None:
        written.extend(records)

    lines = [(LogLine(1, 0, "INFO", name, "text"),) for name in ("shop.\ud800", "shop")]
    await append_logs(append, [StepLogged(f"0{index}", "", 0, "s", each) for index, each in enumerate(lines)])
    assert [record.key for record in written] == [b"01"]
