"""The errors of clients."""

from stepstream.client.results import Run, RunError
from stepstream.contract.errors import StepstreamError


class StreamRefused(StepstreamError):
    """The engine refuses a stream, and would refuse it again; `status` is the status of its response."""

    code = "stream-refused"

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


class StreamLost(StepstreamError):
    """No engine served the stream for the time that `reconnect_timeout` allows."""

    code = "stream-lost"


class RequestRefused(StepstreamError):
    """The engine refuses a request, and would refuse it again.

    Attributes:
        status: The status of the response, such as 404.
        reason: The code of the error, such as `invalid-input`; docs/http.md lists them.
        field: The invalid field of the request, "" if none is named.
    """

    code = "request-refused"

    def __init__(self, status: int, reason: str, message: str, field: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason
        self.field = field


class EngineUnreachable(StepstreamError):
    """No engine answered a request, which was repeated where that is safe.

    Attributes:
        is_sent: Whether the request may have taken effect.
    """

    code = "engine-unreachable"

    def __init__(self, message: str, *, is_sent: bool) -> None:
        super().__init__(message)
        self.is_sent = is_sent


class RunFailed(StepstreamError):
    """A run whose result was expected has failed, was cancelled, or was skipped.

    Attributes:
        run_id: The run.
        function: Its function.
        status: `failed`, `cancelled` or `skipped`.
        name: The class of its error, such as `ValueError`.
        message: The message of its error.
        code: The code of its error, such as `step-timeout`; `run-failed` if the error has none.
    """

    code = "run-failed"

    def __init__(self, run: Run) -> None:
        error = run.error or RunError("")
        self.run_id, self.function, self.status = run.run_id, run.function, run.status
        self.name, self.message = error.name, error.message
        self.code = error.code or RunFailed.code
        why = ": ".join(filter(None, (error.name, error.message)))
        super().__init__(f"run {run.run_id} of {run.function!r} is {run.status}: {why or 'it has no error'}")


class NoReply(StepstreamError, TimeoutError):
    """A run has taken a request, and did not reply in the time for which a client waited.

    Attributes:
        run_id: The run.
        request_id: The id of the request, by which a later call can wait for the reply.
    """

    code = "no-reply"

    def __init__(self, run_id: str, name: str, request_id: str, within_s: float) -> None:
        reason = f"run {run_id} has not replied to request {name!r} within {within_s:g} s"
        super().__init__(f"{reason}; send it again with request_id={request_id!r} to wait for the reply")
        self.run_id = run_id
        self.request_id = request_id


class RunNotEnded(StepstreamError, TimeoutError):
    """A run did not end in the time for which a client waited; it continues.

    Attributes:
        run_id: The run, by which a later call can wait for it.
    """

    code = "run-not-ended"

    def __init__(self, run_id: str, within_s: float) -> None:
        super().__init__(f"run {run_id} has not ended within {within_s:g} s; it continues: wait for it by its id")
        self.run_id = run_id
