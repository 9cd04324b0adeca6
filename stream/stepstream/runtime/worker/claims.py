"""Names for the claims of one worker."""

import uuid

from stepstream.runtime.worker.observer import WorkerObserver


class Claims:
    """Names each claim of a run or of a dispatched step; no other worker uses the same name."""

    def __init__(self, app: str, observer: WorkerObserver | None) -> None:
        self._app = app
        self._observer = observer
        self._worker = uuid.uuid4().hex[:12]
        self._count = 0

    def next(self) -> str:
        """Return the name of a new claim."""
        self._count += 1
        if self._observer:
            self._observer.loading(self._app)
        return f"{self._worker}-{self._count}"
