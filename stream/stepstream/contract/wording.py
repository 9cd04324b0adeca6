"""How messages write numbers."""


def counted(number: int, noun: str) -> str:
    """Return a number with its noun: 1 function, 2 functions."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"
