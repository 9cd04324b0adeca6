"""Agents of the OpenAI Agents SDK: requests to an API, errors, what is refused, and what a step stores."""

import importlib
import re
import sys
from typing import Any

import httpx2
import openai
import pytest
from agents import Agent, LocalShellTool, MultiProvider, RunConfig
from agents.exceptions import UserError
from agents.mcp import MCPServerStdio

from stepstream import App, Context, Event, on
from stepstream.ai.openai_agents import Durable
from stepstream.ai.openai_models import raise_for_step
from stepstream.runtime.readmodel.views import RunView
from stepstream.sdk.errors import NonRetriableError, RetryAfterError
from stepstream.testing import VirtualEngine

ANSWER = {
    "id": "resp_1",
    "object": "response",
    "created_at": 0,
    "model": "gpt-5",
    "status": "completed",
    "output": [
        {
            "id": "msg_1",
            "type": "message",
            "role": "assistant",
            "status": "completed",
            "content": [{"type": "output_text", "text": "hello", "annotations": []}],
        }
    ],
    "parallel_tool_calls": True,
    "tool_choice": "auto",
    "tools": [],
    "usage": {
        "input_tokens": 7,
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens": 2,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": 9,
    },
}


class Api:
    """An API of a provider that answers these statuses, one after the other."""

    def __init__(self, *statuses: int) -> None:
        self.statuses = [*statuses]
        self.requests = 0

    def answer(self, _request: Any) -> Any:
        """Answer a request."""
        status = self.statuses[self.requests]
        self.requests += 1
        return httpx2.Response(status, json=ANSWER if status == 200 else {"error": {"message": "no"}})

    def config(self) -> RunConfig:
        """Return a configuration of runs that ask the API."""
        client = openai.AsyncOpenAI(
            api_key="key", http_client=httpx2.AsyncClient(transport=httpx2.MockTransport(self.answer))
        )
        return RunConfig(model_provider=MultiProvider(openai_client=client), tracing_disabled=True)


async def run_of(agent: Agent[Any], config: RunConfig | None = None) -> RunView:
    """Run an agent in a run."""
    app = App("agents")

    @app.function(on("go"), retries=0)
    async def function(ctx: Context) -> str:
        result = await Durable(ctx, model=ctx.step.options(retries=3, backoff="1s")).run(agent, "go", run_config=config)
        await ctx.step.sleep("nap", "1m")
        return str(result.final_output)

    async with VirtualEngine(app, live_cache=False) as engine:
        await engine.send(Event("go"))
        await engine.advance("2m")
        return engine.run()


async def outcome_of(agent: Agent[Any], config: RunConfig | None = None) -> tuple[object, list[str]]:
    """Run an agent in a run; return its output and the messages of the failures of its steps, or that of the run."""
    run = await run_of(agent, config)
    failures = [failure.message for step in run.steps for failure in step.failures]
    return run.output, failures or [str(run.last_error.get("message", ""))]


async def test_only_the_step_retries_requests() -> None:
    """The client, which retries by default, makes one request in each attempt, and a replay makes none."""
    api = Api(500, 429, 200)
    output, failures = await outcome_of(Agent("support", model="gpt-5"), api.config())
    assert output == "hello"
    assert len(failures) == 2
    assert api.requests == 3


async def test_a_step_of_openai_has_the_price_of_its_model() -> None:
    """It is known by the name of the model that was asked."""
    run = await run_of(Agent("support", model="gpt-5"), Api(200).config())
    assert run.usage
    assert 0 < run.usage.cost_usd < 1


async def test_a_refused_request_is_not_retried() -> None:
    """A wrong key stays wrong."""
    api = Api(401)
    output, (failure,) = await outcome_of(Agent("support", model="gpt-5"), api.config())
    assert (output, api.requests) == (None, 1)
    assert failure.startswith("AuthenticationError")


async def test_a_client_without_a_key_is_a_final_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither a retry nor another worker helps."""
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    _, (failure,) = await outcome_of(Agent("support", model="gpt-5"))
    assert "OPENAI_API_KEY" in failure


def http_error(status: int, **headers: str) -> openai.APIStatusError:
    """Return the error of a client."""
    answer = httpx2.Response(status, headers=headers, request=httpx2.Request("POST", "http://test"))
    return openai.APIStatusError("no", response=answer, body=None)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (http_error(400), NonRetriableError),
        (http_error(409), openai.APIStatusError),
        (http_error(429), openai.APIStatusError),
        (http_error(503), openai.APIStatusError),
        (http_error(429, **{"retry-after": "7"}), RetryAfterError),
        (http_error(429, **{"retry-after": "tomorrow"}), openai.APIStatusError),
        (UserError("no such provider"), NonRetriableError),
        (ImportError("install litellm"), NonRetriableError),
    ],
)
def test_errors_of_openai_say_whether_to_retry(error: Exception, expected: type[Exception]) -> None:
    """A refused request is final, one with a time to wait is repeated then, and any other by the back-off."""
    with pytest.raises(expected) as caught:
        raise_for_step(error)
    if isinstance(caught.value, RetryAfterError):
        assert caught.value.delay_ms(0) == 7_000


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"tools": [LocalShellTool(executor=lambda _: "")]}, "'local_shell' .* is no step; use a function tool"),
        ({"mcp_servers": [MCPServerStdio({"command": "none"})]}, "has MCP servers, whose calls are no steps"),
    ],
)
async def test_calls_outside_of_steps_are_refused(options: dict[str, Any], reason: str) -> None:
    """Each replay would repeat them."""
    _, (failure,) = await outcome_of(Agent("support", **options))
    assert re.search(reason, failure)


async def test_a_missing_package_of_openai_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    """The message says how to install it."""
    for name in [name for name in sys.modules if name.startswith("stepstream.ai")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "agents", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'stepstream\[openai-agents\]'"):
        importlib.import_module("stepstream.ai.openai_agents")
