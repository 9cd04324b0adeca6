"""The client of the HTTP API for other programs: it sends, starts functions, waits for results and controls runs."""

import uuid
from collections.abc import AsyncGenerator
from datetime import datetime
from typing import Any, TypeVar, overload
from urllib.parse import quote

from stepstream.client.errors import RequestRefused
from stepstream.client.requests import Request
from stepstream.client.results import FunctionInfo, FunctionPage
from stepstream.client.run_control import RunHandle, Runs
from stepstream.client.sent import function_id, json_body, object_of, records_of
from stepstream.contract.codec import encode
from stepstream.contract.receipts import SignalReceipt
from stepstream.contract.text.durations import Duration
from stepstream.sdk.event import Event
from stepstream.sdk.function import Function
from stepstream.sdk.values import PLAIN_JSON, return_type, to_json

T = TypeVar("T")
_PAGE = 100
_NOT_FOUND = "not-found"


class Client(Runs):
    """Sends events and signals, starts functions and waits for their results, and finds and controls runs, over HTTP.

    Args:
        url: The address of any engine, or of a load balancer in front of them.
        api_key: The engine's `STEPSTREAM_API_KEY`.
        event_key: The engine's `STEPSTREAM_EVENT_KEY`, which `send` needs.
        timeout: How long one attempt of a request may take.
        reconnect_timeout: How long a stream tries to connect again without success, before it raises `StreamLost`.
        pause: Waits for some seconds before a request is repeated; a test may pass another function.

    Use it in `async with`, or call `open` and `close`. One client serves any number of tasks of one event loop.

    A request that gets no answer is sent up to four times where a repetition does no harm, as the methods say. After
    that they raise `EngineUnreachable`. What an engine refuses raises `RequestRefused`.

    Example:
        ```python
        async with Client("http://127.0.0.1:8288") as client:
            await client.send("shop/order.created", {"order_id": 7, "total": 12}, id="order-7")
            receipt = await client.invoke("refund", {"order_id": 7}, timeout="30s", request_id="refund-7")
        ```
    """

    @overload
    async def send(
        self, name: str, /, data: Any = None, *, id: str = "", ts: int | datetime = 0, user: Any = None, v: str = ""
    ) -> str: ...
    @overload
    async def send(self, /, *events: Event) -> list[str]: ...
    async def send(self, /, *events: Any, **fields: Any) -> str | list[str]:
        """Send one event by its name, or several `Event`s, all or none; return the ids once they are durable.

        An event without an id gets one here. It is safe to repeat: an event starts each function at most once in 24
        hours, and so does a second call with the same id.
        """
        records = records_of(events, fields)
        path = f"/e/{quote(self._event_key or 'client', safe='')}"
        answer = await self._ask(Request("POST", path, "/e/…", body=encode(records)))
        ids: list[str] = answer["ids"]
        return ids[0] if isinstance(events[0], str) else ids

    async def signal(self, name: str, data: Any = None) -> bool:
        """Send a signal with any JSON value, model or dataclass; return whether a run was waiting for it.

        It is not repeated after an attempt without an answer, since two runs could get it.
        """
        body = json_body({"signal": name, "data": to_json(data)})
        try:
            await self._ask(Request("POST", "/v1/signals", body=body, is_repeatable=False))
        except RequestRefused as error:
            if error.reason == _NOT_FOUND:
                return False
            raise
        return True

    async def signal_with_start(
        self, name: str, data: Any = None, *, function: Function[Any] | str, start: Any = None
    ) -> SignalReceipt:
        """Send a signal to the run that waits for it, or start a function whose first wait for it receives it.

        `start` is the data of the event of the started run. Like `signal`, it is not repeated after an attempt without
        an answer.
        """
        asked = {"function": function_id(function), "data": object_of(start, "start")}
        body = json_body({"signal": name, "data": to_json(data), "start": asked})
        answer = await self._ask(Request("POST", "/v1/signals", body=body, is_repeatable=False))
        return SignalReceipt(answer["run_id"], answer["started"])

    @overload
    async def start(
        self, function: Function[T], data: Any = None, *, request_id: str = "", user: Any = None
    ) -> RunHandle[T]: ...
    @overload
    async def start(
        self, function: str, data: Any = None, *, request_id: str = "", user: Any = None
    ) -> RunHandle[Any]: ...
    async def start(
        self, function: Function[Any] | str, data: Any = None, *, request_id: str = "", user: Any = None
    ) -> RunHandle[Any]:
        """Start one function, and no other one, by an event with this data; return the handle of its run.

        The same `request_id` starts one run of the function in 24 hours, and returns it. Without one, an id is drawn
        here, so it is safe to repeat an attempt.
        """
        name = function_id(function)
        path = f"/v1/functions/{quote(name, safe='')}/invoke"
        asked = {"data": object_of(data, "data"), "request_id": request_id or uuid.uuid4().hex, "user": to_json(user)}
        answer = await self._ask(Request("POST", path, body=json_body(asked)))
        returns = return_type(function.handler) if isinstance(function, Function) else PLAIN_JSON
        return RunHandle(self, answer["run_id"], returns)

    @overload
    async def invoke(
        self,
        function: Function[T],
        data: Any = None,
        *,
        timeout: Duration = "1m",
        request_id: str = "",
        user: Any = None,
    ) -> T: ...
    @overload
    async def invoke(
        self, function: str, data: Any = None, *, timeout: Duration = "1m", request_id: str = "", user: Any = None
    ) -> Any: ...
    async def invoke(
        self,
        function: Function[Any] | str,
        data: Any = None,
        *,
        timeout: Duration = "1m",
        request_id: str = "",
        user: Any = None,
    ) -> Any:
        """Start one function, wait for the end of its run, and return its output.

        The output has the type that the function declares, or is plain JSON if only its id is given. Raises `RunFailed`
        if the run does not complete, and `RunNotEnded` after `timeout`; the run then continues. A call with the same
        `request_id` within 24 hours waits for the same run, so it is safe to repeat, by another process too.
        """
        handle = await self.start(function, data, request_id=request_id, user=user)
        return await handle.result(timeout)

    def handle(self, run_id: str) -> RunHandle[Any]:
        """Return the handle of a run by its id, without checking that the run exists."""
        return RunHandle(self, run_id, PLAIN_JSON)

    async def functions(self) -> AsyncGenerator[FunctionInfo, None]:
        """Yield the functions that apps registered, ordered by id."""
        after = ""
        while True:
            query = {"after": after, "limit": str(_PAGE)}
            page = await self._decoded(Request("GET", "/v1/functions", query=query), FunctionPage)
            for function in page.functions:
                yield function
            if not (after := page.next):
                return
