"""Runs of which each answer is one that an official SDK gave: they end as they did when they were captured."""

import json
from collections import defaultdict, deque
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from stepstream import Event
from stepstream.gateway.runs.transport import Request, Response, Unreachable
from tests.gateway.exchanges import Exchange, names, read
from tests.gateway.runs.endpoint import registered, virtual

# Those that need no event, no other function and no checkpoint.
KINDS = (
    "three-steps",
    "parallel",
    "race",
    "errors",
    "nonretriable-step",
    "retry-after",
    "function-error*",
    "streaming",
)
CAPTURES = sorted({name for kind in KINDS for name in names(f"*-{kind}")} - {"js4-checkpointing-three-steps"})


class Captured:
    """Answers each call as the SDK did: those for discovery in order, and those for a step in order."""

    def __init__(self, calls: list[Exchange]) -> None:
        self._answers: dict[str, deque[Exchange]] = defaultdict(deque)
        for call in calls:
            self._answers[parameter(call, "stepId")].append(call)

    async def request(self, request: Request) -> Response:
        """Make no request: no capture needs one."""
        raise NotImplementedError(request.url)

    async def post(self, url: str, _headers: Mapping[str, str], body: bytes) -> Response:
        """Answer a call."""
        (step,) = parse_qs(urlsplit(url).query)["stepId"]
        if not self._answers[step]:
            raise Unreachable(f"no more answers for {step} with {json.loads(body)['ctx']['stack']}")
        call = self._answers[step].popleft()
        return Response(call.status, call.headers, call.answer_bytes)


def parameter(call: Exchange, name: str) -> str:
    """Return a query parameter of a call."""
    (value,) = parse_qs(urlsplit(str(call.fields["url"])).query)[name]
    return value


def output_of(calls: list[Exchange]) -> Any:
    """Return what the function returned, or ... if it failed."""
    answers = [(call.status, call.answer) for call in calls]
    answers += [(each["status"], _plain(each["body"])) for status, each in answers if status == 201]
    returned = [answer for status, answer in answers if status == 200]
    ops = [each for status, answer in answers if status == 206 for each in answer]
    returned += [each["data"] for each in ops if each["op"] == "RunComplete"]
    return returned[-1] if returned else ...


def _plain(body: Any) -> Any:
    return json.loads(body) if isinstance(body, str) else body


@pytest.mark.parametrize("name", CAPTURES)
async def test_a_captured_run_ends_as_it_did(name: str) -> None:
    """Each of its answers is needed, but for those of steps that lost a race."""
    every = [each for each in read(name) if each.is_call]
    calls = [each for each in every if parameter(each, "fnId") == parameter(every[0], "fnId")]
    context, event = calls[0].body["ctx"], calls[0].body["event"]
    endpoint = Captured(calls)
    async with virtual(endpoint, registered(retries=context["max_attempts"] - 1)) as engine:
        await engine.send(Event("demo/go", event["data"]))
        await engine.advance("365d")
        run = engine.run("demo-f")
    expected = output_of(calls)
    assert (run.status, run.output) == (("failed", None) if expected is ... else ("completed", expected)), run.error
