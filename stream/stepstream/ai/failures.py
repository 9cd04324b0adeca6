"""What a failed request to a provider says to its step: whether another attempt may help, and when."""

from typing import NoReturn

from stepstream.sdk.errors import NonRetriableError, RetryAfterError

# Further requests may succeed after these statuses of HTTP.
_RETRIED_STATUSES = frozenset({408, 409, 429})
_CLIENT_ERRORS = range(400, 500)


def raise_for_status(error: Exception) -> NoReturn:
    """Raise an error of a client as one that says to the step whether and when to retry.

    The clients of OpenAI, Anthropic and others have the status of the response as `status_code`, and the response.
    """
    message = f"{type(error).__name__}: {error}"
    headers = getattr(getattr(error, "response", None), "headers", {})
    if seconds := _seconds(headers.get("retry-after", "")):
        raise RetryAfterError(message, seconds) from error
    status = getattr(error, "status_code", None)
    if status in _CLIENT_ERRORS and status not in _RETRIED_STATUSES:
        raise NonRetriableError(message) from error
    raise error


def _seconds(header: str) -> float:
    return float(header) if header.replace(".", "", 1).isdecimal() else 0
