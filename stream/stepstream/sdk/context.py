"""The context: the argument that a handler is called with."""

import asyncio
import functools
import logging
from collections.abc import Awaitable, Callable, Mapping, MutableMapping, Sequence
from typing import Any, Generic, NoReturn, TypeVar, overload

from stepstream.contract.attributes import Attribute, check_attributes
from stepstream.contract.codec import dump_json, type_name
from stepstream.contract.errors import InvalidInput
from stepstream.contract.events import EventRecord, check_batch
from stepstream.sdk.channels import Channel
from stepstream.sdk.errors import ContinuedAsNew, StepUsageError
from stepstream.sdk.event import Event
from stepstream.sdk.named_limits import checked_units
from stepstream.sdk.publishing import Outlet
from stepstream.sdk.replay.replay import Replay
from stepstream.sdk.replay.tasks import Body, current_body
from stepstream.sdk.run_state import RunState
from stepstream.sdk.steps.parallel import Group
from stepstream.sdk.steps.step import Step
from stepstream.sdk.threads.threaded import Line, ThreadedGroup, ThreadedStep
from stepstream.sdk.values import to_json

S = TypeVar("S", bound=Step | ThreadedStep)
M = TypeVar("M")
C = TypeVar("C")
G = TypeVar("G", bound=Group | ThreadedGroup)


class RunLogger(logging.LoggerAdapter[logging.Logger]):
    """A logger that adds the run id, the function and the step, and is silent while a replay uses stored results."""

    def __init__(self, logger: logging.Logger, replay: Replay, function: str) -> None:
        super().__init__(logger, {"run_id": replay.run_id, "function": function})
        self._replay = replay

    def isEnabledFor(self, level: int) -> bool:
        """Return whether `level` is logged now."""
        return not self._replay.replaying and super().isEnabledFor(level)

    def process(self, msg: Any, kwargs: MutableMapping[str, Any]) -> tuple[Any, MutableMapping[str, Any]]:
        """Add the run, and the step whose body logs, to the message."""
        step = {"step": body.step} if (body := current_body.get()) else {}
        kwargs["extra"] = {**(kwargs.get("extra") or {}), **step, **(self.extra or {})}
        return f"[{self._replay.run_id}] {msg}", kwargs


class _Context(Generic[S, G]):
    step: S
    group: G
    events: list[Event]
    event: Event
    run_id: str
    logger: RunLogger

    def __init__(self, step: S, replay: Replay, function: str, events: Sequence[Event], attempt: int, group: G) -> None:
        self.step = step
        self.group = group
        self.events = list(events)
        self.event = self.events[0]
        self.run_id = replay.run_id
        self._code_attempt = attempt
        self.logger = RunLogger(logging.getLogger(f"stepstream.run.{function}"), replay, function)
        self._replay = replay
        self._outlet: Outlet | None = None

    @property
    def attempt(self) -> int:
        """How often the body of the step that runs has failed, or, between steps, the code since the last result."""
        body = current_body.get()
        return self._code_attempt if body is None else body.attempt

    def _continue_as_new(self, data: Any) -> NoReturn:
        if current_body.get():
            raise StepUsageError("continue_as_new was called in the body of a step; call it in the function, beside it")
        payload = dump_json(to_json(data), "data of continue_as_new")
        if not bytes(payload).startswith(b"{"):
            raise InvalidInput(f"data must be a JSON object, not a value of type {type_name(data)}", "continue_as_new")
        check_batch([EventRecord(self.event.name, payload)], self._replay.limits)
        raise ContinuedAsNew(payload)

    def set_attributes(self, attributes: Mapping[str, Attribute | None] | None = None, /, **values: Any) -> None:
        """Set attributes of the run, by which people find it: `stepstream runs list --filter order_id=4711`.

        Args:
            attributes: By name; for names that are not Python identifiers.
            values: The same as keywords. A value is a string of at most 256 characters, a number, a bool, or None,
                which removes the attribute. A run has at most 32 attributes.

        It is not a step and needs no `await`: call it between steps, as often as you like. Raises `InvalidInput`, and
        `StepUsageError` in the body of a step.
        """
        if current_body.get():
            raise StepUsageError("set_attributes was called in the body of a step; call it in the function, beside it")
        self._in_loop(self._replay.changes.set_attributes)(check_attributes({**(attributes or {}), **values}))

    @functools.cached_property
    def state(self) -> RunState:
        """The state of the run: values by name, of which the run keeps the last ones for people that look at it.

        Use it as a dict. A value is JSON, a pydantic model or a dataclass. The state has at most 32 names, of up to 64
        letters, digits, `_`, `.` and `-`, and 64 KiB. The page, the API and `stepstream runs show` have it, and no code
        runs to read it; it stays when the run has ended. The code reads what it has set itself.

        Setting a value is not a step and needs no `await`. Raises `InvalidInput`, and `StepUsageError` in the body of a
        step, where `ctx.heartbeat` reports the progress.

        Example:
            ```python
            for page in range(pages):
                ctx.state["progress"] = {"page": page, "of": pages}
                await ctx.step.run("copy", copy_page, page)
            ```
        """
        return RunState(self._in_loop(self._replay.changes.set_state))

    @overload
    def publish(self, channel: Channel[M], data: M) -> Awaitable[None]: ...
    @overload
    def publish(self, channel: str, data: Any, *, shared: bool = False) -> Awaitable[None]: ...
    def publish(self, channel: str | Channel[Any], data: Any, *, shared: bool = False) -> Awaitable[None]:
        """Publish a message to clients that listen, such as the tokens of a model: cheap, at least once, not a step.

        Args:
            channel: A name of 1 to 256 characters, or a `Channel`, by whose type the data is validated. Clients read it
                at `/v1/runs/{id}/stream?channel=`.
            data: JSON, a pydantic model or a dataclass, at most 256 KiB.
            shared: Whether the channel is one that all runs share; clients read it at `/v1/channels/{name}/stream`.

        In the body of a step it returns when the message is queued, and the attempt ends when all are in the log. A new
        attempt publishes again, and clients drop what the failed one published. Between steps it returns when the
        message is in the log. A replay does not publish again what is before a stored result, unless several tasks run.
        In a thread it blocks. `ctx.step.publish` is a step.

        Raises `InvalidInput` for data that is too large or not JSON, and an error with the code `not-published` if the
        log refuses the message.

        Example:
            ```python
            async def answer(question: str) -> str:
                text = ""
                async for token in model.stream(question):
                    await ctx.publish("tokens", token)
                    text += token
                return text


            await ctx.step.run("answer", answer, ctx.event.data["question"])
            ```
        """
        if self._outlet is None:
            self._outlet = Outlet(self._replay, self._code_attempt)
        return self._outlet.publish(channel, data, shared=shared)

    def settle(self, units: int) -> None:
        """Say in the body of a step how many units of its limits it has used, in place of `options(units=)`.

        The latest call counts, also if the attempt fails. Limits that count no units ignore it. Raises `InvalidInput`,
        and `StepUsageError` outside of a body.

        Example:
            ```python
            async def ask(prompt: str) -> str:
                answer = await client.ask(prompt)
                ctx.settle(answer.usage.total_tokens)
                return answer.text


            tokens = Limit("tokens", 90_000, "1m", counts="units")
            await ctx.step.options(limit=tokens, units=len(prompt)).run("ask", ask, prompt)
            ```
        """
        _running_body("settle", "with what the body used").used = checked_units(units)

    def heartbeat(self, progress: Any = None) -> None:
        """Say in the body of a step that it is alive, and how far it is; call it as often as you like.

        Args:
            progress: JSON, a pydantic model or a dataclass, at most 64 KiB. None leaves the last one.

        The run shows the progress, and the next attempt has it as `ctx.progress`. A failed attempt reports its newest;
        while a body runs, a heartbeat is reported every few seconds, and what was reported last survives its process.
        With `options(heartbeat_timeout=)` an attempt without heartbeats fails. Raises `InvalidInput`, and
        `StepUsageError` outside of a body. In the thread of an attempt that is over it raises `RunInterrupted`, so that
        the thread ends.

        Example:
            ```python
            async def copy_rows() -> int:
                for page in range(ctx.progress or 0, pages):
                    await copy_page(page)
                    ctx.heartbeat(page + 1)
                return pages


            await ctx.step.options(heartbeat_timeout="30s").run("copy", copy_rows)
            ```
        """
        _running_body("heartbeat", "while the body works").heartbeats.beat(progress)

    @property
    def progress(self) -> Any:
        """What the last heartbeat of the running body said, in this attempt or an earlier one; None without one.

        Raises `StepUsageError` outside of the body of a step.
        """
        return _running_body("progress", "to continue where the last attempt was").heartbeats.latest

    def _in_loop(self, function: Callable[[C], None]) -> Callable[[C], None]:
        """Return what calls `function` in the event loop, without a reference to this context, which may keep it."""
        return function


