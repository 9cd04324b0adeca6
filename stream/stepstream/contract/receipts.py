"""What a caller learns about a request."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SignalReceipt:
    """The run that has a signal, and whether the signal started it."""

    run_id: str
    started: bool
