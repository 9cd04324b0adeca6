"""The registrations of apps that failed last: what is wrong with an app until it registers again."""

from collections.abc import Callable

from stepstream.contract.errors import StepstreamError
from stepstream.gateway.wire.registration import SyncFailure, without_query
from stepstream.runtime.clocks import SystemClock

# Only requests that pass authentication are recorded, so only so many broken apps reach the limit.
_FAILURES_MAX = 1_000
_CHARACTERS_MAX = 2_000


class SyncFailures:
    """The failures of one process, the latest one of each app.

    `now_ms` returns the time (Unix ms), that of the system by default.
    """

    def __init__(self, now_ms: Callable[[], int] | None = None) -> None:
        self._now_ms = now_ms or SystemClock().now_ms
        self._found: dict[str, SyncFailure] = {}

    def failed(self, error: StepstreamError, app: str, url: str) -> None:
        """Note that an app, or what is at a URL, could not be registered."""
        base, text = without_query(url), str(error)[:_CHARACTERS_MAX]
        key = app or base
        at_url, before = self._found.pop(base, None), self._found.pop(app, None)
        before = before or at_url
        at_ms = before.at_ms if before and before.error == text else self._now_ms()
        self._found[key] = SyncFailure(app, url, text, at_ms)
        if len(self._found) > _FAILURES_MAX:
            del self._found[next(iter(self._found))]

    def registered(self, app: str, url: str) -> None:
        """Forget what was wrong with an app that has registered at a URL."""
        for key in (app, without_query(url)):
            self._found.pop(key, None)

    def of(self, app: str) -> SyncFailure | None:
        """Return what is wrong with an app, None if nothing is."""
        return self._found.get(app)

    def all(self) -> list[SyncFailure]:
        """Return what is wrong with each app, the latest failure last."""
        return list(self._found.values())
