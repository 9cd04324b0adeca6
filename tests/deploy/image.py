"""deploy/Dockerfile as instructions, by stage."""

import functools
import re

from tests.tidy_rules import ROOT

DOCKERFILE = ROOT / "deploy" / "Dockerfile"


@functools.cache
def instructions() -> dict[str, list[tuple[str, str]]]:
    """Return the instructions of each stage as (word, rest), continued lines joined, comments left out.

    Those before the first stage are under "".
    """
    lines = [line for line in DOCKERFILE.read_text("utf-8").splitlines() if line and not line.startswith("#")]
    joined = re.sub(r"\\\n\s*", "", "\n".join(lines))
    stages: dict[str, list[tuple[str, str]]] = {"": []}
    stage = ""
    for line in joined.splitlines():
        word, _, rest = line.partition(" ")
        if word == "FROM":
            stage = rest.split()[-1]
            stages[stage] = []
        stages[stage].append((word, rest.strip()))
    return stages
