"""The scenarios for the examples of docs/agents.md."""

from stepstream import Event
from stepstream.testing import VirtualEngine
from tests.docs.scenarios import Scenarios

AGENTS = Scenarios("agents.md")


@AGENTS.shows("triage")
async def infer(engine: VirtualEngine) -> None:
    """The answer is a value of the type, and the run has its tokens."""
    await engine.send(Event("mail.received", {"text": "my card was charged twice"}))
    run = engine.run("triage")
    assert run.output == {"team": "billing", "urgent": True}
    assert run.usage
    assert run.usage.input_tokens > 10


@AGENTS.shows("shout")
async def wrap(engine: VirtualEngine) -> None:
    """A rerun from the step gets the arguments that it states."""
    await engine.send(Event("text.written", {"text": "hi"}))
    first = engine.run("shout")
    assert first.output == "HI"
    again = await engine.rerun(first.run_id, from_step="complete", results={"complete/input": {"prompt": "hello"}})
    assert {run.run_id: run.output for run in engine.runs("shout")}[again] == "HELLO"


@AGENTS.shows("answer-complaint")
async def agent(engine: VirtualEngine) -> None:
    """The test model calls both tools; the run waits for the approval of one of them."""
    await engine.send(Event("complaint.received", {"text": "Order 7 is broken"}))
    run = engine.run("answer-complaint")
    (approval,) = [step.id for step in run.steps if step.id.startswith("agent/approve/refund/")]
    await engine.decide(approval, approved=True)
    run = engine.run("answer-complaint")
    assert "is refunded" in str(run.output)
    assert [step.id for step in run.steps if "/model" in step.id] == ["agent/model 1", "agent/model 2"]


@AGENTS.shows("answer")
async def limited(engine: VirtualEngine) -> None:
    """The text is published while it is written."""
    await engine.send(Event("question.asked", {"question": "why?"}))
    run = engine.run("answer")
    assert "".join(await engine.stream(run.run_id, "tokens")) == run.output


@AGENTS.shows("help-customer")
async def openai_agent(engine: VirtualEngine) -> None:
    """The run waits for the approval of the one call of its tool."""
    await engine.send(Event("card.lost", {"text": "I lost my card 7!"}))
    await engine.decide("agent/approve/lock_card/lock", approved=True)
    run = engine.run("help-customer")
    assert run.output == "It is locked."
    assert "card 7 is locked" in str([step.output for step in run.steps])


@AGENTS.shows("help-traveller")
async def langchain_agent(engine: VirtualEngine) -> None:
    """The run waits for the approval of the one call of its tool."""
    await engine.send(Event("trip.changed", {"text": "Cancel my trip 3!"}))
    await engine.decide("agent/approve/cancel_trip/cancel", approved=True)
    run = engine.run("help-traveller")
    assert run.output == "It is cancelled."
    assert "trip 3 is cancelled" in str([step.output for step in run.steps])


@AGENTS.shows("chat")
async def front_end(engine: VirtualEngine) -> None:
    """The run publishes the events of its agent, from the first request to the end of the text."""
    await engine.send(Event("chat.asked", {"text": "Where is order 7?"}))
    run = engine.run("chat")
    (approval,) = [step.id for step in run.steps if step.id.startswith("agent/approve/refund/")]
    await engine.decide(approval, approved=True)
    events = await engine.stream(run.run_id, "events")
    assert {event["event_kind"] for event in events} >= {"part_start", "function_tool_call", "function_tool_result"}
    assert events[-1]["event_kind"] == "part_end"
