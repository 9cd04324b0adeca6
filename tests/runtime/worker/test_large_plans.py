"""A plan that is larger than a record is written as several records, waits first."""

import asyncio

from stepstream import App, Context, Event, on
from stepstream.contract.codec import encode
from stepstream.contract.inbox import StepsPlanned
from stepstream.contract.limits import MIB
from stepstream.contract.plans import SendPlan, WaitPlan
from stepstream.contract.topics import INBOX, TOPICS
from stepstream.runtime.ports import LogError
from stepstream.runtime.worker.worker import Worker
from tests.fakes.waiting import until
from tests.fakes.worker_log import FakeWorkerLog
from tests.runtime.worker.harness import options, serving, started

INBOX_BYTES_MAX = next(topic.message_bytes_max for topic in TOPICS if topic.name == INBOX)


class Strict(FakeWorkerLog):
    """A log that refuses records larger than the inbox allows."""

    async def append(self, routing_key: str, value: bytes) -> None:
        """Append a report."""
        if len(value) > INBOX_BYTES_MAX - MIB:
            raise LogError(f"a record of {len(value):,} bytes")
        await super().append(routing_key, value)


async def test_a_fan_out_larger_than_a_record_is_written_as_several() -> None:
    """A worker that cannot write a plan stops, and its successor would do the same again."""
    app, log = App("shop"), Strict(started())

    @app.function(on("go"))
    async def function(ctx: Context) -> None:
        events = [Event("out", {"text": "x" * 400_000})] * 35
        sends = [ctx.step.send_event(f"send-{index}", events) for index in range(4)]
        wait = ctx.step.wait_for_event("wait", event="answer", timeout="1h")
        body = ctx.step.run("body", lambda: None)
        await asyncio.gather(*sends, body, wait)

    async with serving(Worker(log, app, options())) as task:
        await until(lambda: log.committed or task.done())
        assert not task.done()
        assert all(isinstance(report, StepsPlanned) for report in log.reports)
        plans = [plan for report in log.reports for plan in report.plans]
        assert [type(plan) for plan in plans] == [WaitPlan] + [SendPlan] * 4
        assert [report.acknowledge for report in log.reports] == [False] * (len(log.reports) - 1) + [True]
        assert len(encode(log.reports)) > INBOX_BYTES_MAX
