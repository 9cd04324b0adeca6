"""Attributes and the state that the code of a run has set, until they are reported."""

import asyncio
from collections.abc import Callable
from typing import Any

from stepstream.contract.attributes import AttributeChanges
from stepstream.contract.run_state import StateValues, same_state
from stepstream.sdk.replay.calls import RunHandle, Runner
from stepstream.sdk.replay.idle import Activity


class PendingChanges:
    """Collects what the code of a run sets; `report` passes to the runner what was collected since the last time.

    While a replay has stored results left, the code sets what a later part of it may have changed long ago. So it is
    reported only when `is_live`, or when the code cannot continue. What live code sets in one iteration of the event
    loop is one report, however often it does.

    The engine has the state `known`, which is not reported again. An earlier execution reported it, possibly after the
    last stored result. So the end of the replay alone does not report the state: the code must set something after
    that result, run a body, or wait.
    """

    def __init__(
        self, run: RunHandle, runner: Runner, activity: Activity, is_live: Callable[[], bool], known: StateValues
    ) -> None:
        self._run: RunHandle | None = run
        self._runner = runner
        self._activity = activity
        self._is_live = is_live
        self._known = known
        self._loop = asyncio.get_running_loop()
        self._attributes: AttributeChanges = {}
        self._state: StateValues | None = None
        self._is_scheduled = False

    def set_attributes(self, changes: AttributeChanges) -> None:
        """Change attributes, which is reported soon."""
        self._report_soon()
        self._attributes |= changes

    def set_state(self, values: StateValues) -> None:
        """Replace the state, which is reported soon."""
        self._report_soon()
        self._state = values

    def _report_soon(self) -> None:
        if not self._is_scheduled:
            self._is_scheduled = True
            self._loop.call_soon(self._report_now)

    def _report_now(self) -> None:
        self._is_scheduled = False
        self.report_attributes_if_live()
        self.report_state_if_live()

    def report_attributes_if_live(self) -> None:
        """Report the attributes that were collected, unless stored results are left."""
        if self._attributes and self._is_live():
            self._report_attributes()

    def report_state_if_live(self) -> None:
        """Report the state, unless stored results are left."""
        if self._state is not None and self._is_live():
            self._report_state(self._state)

    def close(self) -> None:
        """Report nothing from now on."""
        self._run, self._is_live = None, _never

    def report(self) -> None:
        """Report what was collected."""
        if self._attributes:
            self._report_attributes()
        if self._state is not None:
            self._report_state(self._state)

    def _report_attributes(self) -> None:
        changes, self._attributes = self._attributes, {}
        self._send(self._runner.set_attributes, changes)

    def _report_state(self, values: StateValues) -> None:
        self._state = None
        if not same_state(values, self._known):
            self._known = values
            self._send(self._runner.set_state, values)

    def _send(self, report: Callable[[RunHandle, Any], None], changes: object) -> None:
        if self._run is not None and not self._run.over:
            self._activity.call_outside(report, self._run, changes)


def _never() -> bool:
    return False
