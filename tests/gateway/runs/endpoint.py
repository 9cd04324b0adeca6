"""An app with an official SDK, as a script of answers: what it is asked is recorded."""

import asyncio
import hashlib
import json
from collections import defaultdict, deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, urlsplit

from msgspec.structs import replace

from stepstream.contract.functions import EventTrigger, FunctionRegistered
from stepstream.gateway.runs.app import RemoteApp
from stepstream.gateway.runs.function import RemoteFunction
from stepstream.gateway.runs.transport import NotCalled, Request, Response, Transport, Unreachable
from stepstream.testing import VirtualEngine

DISCOVERY = "step"
# The status of an answer that does not come, as the process stops.
NOT_CALLED = -1
FUNCTION = "demo-f"
Op = dict[str, Any]


def hashed(id: str) -> str:
    """Return the hash by which SDKs name a step."""
    return hashlib.sha1(id.encode()).hexdigest()  # noqa: S324 - the protocol says so


def op(kind: str, id: str, **fields: Any) -> Op:
    """Return an op about a step."""
    return {"op": kind, "id": hashed(id), "displayName": id, **fields}


def ran(id: str, data: Any = None, **fields: Any) -> Op:
    """Return the op of a step whose body ran."""
    return op("StepRun", id, data=data, **fields)


def planned(id: str, **fields: Any) -> Op:
    """Return the op of a step that is due to run."""
    return op("StepPlanned", id, **fields)


def failed(id: str, message: str = "boom", *, kind: str = "StepError") -> Op:
    """Return the op of a step whose body raised."""
    return op(kind, id, error={"name": "ValueError", "message": message, "stack": "…", "cause": {"message": "deep"}})


@dataclass(frozen=True)
class Scripted:
    """One answer; with `after` it comes when that is set."""

    status: int
    body: Any
    headers: Mapping[str, str] = field(default_factory=dict)
    after: asyncio.Event | None = None


def ops(*found: Op, after: asyncio.Event | None = None, **headers: str) -> Scripted:
    """Return the answer of code that did or asks for something."""
    return Scripted(206, list(found), _named(headers), after)


def returned(value: Any = None, *, after: asyncio.Event | None = None) -> Scripted:
    """Return the answer of code that returned."""
    return Scripted(200, value, after=after)


def raised(message: str = "oops", status: int = 500, **headers: str) -> Scripted:
    """Return the answer of code that raised."""
    return Scripted(status, {"name": "TypeError", "message": message, "stack": "…"}, _named(headers))


def _named(headers: Mapping[str, str]) -> dict[str, str]:
    return {name.replace("_", "-"): value for name, value in headers.items()}


@dataclass(frozen=True)
class Asked:
    """A call: the step, the attempt, whether code must plan steps, and the ids of the memos in their order."""

    step: str
    attempt: int
    parallel: bool
    memos: Sequence[str]
    body: Any
    headers: Mapping[str, str]
    url: str

    @property
    def generation(self) -> int:
        """The number of the call, which SDKs repeat in checkpoints."""
        return int(self.headers["X-Inngest-Generation-ID"])


class FakeEndpoint:
    """Answers calls from scripts: those for discovery in order, and those for a step in order, by its id."""

    def __init__(self, *discoveries: Scripted, version: int = 2, sdk: str = "inngest-py:v0.5.19", **steps: Any) -> None:
        self.asked: list[Asked] = []
        self.cancelled: list[str] = []
        self.requests: list[Request] = []
        self._version = version
        self._sdk = sdk
        self._names: dict[str, str] = {DISCOVERY: DISCOVERY}
        self._scripts: dict[str, deque[Scripted]] = defaultdict(deque)
        self.add(*discoveries, **steps)

    def add(self, *discoveries: Scripted, **steps: Scripted | Iterable[Scripted]) -> None:
        """Append answers."""
        self._scripts[DISCOVERY] += discoveries
        for id, answers in steps.items():
            self._scripts[hashed(id)] += [answers] if isinstance(answers, Scripted) else list(answers)

    @property
    def log(self) -> list[str]:
        """The calls in words: step, attempt if not the first, `+` if code must plan, and the number of memos."""
        return [
            f"{each.step}{f'#{each.attempt}' * bool(each.attempt)}{'+' * each.parallel}/{len(each.memos)}"
            for each in self.asked
        ]

    @property
    def is_done(self) -> bool:
        """Whether every answer was given."""
        return not any(self._scripts.values())

    async def request(self, request: Request) -> Response:
        """Answer a request that the gateway makes for the app, by the scripts of "fetch"."""
        self.requests.append(request)
        answer = self._scripts[hashed("fetch")].popleft()
        return Response(answer.status, answer.headers, json.dumps(answer.body).encode())

    async def post(self, url: str, headers: Mapping[str, str], body: bytes) -> Response:
        """Answer a call."""
        (target,) = parse_qs(urlsplit(url).query)["stepId"]
        content = json.loads(body)
        context = content["ctx"]
        self._note(content)
        step = self._names.get(target, target)
        flag, stack = context["disable_immediate_execution"], context["stack"]["stack"]
        memos = [self._names.get(memo, memo) for memo in stack]
        self.asked.append(Asked(step, context["attempt"], flag, memos, content, headers, url))
        script = self._scripts[target]
        if not script:
            raise Unreachable("the script has no more answers")
        answer = script.popleft()
        if answer.after is not None:
            try:
                await answer.after.wait()
            except asyncio.CancelledError:
                self.cancelled.append(step)
                raise
        if answer.status == NOT_CALLED:
            raise NotCalled
        if answer.status == 0:
            raise Unreachable(str(answer.body))
        self._note(answer.body)
        known = {"X-Inngest-Sdk": self._sdk, "X-Inngest-Req-Version": str(self._version)}
        return Response(answer.status, {**known, **answer.headers}, json.dumps(answer.body).encode())

    def _note(self, content: Any) -> None:
        for each in content if isinstance(content, list) else ():
            self._names[each["id"]] = each.get("displayName") or each["id"]


def registered(id: str = FUNCTION, *, retries: int = 4, event: str = "demo/go", **more: Any) -> FunctionRegistered:
    """Return the registration of a function of the app `demo`."""
    return FunctionRegistered(id, "demo", (EventTrigger(event),), retries=retries, **more)


def app_of(
    endpoint: Transport,
    *functions: FunctionRegistered,
    sdk: str = "py:v0.5.19",
    checkpoints: bool = True,
    gateway_url: str = "",
) -> RemoteApp:
    """Return the app `demo`, whose functions an endpoint executes."""
    app = RemoteApp("demo", endpoint)
    url = "http://app.test/api/inngest?fnId={}&stepId=step"
    found = functions or (registered(),)
    served = (replace(each, endpoint=url.format(each.id), sdk=sdk) for each in found)
    app.replace(RemoteFunction(each, checkpoints, inputs=checkpoints, gateway_url=gateway_url) for each in served)
    return app


def virtual(endpoint: Transport, *functions: FunctionRegistered, sdk: str = "py:v0.5.19", **options: Any) -> Any:
    """Return an engine in memory that serves the app `demo`."""
    return VirtualEngine(app_of(endpoint, *functions, sdk=sdk), **options)
