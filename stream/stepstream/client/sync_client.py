"""The client for programs without an event loop, such as Django: the asynchronous one, on a separate thread."""

import asyncio
import os
import threading
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterator, Mapping
from datetime import datetime
from types import TracebackType
from typing import Any, Generic, Self, TypeVar, overload

from stepstream.client.client import Client
from stepstream.client.messages import StreamMessage
from stepstream.client.results import FunctionInfo, Run
from stepstream.client.run_control import output_of
from stepstream.client.stream_client import AnyChannel
from stepstream.contract.receipts import SignalReceipt
from stepstream.contract.text.durations import Duration
from stepstream.sdk.channels import Channel
from stepstream.sdk.event import Event
from stepstream.sdk.function import Function
from stepstream.sdk.values import PLAIN_JSON, ReturnType

T = TypeVar("T")
D = TypeVar("D")


class _Loop:
    """An event loop on a thread, which ends with the process."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="stepstream-client", daemon=True)
        self._thread.start()

    def run(self, call: Coroutine[Any, Any, T]) -> T:
        """Return the result of a call; the thread that waits may be interrupted, which cancels the call."""
        future = asyncio.run_coroutine_threadsafe(call, self._loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def stop(self) -> None:
        """End the thread."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


class SyncClient:
    """The client for synchronous programs, with the methods of `Client`; any number of threads may share one.

    Takes the arguments of `Client`. It connects at its first call, and again in a process that was forked, so a module
    may make it before a server starts its workers. `close`, or `with`, closes its connections.

    Example:
        ```python
        engine = SyncClient("http://127.0.0.1:8288")
        engine.send("shop/order.created", {"order_id": 7, "total": 12}, id="order-7")
        ```
    """

    def __init__(
        self,
        url: str = "http://127.0.0.1:8288",
        *,
        api_key: str = "",
        event_key: str = "",
        timeout: Duration = "30s",
        reconnect_timeout: Duration = "5m",
    ) -> None:
        self._options: dict[str, Any] = {
            "api_key": api_key,
            "event_key": event_key,
            "timeout": timeout,
            "reconnect_timeout": reconnect_timeout,
        }
        self._url = url
        self._client = Client(url, **self._options)
        self._lock = threading.Lock()
        self._loop: _Loop | None = None
        self._process = 0
        self._inherited: Client | None = None

    def __enter__(self) -> Self:
        """Return the client, which connects at its first call."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close all connections."""
        self.close()

    def close(self) -> None:
        """Close all connections; a later call opens new ones."""
        with self._lock:
            loop, self._loop = self._loop, None
            if loop is not None and self._process == os.getpid():
                loop.run(self._client.close())
                loop.stop()

    @overload
    def send(
        self, name: str, /, data: Any = None, *, id: str = "", ts: int | datetime = 0, user: Any = None, v: str = ""
    ) -> str: ...
    @overload
    def send(self, /, *events: Event) -> list[str]: ...
    def send(self, /, *events: Any, **fields: Any) -> Any:
        """Send one event by its name, or several `Event`s, as `Client.send` does."""
        return self._run(lambda client: client.send(*events, **fields))

    def signal(self, name: str, data: Any = None) -> bool:
        """Send a signal, as `Client.signal` does."""
        return self._run(lambda client: client.signal(name, data))

    def signal_with_start(
        self, name: str, data: Any = None, *, function: Function[Any] | str, start: Any = None
    ) -> SignalReceipt:
        """Send a signal or start the run that takes it, as `Client.signal_with_start` does."""
        return self._run(lambda client: client.signal_with_start(name, data, function=function, start=start))

    @overload
    def start(
        self, function: Function[T], data: Any = None, *, request_id: str = "", user: Any = None
    ) -> "SyncRunHandle[T]": ...
    @overload
    def start(
        self, function: str, data: Any = None, *, request_id: str = "", user: Any = None
    ) -> "SyncRunHandle[Any]": ...
    def start(
        self, function: Function[Any] | str, data: Any = None, *, request_id: str = "", user: Any = None
    ) -> "SyncRunHandle[Any]":
        """Start one function and return the handle of its run, as `Client.start` does."""
        handle = self._run(lambda client: client.start(function, data, request_id=request_id, user=user))
        return SyncRunHandle(self, handle.run_id, handle.returns)

    @overload
    def invoke(
        self,
        function: Function[T],
        data: Any = None,
        *,
        timeout: Duration = "1m",
        request_id: str = "",
        user: Any = None,
    ) -> T: ...
    @overload
    def invoke(
        self, function: str, data: Any = None, *, timeout: Duration = "1m", request_id: str = "", user: Any = None
    ) -> Any: ...
    def invoke(
        self,
        function: Function[Any] | str,
        data: Any = None,
        *,
        timeout: Duration = "1m",
        request_id: str = "",
        user: Any = None,
    ) -> Any:
        """Start one function, wait for the end of its run, and return its output, as `Client.invoke` does."""
        options: dict[str, Any] = {"timeout": timeout, "request_id": request_id, "user": user}
        return self._run(lambda client: client.invoke(function, data, **options))

    def handle(self, run_id: str) -> "SyncRunHandle[Any]":
        """Return the handle of a run by its id, without checking that the run exists."""
        return SyncRunHandle(self, run_id)

    def run(self, run_id: str) -> Run:
        """Return a run with its steps, and why it does not continue, as `Client.run` does."""
        return self._run(lambda client: client.run(run_id))

    def wait(self, run_id: str, timeout: Duration = "1m") -> Run:
        """Return a run once it has ended, as `Client.wait` does."""
        return self._run(lambda client: client.wait(run_id, timeout))

    def runs(self, filter: str = "", *, limit: int = 0, before: str = "") -> Iterator[Run]:
        """Yield the runs that a [filter](search.md) finds, as `Client.runs` does."""
        return self._iterate(lambda client: client.runs(filter, limit=limit, before=before))

    def functions(self) -> Iterator[FunctionInfo]:
        """Yield the functions that apps registered, ordered by id."""
        return self._iterate(lambda client: client.functions())

    @overload
    def stream(self, run_id: str, channel: Channel[D], /, *, after: str = "") -> Iterator[StreamMessage[D]]: ...
    @overload
    def stream(self, run_id: str, /, *channels: AnyChannel, after: str = "") -> Iterator[StreamMessage[Any]]: ...
    def stream(self, run_id: str, /, *channels: AnyChannel, after: str = "") -> Iterator[StreamMessage[Any]]:
        """Yield the messages of a run until it has ended, as `Client.stream` does."""

        async def messages(client: Client) -> AsyncGenerator[StreamMessage[Any], None]:
            async for message in client.stream(run_id, *channels, after=after):
                yield message

        return self._iterate(messages)

    def request(
        self, run_id: str, name: str, data: Any = None, *, timeout: Duration = "1m", request_id: str = ""
    ) -> Any:
        """Send a request to a run and return its reply, as `Client.request` does."""
        options: dict[str, Any] = {"timeout": timeout, "request_id": request_id}
        return self._run(lambda client: client.request(run_id, name, data, **options))

    def cancel(self, run_id: str, *, why: str = "", children: bool = False) -> bool:
        """Cancel a run, as `Client.cancel` does."""
        return self._run(lambda client: client.cancel(run_id, why=why, children=children))

    def rerun(
        self,
        run_id: str,
        *,
        from_step: str = "",
        from_failure: bool = False,
        data: Any = None,
        results: Mapping[str, Any] | None = None,
        why: str = "",
        request_id: str = "",
    ) -> str:
        """Rerun an ended run, as `Client.rerun` does."""
        options: dict[str, Any] = {"from_step": from_step, "from_failure": from_failure, "data": data}
        options |= {"results": results, "why": why, "request_id": request_id}
        return self._run(lambda client: client.rerun(run_id, **options))

    def pause(self, run_id: str, *, until: str = "", why: str = "") -> None:
        """Pause a run, as `Client.pause` does."""
        self._run(lambda client: client.pause(run_id, until=until, why=why))

    def resume(self, run_id: str, *, why: str = "") -> bool:
        """Resume a run, as `Client.resume` does."""
        return self._run(lambda client: client.resume(run_id, why=why))

    def _run(self, call: Callable[[Client], Coroutine[Any, Any, T]]) -> T:
        loop = self._opened()
        return loop.run(call(self._client))

    def _opened(self) -> _Loop:
        """Return the loop of this process."""
        with self._lock:
            if self._loop is None or self._process != os.getpid():
                if self._process not in (0, os.getpid()):
                    # The thread and the connections of the process that forked this one are not usable here. They are
                    # kept, because closing them would close those of that process.
                    self._inherited, self._client = self._client, Client(self._url, **self._options)
                self._loop, self._process = _Loop(), os.getpid()
                self._loop.run(self._client.open())
            return self._loop

    def _iterate(self, of: Callable[[Client], AsyncGenerator[T, None]]) -> Iterator[T]:
        """Yield what an asynchronous generator yields, one after the other."""
        loop = self._opened()
        items = of(self._client)

        async def following() -> tuple[T, ...]:
            try:
                return (await anext(items),)
            except StopAsyncIteration:
                return ()

        try:
            while found := loop.run(following()):
                yield from found
        finally:
            loop.run(items.aclose())


