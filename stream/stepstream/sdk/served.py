"""What a worker serves: an app and its functions, and the running code of one run."""

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

from stepstream.contract.commands import Memo, Open
from stepstream.contract.functions import FunctionRegistered
from stepstream.sdk.execution import CodeStart
from stepstream.sdk.function import RetryPolicy
from stepstream.sdk.replay.calls import RunHandle


class TaskCount(Protocol):
    """Counts the tasks of some code."""

    @property
    def is_busy(self) -> bool:
        """Whether a task outside of the bodies of steps can continue by itself, or may be given a result soon."""

    def take_created(self) -> int:
        """Return how many tasks the code has created since the last call."""


class Code(RunHandle, Protocol):
    """The running code of a run: a replay of a Python function, or the calls to a function elsewhere."""

    threaded: bool

    @property
    def activity(self) -> TaskCount:
        """How busy the code keeps the event loop."""

    def resume(self, memos: Sequence[Memo], retries: Sequence[Open], acknowledged: bool) -> None:
        """Take in results and due attempts, and the acknowledgement that the planned waits are registered."""

    def abort(self) -> None:
        """Stop the code where it is; the runner gets no further call."""


class ServedFunction(Protocol):
    """A function whose runs a worker can run."""

    @property
    def id(self) -> str:
        """Its id, by which runs refer to it."""

    @property
    def policy(self) -> RetryPolicy:
        """The retries of its steps and of the code between them."""

    def registration(self) -> FunctionRegistered:
        """Return the record that registers the function with the engine."""


class ServedApp(Protocol):
    """An app whose functions a worker serves; iterating yields them."""

    name: str

    @property
    def queues(self) -> Sequence[str]:
        """The queues that have dedicated workers."""

    def __iter__(self) -> Iterator[ServedFunction]: ...

    def get(self, function_id: str) -> ServedFunction | None:
        """Return the function with this id, or None."""

    def start_code(self, function_id: str, start: CodeStart) -> Code:
        """Start the code of a function from its first line."""

    def connect(self, sender: Any) -> None:
        """Send events and signals over `sender` from now on; None ends that."""
