"""The errors of a client that reads streams."""

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
