"""The permit of a run whose function limits bodies: by it the code runs, or one of its bodies at a time.

| body                               | how it gets a permit                                                       |
|------------------------------------|----------------------------------------------------------------------------|
| the first one of an activation     | it uses that of the run, and the engine is not asked                       |
| another one, while that one runs   | it is planned, and waits for a separate one                                |
| one that waits, when that one ends | it uses that of the run                                                    |
| one with named limits              | it is planned, for these alone if no other body uses the permit of the run |

So no body waits for a permit while its run has one that it does not use, and runs do not wait for each other in a
circle: a run that holds a permit executes, or is parked and returns it.
"""

from collections.abc import Iterable

from stepstream.sdk.replay.calls import Call, CallEvent, CallState, CallTable

_USED = frozenset((CallState.HELD, CallState.RUNNING, CallState.REPORTING))
_PENDING = _USED | {CallState.OPEN, CallState.DUE}


class RunPermit:
    """Lets one of the calls of a run at a time use its permit, if the run has one."""

    def __init__(self, calls: CallTable, *, exists: bool) -> None:
        self.exists = exists
        self._calls = calls
        self._user: Call | None = None
        self._next: Call | None = None

    def take(self, call: Call) -> bool:
        """Return whether a body starts by the permit of its run: the code awaits nothing else that does."""
        if not call.shares or _is_in(self._user, _USED):
            return False
        self._give(call)
        return True

    def take_next(self, new: Iterable[Call]) -> Call | None:
        """Return the body that uses the permit next: one that is due, new, or waits for a separate permit."""
        if not self.exists or _is_in(self._user, _USED):
            return None
        due, opened = self._calls.of(CallState.DUE), self._calls.of(CallState.OPEN)
        found = next((call for call in due if call.covered), None) or next((call for call in new if call.shares), None)
        if found is None:
            found = next((call for call in opened if call.covered and call.shares), None)
            if found is None:
                return None
            self._calls.move(found, CallEvent.DUE, CallState.DUE)
        self._give(found)
        return found

    def plan(self, call: Call, user: Call | None) -> None:
        """Mark a call that is about to be planned, while `user` is about to use the permit.

        It may use the permit later. One with named limits waits for these alone if no other call does or will.
        """
        if not self.exists or not call.limited:
            return
        if call.shares:
            call.covered = True
        elif not (user or _is_in(self._user, _USED) or _is_in(self._next, _PENDING)):
            call.covered, self._next = True, call

    def _give(self, call: Call) -> None:
        call.covered, self._user = True, call


def _is_in(call: Call | None, states: frozenset[CallState]) -> bool:
    return call is not None and call.covered and call.state in states