def _running_body(name: str, use: str) -> Body:
    body = current_body.get()
    if body is None:
        raise StepUsageError(f"{name} was used outside of the body of a step; use it there, {use}")
    return body


class Context(_Context[Step, Group]):
    """The argument of an `async def` handler.

    Attributes:
        event: The event that started the run; it never changes.
        events: All events that started the run; `event` is the first.
        step: The durable steps, see `Step`.
        group: Steps in parallel, see `Group`.
        run_id: The id of the run, a ULID.
        attempt: How often the body of the step that runs has failed, from 0; between steps, how often the code has
            failed since the last result.
        logger: Logs with the run id and the step; a replay does not log again.
    """

    async def continue_as_new(self, data: Any) -> NoReturn:
        """End this run as completed and start its successor, a run of the same function with an empty history.

        Args:
            data: The data of the successor's event, which has the name of this run's event: a JSON object, a pydantic
                model or a dataclass, at most 512 KiB.

        For loops beyond the 1,000 steps of a run. The end and the start are one transaction. A caller that invoked this
        run waits for the successor. Await all steps before; call it in the function itself, not in a task. Raises
        `StepUsageError` in the body of a step.

        Example:
            ```python
            if page % 500 == 0:
                await ctx.continue_as_new({"page": page + 1})
            ```
        """
        self._continue_as_new(data)


class ThreadedContext(_Context[ThreadedStep, ThreadedGroup]):
    """The argument of a plain `def` handler: like `Context`, with steps that block until they have their result."""

    def continue_as_new(self, data: Any) -> NoReturn:
        """End this run as completed and start its successor; see `Context.continue_as_new`."""
        self._continue_as_new(data)

    def _in_loop(self, function: Callable[[C], None]) -> Callable[[C], None]:
        step = self.step
        return lambda value: step.call_in_loop(function, value)


def make_context(replay: Replay, step: Step, function: str, events: Sequence[Event], attempt: int) -> Context:
    """Return the context of an async function."""
    return Context(step, replay, function, events, attempt, Group(replay))


def make_threaded_context(
    replay: Replay, step: Step, function: str, events: Sequence[Event], attempt: int
) -> ThreadedContext:
    """Return the context of a plain function."""
    line = Line(replay, asyncio.get_running_loop())
    group = ThreadedGroup(replay, line)
    return ThreadedContext(ThreadedStep(step, line), replay, function, events, attempt, group)
