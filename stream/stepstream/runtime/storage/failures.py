"""What an error of RocksDB, SQLite or the operating system means for state on disk, and what to do about it."""

from stepstream.contract.errors import StepstreamError

_SPACE = "free space on its disk"
_OTHER_FOLDER = "or choose another folder with --data-dir"
# By a part of the message, which RocksDB and Python take from the operating system and SQLite words by itself.
_REMEDIES = {
    "No space left on device": _SPACE,
    "database or disk is full": _SPACE,
    "Disk quota exceeded": _SPACE,
    "File too large": f"raise the limit of the size of a file (`ulimit -f`), or {_SPACE}",
    "Too many open files": "raise the limit of open files (`ulimit -n`)",
    "Read-only file system": f"make its disk writable, {_OTHER_FOLDER}",
    "attempt to write a readonly database": f"make the file writable for the user of this process, {_OTHER_FOLDER}",
    "Permission denied": f"make it writable for the user of this process, {_OTHER_FOLDER}",
    "File exists": "remove this file, which is in place of a folder",
    "unable to open database file": "check the rights of its folder and the limit of open files (`ulimit -n`)",
}
_CHECK_DISK = "check its disk and the free space on it"


class UnusableState(StepstreamError):
    """State on disk cannot be used, so a process or a command ends; the message says what to do."""

    code = "unusable-state"


def one_line(error: BaseException) -> str:
    """Return the message of an error without line feeds."""
    return " ".join(str(error).split())


def describe_failure(what: str, error: BaseException) -> str:
    """Return one sentence with what failed ("the tables in PATH"), the cause, and the remedy."""
    text = one_line(error)
    causes = ((cause, remedy) for cause, remedy in _REMEDIES.items() if cause in text)
    cause, remedy = next(causes, (text, _CHECK_DISK))
    return f"{what} cannot be used ({cause}); {remedy}"
