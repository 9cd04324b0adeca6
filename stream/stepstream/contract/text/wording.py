"""How messages write numbers and durations, and the words of messages that are recognised again."""

from stepstream.contract.limits import DAY_MS, HOUR_MS, MINUTE_MS

CODE_REMEDY = "deploy its code, or wait for the rollout to end"


def counted(number: int, noun: str) -> str:
    """Return a number with its noun: 1 function, 2 functions."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def duration_text(length_ms: float) -> str:
    """Return a duration in its two largest units: 12.3 s, 5m 3s, 2h 45m, 3d 12h."""
    if length_ms < MINUTE_MS:
        return f"{length_ms / 1_000:,.1f} s"
    for unit, unit_ms, part, part_ms in (
        ("d", DAY_MS, "h", HOUR_MS),
        ("h", HOUR_MS, "m", MINUTE_MS),
        ("m", MINUTE_MS, "s", 1_000),
    ):
        whole, rest = divmod(int(length_ms), unit_ms)
        if whole:
            return f"{whole:,}{unit} {rest // part_ms}{part}"
    return ""


def filter_value(text: str) -> str:
    """Return a text as a value of a filter of runs, in quotes: it means exactly this text."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def length_text(length_ms: int) -> str:
    """Return how long something took: milliseconds below a second."""
    return f"{max(length_ms, 0):,} ms" if length_ms < 1_000 else duration_text(length_ms)


def missing_code(app: str, function: str) -> str:
    """Return the warning of a run that a worker received which has no such function."""
    return f"a worker of app {app!r} received the run but has no function {function!r}; {CODE_REMEDY}"


def unfit_code(function: str) -> str:
    """Return the start of the warning of a run whose code does not fit its history."""
    return f"the code of function {function!r} does not fit the history of the run, which waits: "
