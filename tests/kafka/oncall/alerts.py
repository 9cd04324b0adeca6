"""Which alerts must fire during the faults of an on-call trial, and which must not."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tests.kafka.oncall.faults import OF_MANY, Fault
from tests.kafka.oncall.recording import EVALUATE_S, Firing

# Between a fault and the next one.
CALM_S = 12.0
# An alert may fire so long after the end of its fault: an evaluation, and a scrape.
LATE_S = 2.0 * EVALUATE_S


@dataclass(frozen=True, slots=True)
class Window:
    """When a fault struck a cluster, and when all processes were ready again (s since the start)."""

    name: str
    namespace: str
    fault: Fault
    began_s: float
    ended_s: float


def wrong_alerts(windows: Sequence[Window], fired: Sequence[Firing]) -> Iterator[str]:
    """Each alert of a fault fires in its window, and no page fires that no fault explains."""
    for window in windows:
        inside = {each.alert for each in fired if each.namespace == window.namespace and _explains(window, each)}
        for alert in sorted(window.fault.alerts - inside):
            yield f"{window.name}: {alert} does not fire"
    for each in fired:
        explained = any(
            each.alert in window.fault.alerts and _explains(window, each)
            for window in windows
            if each.namespace == window.namespace
        )
        if each.pages and not explained and each.alert not in OF_MANY:
            yield f"no fault explains the {each}"


def _explains(window: Window, firing: Firing) -> bool:
    return firing.began_s < window.ended_s + LATE_S and firing.ended_s >= window.began_s
