"""What runs publish is written in batches and in order; a full queue holds up the code, and a failure reaches it."""

import asyncio
from collections.abc import Sequence

import pytest

from stepstream import App, Context, Event, on
from stepstream.contract.codec import Raw
from stepstream.contract.errors import InvalidInput, NotPublished
from stepstream.contract.limits import LIVE_DATA_BYTES_MAX
from stepstream.contract.live import Published, decode_published, run_stream
from stepstream.runtime.ports import LogError, NewRecord
from stepstream.runtime.worker.publisher import LivePublisher
from stepstream.testing import Crash, VirtualEngine
from tests.fakes.waiting import iterate


class Topic:
    """A log that writes when the test lets it, and fails as often as the test says."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.failures = 0
        self.error: Exception = LogError("no broker")
        self.open = asyncio.Event()

    async def append(self, records: Sequence[NewRecord]) -> None:
        """Write a batch."""
        await self.open.wait()
        if self.failures:
            self.failures -= 1
            raise self.error
        self.batches.append([decode_published(record.value).number for record in records])


def message(number: int) -> Published:
    """Return a message with a number."""
    return Published("run", "c", "", "", 0, "e", number, 0, Raw(b'"x"'))


async def test_a_full_queue_holds_up_the_code() -> None:
    """While a batch is written the next one fills; beyond its bytes, code waits for room."""
    topic = Topic()
    publisher = LivePublisher(topic.append, 1, bytes_max=1_000)
    sent: list[int] = []

    async def send() -> None:
        for number in range(10):
            await publisher.room()
            publisher.add("run", message(number))
            sent.append(number)
            await asyncio.sleep(0)

    sending = asyncio.ensure_future(send())
    await iterate(50)
    held = len(sent)
    assert 0 < held < 10
    assert publisher.pending
    topic.open.set()
    await sending
    await publisher.flush()
    assert not publisher.pending
    assert [number for batch in topic.batches for number in batch] == list(range(10))
    assert len(topic.batches) < 10


@pytest.mark.parametrize("error", [LogError("no broker"), RuntimeError("a bug")])
@pytest.mark.parametrize(("failures", "is_written"), [(2, True), (3, False)])
async def test_a_failed_write_is_repeated_a_few_times(failures: int, is_written: bool, error: Exception) -> None:
    """A write whose outcome is unknown is repeated; then its messages are lost, and who waits for them learns it."""
    topic = Topic()
    topic.failures, topic.error = failures, error
    topic.open.set()
    publisher = LivePublisher(topic.append, 1)
    written = publisher.add("run", message(0))
    await publisher.flush()
    assert topic.batches == ([[0]] if is_written else [])
    assert isinstance(written.exception(), NotPublished) is not is_written
    assert (publisher.published, publisher.failed) == ((1, 0) if is_written else (0, 1))
    publisher.add("run", message(1))
    await publisher.flush()
    assert topic.batches[-1] == [1]


async def test_an_attempt_whose_messages_are_lost_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    """A body has its result once its messages are durable; the next attempt publishes them again."""
    app = App("shop")

    @app.function(on("go"))
    async def function(ctx: Context) -> None:
        async def body() -> str:
            await ctx.publish("a", 1)
            return "done"

        await ctx.step.options(backoff="1s").run("body", body)
        await ctx.publish("a", 2)

    async with VirtualEngine(app) as engine:
        live, failures = engine.engine.live, [1] * 3
        publish = live.publish

        async def failing(records: Sequence[NewRecord]) -> None:
            if failures:
                failures.pop()
                raise LogError("no broker")
            await publish(records)

        monkeypatch.setattr(engine.engine._publisher, "_append", failing)
        await engine.send(Event("go"))
        run = engine.run()
        (step,) = run.steps
        assert "could not be written: no broker" in str(step.error)
        await engine.advance("1s")
        assert engine.run().status == "completed"
        sent = await engine.published(run_stream(run.run_id))
        assert [(each.step_id, each.attempt) for each in sent] == [("body", 1), ("", 0)]


async def test_a_body_that_is_executed_again_replaces_its_messages() -> None:
    """A worker that takes over repeats the attempt; clients show the messages of the later execution."""
    app, executions = App("shop"), list[int]()

    @app.function(on("go"))
    async def function(ctx: Context) -> None:
        async def body() -> None:
            executions.append(len(executions))
            for number in range(3):
                await ctx.publish("a", f"{executions[-1]}.{number}")

        await ctx.step.run("body", body)

    async with VirtualEngine(app, crashes=[Crash("worker", "before", "body")]) as engine:
        await engine.send(Event("go"))
        run_id = engine.run().run_id
        assert await engine.stream(run_id) == ["1.0", "1.1", "1.2"]
        sent = await engine.published(run_stream(run_id))
        assert [(each.attempt, each.number) for each in sent] == 2 * [(0, 0), (0, 1), (0, 2)]
        assert len({each.execution for each in sent}) == 2


async def test_what_a_replay_cannot_place_is_sent_again() -> None:
    """While several tasks run, a replay sends messages again; clients show each once, and those that follow."""
    app = App("shop")

    @app.function(on("go"))
    async def function(ctx: Context) -> None:
        async def branch(name: str) -> None:
            await ctx.step.run(name, lambda: None)
            await ctx.publish("a", name)

        await ctx.publish("a", "first")
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(branch("b"))
            tasks.create_task(branch("c"))
        await ctx.publish("a", "joined")
        await ctx.step.sleep("nap", "1h")
        await ctx.publish("a", "last")

    async with VirtualEngine(app, live_cache=False) as engine:
        await engine.send(Event("go"))
        await engine.advance("1h")
        run_id = engine.run().run_id
        shown = await engine.stream(run_id)
        assert (shown[0], sorted(shown[1:3]), shown[3:]) == ("first", ["b", "c"], ["joined", "last"])
        sent = [bytes(each.data) for each in await engine.published(run_stream(run_id))]
        assert sent.count(b'"first"') == 1
        assert sent.count(b'"last"') == 1


async def test_wrong_messages_are_refused_where_they_are_published() -> None:
    """The error says what is wrong and what to do."""
    app, errors = App("shop"), list[str]()

    @app.function(on("go"))
    async def function(ctx: Context) -> None:
        for channel, data in (("a", "x" * LIVE_DATA_BYTES_MAX), ("", 1), ("a", object())):
            for publish in (ctx.publish, lambda *given: ctx.step.publish("step", *given)):
                try:
                    await publish(channel, data)
                except InvalidInput as error:
                    errors.append(str(error))

    async with VirtualEngine(app) as engine:
        await engine.send(Event("go"))
        assert engine.run().status == "completed"
    assert errors[::2] == errors[1::2]
    assert errors[0] == (
        "channel 'a': the data has 262,146 bytes, and a message at most 262,144; "
        "publish it in parts, or publish where it is stored"
    )
    assert "1 to 256 characters" in errors[2]
    assert "is not JSON" in errors[4]