class SyncRunHandle(Generic[T]):
    """A run that a `SyncClient` started, or knows by its id.

    Attributes:
        run_id: The id of the run, by which another process can make a handle.
    """

    def __init__(self, client: SyncClient, run_id: str, returns: ReturnType = PLAIN_JSON) -> None:
        self.run_id = run_id
        self._client = client
        self._returns = returns

    def result(self, timeout: Duration = "1m") -> T:
        """Wait for the end of the run and return its output, as `SyncClient.invoke` does."""
        output: T = output_of(self._client.wait(self.run_id, timeout), self._returns)
        return output

    def run(self) -> Run:
        """Return the run as it is now."""
        return self._client.run(self.run_id)

    def cancel(self, why: str = "") -> bool:
        """Cancel the run, as `SyncClient.cancel` does."""
        return self._client.cancel(self.run_id, why=why)

    def request(self, name: str, data: Any = None, *, timeout: Duration = "1m", request_id: str = "") -> Any:
        """Send a request to the run and return its reply, as `SyncClient.request` does."""
        return self._client.request(self.run_id, name, data, timeout=timeout, request_id=request_id)

    def stream(self, *channels: AnyChannel, after: str = "") -> Iterator[StreamMessage[Any]]:
        """Yield the messages of the run, as `SyncClient.stream` does."""
        return self._client.stream(self.run_id, *channels, after=after)
