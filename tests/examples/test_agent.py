"""The example of a support agent: tools, an approval, tokens while they are written, and kills in between."""

import pytest
from agent import app, refunds

from stepstream import Event
from stepstream.testing import VirtualEngine
from stepstream.testing.crashes import Crash

MAIL = Event("mail.received", {"from": "ann@example.com", "text": "Order 7 arrived broken!"})
APPROVAL = "agent/approve/refund/refund"


@pytest.fixture(autouse=True)
def no_refunds() -> None:
    """Begin without refunds."""
    refunds.clear()


async def test_a_refund_waits_for_an_approval() -> None:
    """The tools are called at once; once a person approves, the answer is written to those who listen."""
    async with VirtualEngine(app, live_cache=False) as engine:
        await engine.send(MAIL)
        run = engine.run()
        assert {step.id for step in run.steps if step.status == "completed"} >= {
            "agent/tool/find_order/order",
            "agent/tool/read_rules/rules",
        }
        assert not refunds
        await engine.decide(APPROVAL, approved=True, by="sam")
        run = engine.run()
        assert run.output == "About order 7: we sent you 40 EUR."
        assert "".join(await engine.stream(run.run_id, "answer")).strip() == run.output
        assert run.usage
        assert run.usage.model == "script"
    assert refunds == [(7, 40)]


async def test_a_refused_refund_is_said_to_the_customer() -> None:
    """The reason of the person is in the answer."""
    async with VirtualEngine(app) as engine:
        await engine.send(MAIL)
        await engine.decide(APPROVAL, approved=False, by="sam", comment="Ask for a photo.")
        assert engine.run().output == "About order 7: sam refused. Ask for a photo."
    assert not refunds


async def test_kills_repeat_neither_the_refund_nor_the_answer() -> None:
    """A worker and an engine crash before and after the approval."""
    crashes = [
        Crash("worker", "after", "agent/model 1"),
        Crash("engine", "before", APPROVAL),
        Crash("worker", "after", "agent/tool/refund/refund"),
        Crash("engine", "after", "agent/model 3"),
    ]
    async with VirtualEngine(app, crashes=crashes) as engine:
        await engine.send(MAIL)
        await engine.decide(APPROVAL, approved=True)
        assert engine.run().output == "About order 7: we sent you 40 EUR."
    assert refunds == [(7, 40)]


async def test_an_order_that_is_missing_is_not_refunded() -> None:
    """The agent says so."""
    async with VirtualEngine(app) as engine:
        await engine.send(Event("mail.received", {"from": "bob", "text": "Where is order 8?"}))
        assert engine.run().output == "About order 8: There is no such order."
    assert not refunds
