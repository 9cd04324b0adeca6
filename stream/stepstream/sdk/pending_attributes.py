"""Attributes that the code of a run has set, until they are reported."""

from collections.abc import Callable

from stepstream.contract.attributes import AttributeChanges


class PendingAttributes:
    """Collects changes of attributes; `report` is called with all that were collected since it was called last.

    While a replay has stored results left, the code sets attributes that a later part of it may have changed long ago.
    So they are reported only when the code has all results, or cannot continue.
    """

    def __init__(self, report: Callable[[AttributeChanges], None]) -> None:
        self._report = report
        self._changes: AttributeChanges = {}

    def add(self, changes: AttributeChanges, *, report: bool) -> None:
        """Add changes, and report them at once or later."""
        self._changes |= changes
        if report:
            self.report()

    def report(self) -> None:
        """Report what was collected."""
        if self._changes:
            changes, self._changes = self._changes, {}
            self._report(changes)
