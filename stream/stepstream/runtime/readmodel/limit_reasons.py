"""The words in which a run that waits for a limit says so: how much is in use, by which runs, and its place."""

import shlex
from collections.abc import Callable

from stepstream.contract.gates import Excess
from stepstream.contract.operators.control import Pause
from stepstream.contract.operators.limit_views import LimitView
from stepstream.contract.text.wording import counted

_HOLDERS_MAX = 3


def limit_text(who: str, limit: LimitView, time_text: Callable[[int], str]) -> str:
    """Return which limit a run or a step waits for, how much of it is in use, its place, and who paused the limit.

    `time_text` writes a time (Unix ms), and nothing for 0.
    """
    next_start, paused = time_text(limit.next_start), _pause_text(limit.pause, time_text)
    key = f" for the key {limit.key!r}" if limit.key else ""
    if limit.excess is Excess.DEBOUNCED:
        return f"{who} waits for the {limit.text}{key}; it starts at {next_start} unless another event comes"
    if limit.excess is Excess.BATCHED:
        due = "unless another event comes" if limit.renewed else "at the latest"
        has = f"it has {counted(limit.waiting, 'event')}, and starts at {next_start} {due}"
        return f"{who} waits for the {limit.text}{key}; {has}"
    place = f"place {limit.place:,} of {limit.waiting:,} in its queue" if limit.place else f"{limit.waiting:,} waiting"
    if limit.period_ms:
        due = f", and the next start is at {next_start}" if next_start else ""
        return f"{who} waits for the limit {limit.text}{key}; {place}{due}{paused}"
    return f"{who} waits for the limit {limit.text}{key}; {limit.in_use:,} of {limit.limit:,} in use, {place}{paused}"


def _pause_text(pause: Pause | None, time_text: Callable[[int], str]) -> str:
    if pause is None:
        return ""
    ends = f" until {time_text(pause.until)}" if pause.until else ""
    return f"; {pause.by or 'an operator'} paused the limit{ends}{f': {pause.why}' if pause.why else ''}"


def limit_remedy(limit: LimitView) -> str:
    """Return which runs hold a limit, three at most, and the command that lists them."""
    key = f" --key {shlex.quote(limit.key)}" if limit.key else ""
    shown = f"see `stepstream limits show {shlex.quote(limit.name)}{key}`"
    if not limit.holders:
        return shown
    more = limit.in_use - len(limit.holders[:_HOLDERS_MAX])
    return f"held by {', '.join(limit.holders[:_HOLDERS_MAX])}{f' and {more:,} more' if more > 0 else ''}; {shown}"
