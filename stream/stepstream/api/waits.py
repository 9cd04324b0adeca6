"""The parameter `wait` of requests that are answered when something has happened."""

from stepstream.contract.errors import InvalidDuration, InvalidInput
from stepstream.contract.text.durations import duration_ms


def parse_wait(text: str, ms_max: int) -> float:
    """Return for how long a request waits (s); raise InvalidInput unless it is a duration of at most `ms_max`."""
    try:
        wait_ms = duration_ms(text)
    except InvalidDuration as error:
        raise InvalidInput(error.reason, "wait") from None
    if wait_ms > ms_max:
        raise InvalidInput(f"expected at most {ms_max // 1_000}s", "wait")
    return wait_ms / 1_000
