"""Attributes that the code of a run has set, until they are reported."""

import asyncio
from collections.abc import Callable

from stepstream.contract.attributes import AttributeChanges


class PendingAttributes:
    """Collects changes of attributes; `report` is called with all that were collected since it was called last.

    While a replay has stored results left, the code sets attributes that a later part of it may have changed long ago.
    So they are reported only when `is_live`, or when the code cannot continue. What live code sets in one iteration of
    the event loop is one report, however often it does.
    """

    def __init__(
        self,
        report: Callable[[AttributeChanges], None],
        is_live: Callable[[], bool],
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self._report = report
        self._is_live = is_live
        self._loop = loop
        self._changes: AttributeChanges = {}

    def add(self, changes: AttributeChanges) -> None:
        """Add changes, to be reported soon."""
        if not self._changes:
            self._loop.call_soon(self.report_if_live)
        self._changes |= changes

    def report_if_live(self) -> None:
        """Report what was collected, unless stored results are left."""
        if self._changes and self._is_live():
            self.report()

    def close(self) -> None:
        """Report nothing from now on."""
        self._changes, self._report, self._is_live = {}, _ignore, _never

    def report(self) -> None:
        """Report what was collected."""
        if self._changes:
            changes, self._changes = self._changes, {}
            self._report(changes)


def _ignore(changes: AttributeChanges) -> None:
    pass


def _never() -> bool:
    return False
