"""The scenario for the example of docs/streams.md."""

from stepstream import Event
from stepstream.testing import VirtualEngine
from tests.docs.scenarios import Scenarios

STREAMS = Scenarios("streams.md")


@STREAMS.shows("answer-question")
async def stream(engine: VirtualEngine) -> None:
    """The tokens are those of the answer, and all clients of the channel get it."""
    await engine.send(Event("question.asked", {"question": "life"}))
    run = engine.run()
    assert "".join(await engine.stream(run.run_id, "tokens")) == run.output == "The answer to life is 42."
    assert await engine.shared_stream("answers") == [{"run": run.run_id, "text": run.output}]


@STREAMS.shows("import-prices")
async def typed(engine: VirtualEngine) -> None:
    """The run publishes its progress, and the price on the channel of its currency."""
    await engine.send(Event("import.requested"))
    assert await engine.stream(engine.run().run_id, "progress") == [{"done": 1, "total": 2}, {"done": 2, "total": 2}]
    assert await engine.shared_stream("prices/EUR") == [0.92]
