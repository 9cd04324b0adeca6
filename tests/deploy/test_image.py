"""deploy/Dockerfile: slim, without root, and built from existing files."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.deploy.image import DOCKERFILE, instructions
from tests.tidy_rules import ROOT

IGNORED = (DOCKERFILE.with_name("Dockerfile.dockerignore")).read_text("utf-8").split()


def copied(stage: str) -> list[tuple[list[str], str]]:
    """Return what a stage copies from the repository as (sources, target)."""
    lines = [rest.split() for word, rest in instructions()[stage] if word == "COPY"]
    return [(line[:-1], line[-1]) for line in lines if not line[0].startswith("--from")]


def words(stage: str, instruction: str) -> list[str]:
    """Return what follows a word in a stage."""
    return [rest for word, rest in instructions()[stage] if word == instruction]


def test_what_is_copied_is_there_and_reaches_the_builder() -> None:
    """Each file that the Dockerfile copies exists, and .dockerignore, which begins by leaving out all, lets it in."""
    sources = [source.removeprefix("./") for stage in instructions() for given, _ in copied(stage) for source in given]
    assert len(sources) >= 6
    assert all((ROOT / source).exists() for source in sources)
    assert IGNORED[0] == "*"
    assert {f"!{source}" for source in sources} <= set(IGNORED)


def test_the_image_is_slim_and_not_roots() -> None:
    """The base is one that never changes, the builder is not in the image, the user is not 0, and no port is open."""
    (base,) = words("stepstream", "FROM")
    assert base == "${BASE} AS stepstream"
    (argument,) = words("", "ARG")
    assert re.fullmatch(r"BASE=python:3\.12\.\d+-slim-\w+@sha256:[0-9a-f]{64}", argument)
    assert any(rest.startswith("--from=build") for rest in words("stepstream", "COPY"))
    (argument,) = words("stepstream", "ARG")
    assert words("stepstream", "USER") == ["${UID}:${UID}"]
    assert int(argument.removeprefix("UID=")) > 1000
    assert not [rest for rest in words("stepstream", "ENV") if "STEPSTREAM_HOST" in rest]
    assert words("stepstream", "ENTRYPOINT") == ['["stepstream"]']
    assert words("stepstream", "STOPSIGNAL") == ["SIGTERM"]


def test_the_tables_are_on_a_volume() -> None:
    """The data folder of the image is its volume, and only its user may read it."""
    (volume,) = words("stepstream", "VOLUME")
    assert f"STEPSTREAM_DATA_DIR={volume}" in words("stepstream", "ENV")[0]
    assert f'--mode=0700 --owner "${{UID}}" --group "${{UID}}" {volume}' in words("stepstream", "RUN")[0]


def test_a_worker_is_the_image_with_code_on_top() -> None:
    """The example worker begins FROM the image, copies a file, and runs that file."""
    assert words("flights", "FROM") == ["stepstream AS flights"]
    (((source,), folder),) = copied("flights")
    assert words("flights", "CMD") == [f'["worker", "{folder}{Path(source).name}"]']


@pytest.mark.slow
def test_the_package_is_built_from_what_the_image_copies(tmp_path: Path) -> None:
    """The files of the build stage, and no others, make a wheel with the command in it."""
    for sources, target in copied("build"):
        for source in sources:
            to = tmp_path / target / Path(source).name if target == "./" else tmp_path / target
            if (ROOT / source).is_dir():
                shutil.copytree(ROOT / source, to, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(ROOT / source, to)
    command = [sys.executable, "-m", "build", "--wheel", "--outdir", str(tmp_path / "dist"), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stdout[-2_000:]
    assert list((tmp_path / "dist").glob("stepstream-*.whl"))
