"""An app that an official SDK serves over HTTP, as what a worker runs."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from stepstream.gateway.runs.code import RemoteCode
from stepstream.gateway.runs.function import RemoteFunction
from stepstream.gateway.runs.open_runs import OpenRuns
from stepstream.gateway.runs.transport import Transport
from stepstream.sdk.execution import CodeStart


@dataclass(slots=True)
class RemoteApp:
    """The functions of one app, which may be replaced while its worker serves.

    The apps of a process share `runs`. There are no queues.
    """

    name: str
    transport: Transport
    functions: dict[str, RemoteFunction] = field(default_factory=dict)
    runs: OpenRuns = field(default_factory=OpenRuns)

    @property
    def queues(self) -> tuple[str, ...]:
        """None."""
        return ()

    def __iter__(self) -> Iterator[RemoteFunction]:
        return iter(self.functions.values())

    def get(self, function_id: str) -> RemoteFunction | None:
        """Return the function with this id, or None."""
        return self.functions.get(function_id)

    def replace(self, functions: Iterable[RemoteFunction]) -> None:
        """Serve these functions from now on; calls of open runs go to the new endpoints."""
        self.functions = {function.id: function for function in functions}

    def start_code(self, function_id: str, start: CodeStart) -> RemoteCode:
        """Start a run of a function, or continue it."""
        function = self.functions[function_id]
        runs = self.runs
        code = RemoteCode(
            lambda: self.functions.get(function_id, function), self.transport, start, runs.forget, runs.metadata
        )
        self.runs.add(code)
        return code

    def connect(self, sender: Any) -> None:
        """Do nothing: an app sends its events over HTTP."""
