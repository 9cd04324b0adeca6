"""An app whose function is a sequence of stages, answering calls by the rules that the official SDKs follow."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import parse_qs, urlsplit

from stepstream.gateway.runs.transport import Request, Response
from tests.gateway.runs.endpoint import DISCOVERY, Op, hashed, op, planned, ran

# What a stage may have beside steps, by the beginning of its id.
OTHERS: Mapping[str, Mapping[str, Any]] = {
    "nap": {"op": "Sleep", "name": "1m"},
    "wait": {"op": "WaitForEvent", "name": "demo/reply", "opts": {"timeout": "1h"}},
}


class Program:
    """Stages of steps by id: those of one stage are parallel. `ran` counts how often each body ran."""

    def __init__(self, *stages: Sequence[str], version: int = 2) -> None:
        self._stages = stages
        self._version = version
        self._ids = {hashed(id): id for stage in stages for id in stage}
        self.ran = Counter[str]()

    async def request(self, request: Request) -> Response:
        """Make no request: no stage needs one."""
        raise NotImplementedError(request.url)

    async def post(self, url: str, _headers: Mapping[str, str], body: bytes) -> Response:
        """Answer a call."""
        (target,) = parse_qs(urlsplit(url).query)["stepId"]
        call = json.loads(body)
        context, memos = call["ctx"], call["steps"]
        assert context["stack"]["stack"] == sorted(memos, key=context["stack"]["stack"].index)
        if target != DISCOVERY:
            return self._answer(206, [self._run(self._ids[target])])
        for stage in self._stages:
            missing = [id for id in stage if hashed(id) not in memos]
            if missing:
                is_alone = len(stage) == 1 and not context["disable_immediate_execution"]
                return self._answer(206, [self._op(id, is_alone=is_alone) for id in missing])
        return self._answer(200, [self._ids[step] for step in context["stack"]["stack"]])

    def _op(self, id: str, *, is_alone: bool) -> Op:
        for beginning, fields in OTHERS.items():
            if id.startswith(beginning):
                return op(fields["op"], id, **{name: value for name, value in fields.items() if name != "op"})
        return self._run(id) if is_alone else planned(id)

    def _run(self, id: str) -> Op:
        self.ran[id] += 1
        return ran(id, id.upper())

    def _answer(self, status: int, body: Any) -> Response:
        headers = {"X-Inngest-Sdk": "inngest-py:v0.5.19", "X-Inngest-Req-Version": str(self._version)}
        return Response(status, headers, json.dumps(body).encode())
