"""The events of a durable agent reach the encoders of front ends: text, tools, failed attempts and failed runs."""

import asyncio
import json
import shutil
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from ag_ui.core import Event as AgUiEvent
from pydantic import TypeAdapter
from pydantic_ai import Agent
from pydantic_ai.messages import ModelMessage
from pydantic_ai.models.function import AgentInfo, DeltaToolCall, DeltaToolCalls, FunctionModel
from pydantic_ai.ui import UIEventStream
from pydantic_ai.ui.ag_ui import AGUIEventStream
from pydantic_ai.ui.vercel_ai import VercelAIEventStream

from stepstream import App, Context, Event, StreamClient, on
from stepstream.ai.frontends import agent_events
from stepstream.ai.pydantic_ai import Durable
from tests.ai.agents import returns_of
from tests.client.serving import KEYS, engine_served
from tests.gateway.sdks.processes import install

CLIENT = Path(__file__).with_name("vercel")
TOOL = {"type": "tool-find_order", "toolCallId": "order", "state": "output-available"}


class Writer:
    """An agent that looks an order up and writes; the first `failures` of its answers are cut after two words."""

    def __init__(self, failures: int = 0) -> None:
        self.failures = failures
        self.app = App("writer")
        agent = Agent(FunctionModel(stream_function=self.answer, model_name="scripted"))

        @agent.tool_plain
        async def find_order(number: int) -> dict[str, int]:
            return {"total": number * 10}

        @self.app.function(on("go"), backoff="1s", retries=1)
        async def write(ctx: Context) -> str:
            return (await agent.run("go", capabilities=[Durable(ctx, events="events")])).output

    async def answer(self, messages: list[ModelMessage], _info: AgentInfo) -> AsyncIterator[str | DeltaToolCalls]:
        """Answer as a model."""
        if not returns_of(messages):
            yield {0: DeltaToolCall("find_order", '{"number": 7}', tool_call_id="order")}
            return
        for number, word in enumerate(("It ", "is ", "here.")):
            if number == 2 and self.failures:
                self.failures -= 1
                raise ConnectionError("the model hung up")
            yield word


async def sent(writer: Writer, encoder: UIEventStream[Any, Any, None, str]) -> list[str]:
    """Run the agent; return what is sent to a front end."""
    async with engine_served(writer.app) as (engine, url):
        await engine.send(Event("go"))
        await engine.advance("5m")
        async with StreamClient(url, api_key=KEYS.api) as client:
            events = agent_events(client.run(engine.run().run_id, "events"))
            return [line async for line in encoder.encode_stream(encoder.transform_stream(events))]


async def encoded(writer: Writer, encoder: UIEventStream[Any, Any, None, str]) -> list[Any]:
    """Run the agent; return what a front end reads."""
    lines = await sent(writer, encoder)
    return [json.loads(line.removeprefix("data: ")) for line in lines if "[DONE]" not in line]


def said(chunks: list[Any]) -> list[str]:
    """Return the texts that a client of Vercel AI shows."""
    texts: dict[str, str] = {}
    for chunk in chunks:
        if chunk["type"] == "text-delta":
            texts[chunk["id"]] = texts.get(chunk["id"], "") + chunk["delta"]
    return [*texts.values()]


async def test_vercel_ai_gets_text_and_tools() -> None:
    """The call of the tool, its result and the text are chunks of one message, in order."""
    chunks = await encoded(Writer(), VercelAIEventStream(sdk_version=6))
    kinds = [chunk["type"] for chunk in chunks]
    assert [kind for kind in dict.fromkeys(kinds) if not kind.endswith("delta")] == [
        "start",
        "start-step",
        "tool-input-start",
        "tool-input-available",
        "tool-output-available",
        "finish-step",
        "text-start",
        "text-end",
        "finish",
    ]
    (output,) = [chunk["output"] for chunk in chunks if chunk["type"] == "tool-output-available"]
    assert (said(chunks), output) == (["It is here."], {"total": 70})


async def test_ag_ui_accepts_each_event() -> None:
    """The package of the protocol reads them all; the run has its end."""
    events = await encoded(Writer(), AGUIEventStream(thread_id="t", run_id="r"))
    reader: TypeAdapter[Any] = TypeAdapter(AgUiEvent)
    kinds = [reader.validate_python(event).type.value for event in events]
    assert (kinds[0], kinds[-1]) == ("RUN_STARTED", "RUN_FINISHED")
    assert {"TOOL_CALL_START", "TOOL_CALL_RESULT", "TEXT_MESSAGE_START", "TEXT_MESSAGE_END"} <= {*kinds}
    assert "".join(event["delta"] for event in events if event["type"] == "TEXT_MESSAGE_CONTENT") == "It is here."


async def test_text_of_a_failed_attempt_ends_before_the_next() -> None:
    """The next attempt writes another part, whole, and each part is ended."""
    chunks = await encoded(Writer(failures=1), VercelAIEventStream(sdk_version=6))
    assert said(chunks) == ["It is ", "It is here."]
    kinds = [chunk["type"] for chunk in chunks]
    assert kinds.count("text-start") == kinds.count("text-end") == 2
    assert kinds.count("tool-output-available") == 1


async def test_a_failed_run_is_an_error_of_the_front_end() -> None:
    """The client sees the end of the part that was written, and the error."""
    chunks = await encoded(Writer(failures=10), VercelAIEventStream(sdk_version=6))
    assert [chunk["errorText"] for chunk in chunks if chunk["type"] == "error"] == [
        "the run of the agent ended as failed"
    ]


@pytest.mark.long
def test_the_package_of_vercel_ai_reads_the_stream(tmp_path: Path) -> None:
    """Its client makes one message of the tool and of the text of both attempts, and reports the error of a run."""
    folder = shutil.copytree(CLIENT, tmp_path / "client")
    install(folder, "npm", "ci")

    def read(failures: int) -> dict[str, Any]:
        lines = asyncio.run(sent(Writer(failures), VercelAIEventStream(sdk_version=6)))
        command = [str(shutil.which("node")), "read.mjs"]
        done = subprocess.run(command, cwd=folder, input="".join(lines), capture_output=True, text=True, check=True)
        seen: dict[str, Any] = json.loads(done.stdout)
        return seen

    once, failed = read(1), read(10)
    assert once["error"] == ""
    tool, *texts = [part for part in once["parts"] if part["type"] != "step-start"]
    assert tool == TOOL | {"input": {"number": 7}, "output": {"total": 70}}
    assert [(part["text"], part["state"]) for part in texts] == [("It is ", "done"), ("It is here.", "done")]
    assert failed["error"] == "the run of the agent ended as failed"
