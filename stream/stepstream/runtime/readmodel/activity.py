"""What an open run does, as lists show it: `running` alone says little."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from stepstream.contract.kinds import RunStatus


class WaitState(StrEnum):
    """What a running run does whose code does not run."""

    SLEEPING = "sleeping"
    WAITING = "waiting"
    RETRYING = "retrying"


@dataclass(frozen=True, slots=True)
class Activity:
    """What a run does: its `state`, which is a RunStatus, `paused` or a WaitState, and what it waits for.

    `until` is when that ends (Unix ms, 0: unknown), and `word` belongs before that time.
    """

    state: str
    name: str = ""
    until: int = 0

    @property
    def word(self) -> str:
        return _TIME_WORDS.get(self.state, "until")


# What `activities` needs of a run.
ACTIVITY_FIELDS = ("status", "paused", "waits", "started_at")
_TIME_WORDS: Mapping[str, str] = {WaitState.RETRYING: "at", RunStatus.SCHEDULED: "for"}


def activities(run: Mapping[str, Any], now_ms: int) -> Sequence[Activity]:
    """Return what a run of a list does, given its fields; one that is paused may wait as well."""
    status, paused, waits = run["status"], run["paused"], run["waits"]
    found = [Activity("paused", until=paused["until"])] if paused else []
    if waits and not (waits["state"] == WaitState.RETRYING and waits["until"] <= now_ms):
        # The end of a wait is only its timeout.
        until = 0 if waits["state"] == WaitState.WAITING else waits["until"]
        found.append(Activity(waits["state"], waits["name"], until))
    if status == RunStatus.SCHEDULED and run["started_at"] > now_ms:
        found.append(Activity(status, until=run["started_at"]))
    return found or [Activity(status)]
