"""What an agent may do with an engine: each tool calls the client, and returns a bounded JSON object."""

from datetime import UTC, datetime
from typing import Annotated, Any

import msgspec
from pydantic import Field

from stepstream.client.client import Client
from stepstream.client.errors import RunNotEnded
from stepstream.client.results import FunctionInfo, Run, RunError, RunReason, RunStep
from stepstream.mcp.bounded import bounded

LISTED_MAX = 100
WAIT_S_MAX = 120.0
_DATA = Field(description="the data of the event, a JSON object")
RunIdOf = Annotated[str, Field(description="the id of the run: 26 characters")]
Seconds = Annotated[float, Field(ge=0, le=WAIT_S_MAX, description="how long to wait for the end of the run")]
Result = dict[str, Any]


class ReadingTools:
    """The tools that change nothing."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def list_functions(self) -> Result:
        """List the functions: their triggers, the schema of their data, and how many runs they have."""
        found: list[Result] = []
        async for function in self._client.functions():
            found.append(_function(function))
            if len(found) == LISTED_MAX:
                break
        return bounded({"functions": found})

    async def list_runs(
        self,
        filter: Annotated[
            str,
            Field(
                description="terms that a run must satisfy, such as `function:charge status:failed after:-1h` or "
                "`status:open order_id=4711`; empty for all"
            ),
        ] = "",
        limit: Annotated[int, Field(ge=1, le=LISTED_MAX)] = 20,
        before: Annotated[str, Field(description="the id of the last run of the previous page")] = "",
    ) -> Result:
        """List runs, the newest first, with their status, their error, and what they wait for."""
        runs = [_summary(run) async for run in self._client.runs(filter, limit=limit, before=before)]
        return bounded({"runs": runs, "before": runs[-1]["run_id"] if len(runs) == limit else ""})

    async def show_run(self, run_id: RunIdOf) -> Result:
        """Show a run: its events, its steps with their results, its output or error, and why it does not continue."""
        return bounded(_shown(await self._client.run(run_id)))

    async def why_run_waits(self, run_id: RunIdOf) -> Result:
        """Say why an open run does not continue, and what a person can do about it."""
        run = await self._client.run(run_id)
        return bounded({"run_id": run.run_id, "status": run.status, "why": [_reason(each) for each in run.why]})

    async def wait_for_run(self, run_id: RunIdOf, timeout_s: Seconds = 30.0) -> Result:
        """Wait for the end of a run, and return its output or its error; if it does not end, say why it waits."""
        return await self._ended(run_id, timeout_s)

    async def _ended(self, run_id: str, timeout_s: float) -> Result:
        try:
            run = await self._client.wait(run_id, timeout_s)
        except RunNotEnded as late:
            return await self.why_run_waits(late.run_id)
        return bounded({"run_id": run.run_id, "status": run.status, "output": run.output, "error": _error(run.error)})


class ActingTools(ReadingTools):
    """The tools that also send events, and start and rerun runs."""

    async def send_event(
        self,
        name: Annotated[str, Field(description="the name of the event, such as `shop/order.created`")],
        data: Annotated[dict[str, Any] | None, _DATA] = None,
        id: Annotated[
            str, Field(description="an id from your own data: the same id starts each function once in 24 hours")
        ] = "",
    ) -> Result:
        """Send an event: it starts the functions whose trigger it is, and resumes the runs that wait for it."""
        return {"event_id": await self._client.send(name, data, id=id)}

    async def invoke_function(
        self,
        function: Annotated[str, Field(description="the id of the function, as list_functions returns it")],
        data: Annotated[dict[str, Any] | None, _DATA] = None,
        timeout_s: Seconds = 30.0,
        request_id: Annotated[
            str, Field(description="an id of this request: the same id starts one run in 24 hours")
        ] = "",
    ) -> Result:
        """Start one function, and wait for the output or the error of its run."""
        handle = await self._client.start(function, data, request_id=request_id)
        return await self._ended(handle.run_id, timeout_s)

    async def rerun(
        self,
        run_id: RunIdOf,
        from_failure: Annotated[bool, Field(description="keep the results before what failed")] = False,
        from_step: Annotated[str, Field(description="keep the results before this step, given by its id")] = "",
        why: Annotated[str, Field(description="the reason, for the history of the new run")] = "",
    ) -> Result:
        """Rerun an ended run as a new run, from its start, from a step, or from what failed."""
        new = await self._client.rerun(run_id, from_failure=from_failure, from_step=from_step, why=why)
        return {"run_id": new}


READING = ("list_functions", "list_runs", "show_run", "why_run_waits", "wait_for_run")
ACTING = ("send_event", "invoke_function", "rerun")


def _time(ms: int) -> str | None:
    return datetime.fromtimestamp(ms / 1_000, UTC).isoformat(timespec="milliseconds") if ms else None


def _error(error: RunError | None) -> Result | None:
    return {"name": error.name, "message": error.message, "code": error.code} if error else None


def _reason(reason: RunReason) -> Result:
    return {"code": reason.code, "text": reason.text, "remedy": reason.remedy, "step": reason.step}


def _function(function: FunctionInfo) -> Result:
    known = function.registration or {}
    shown = {name: known[name] for name in ("app", "triggers", "input", "retries") if name in known}
    return {"id": function.id, **shown, "runs": dict(function.counts)}


def _summary(run: Run) -> Result:
    return {
        "run_id": run.run_id,
        "function": run.function,
        "status": run.status,
        "accepted_at": _time(run.accepted_at),
        "ended_at": _time(run.ended_at),
        "attributes": run.attributes,
        "error": _error(run.error),
        "waits": run.waits,
        "origin": run.origin,
    }


def _step(step: RunStep) -> Result:
    shown = {"id": step.id, "kind": step.kind, "status": step.status, "attempts": step.attempts, "output": step.output}
    return {**shown, "error": _error(step.error), "ended_at": _time(step.ended_at), "detail": step.detail}


def _shown(run: Run) -> Result:
    more = {"events": run.events, "output": run.output, "warnings": run.warnings, "paused": run.paused}
    return {
        **_summary(run),
        **msgspec.to_builtins(more),
        "why": [_reason(each) for each in run.why],
        "steps": [_step(each) for each in run.steps],
    }
