"""The lock files of the image agree with pyproject.toml, and each package in them has hashes."""

import re
import tomllib
from collections.abc import Mapping

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.deploy.image import instructions
from tests.tidy_rules import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
LOCKS: Mapping[str, list[str]] = {
    # The image has the client of PostgreSQL, so that a setting is enough to use it.
    "requirements.lock": PROJECT["project"]["dependencies"] + PROJECT["project"]["optional-dependencies"]["postgresql"],
    "build.lock": PROJECT["build-system"]["requires"],
}
REMEDY = "run `make lock`"
# Packages whose code is replaced or extended, or whose files are read: another release may differ there.
PATCHED = ("aiokafka", "cel-python", "faust-streaming", "uvicorn")
IMAGE = {"sys_platform": "linux", "python_version": "3.12", "python_full_version": "3.12.0", "extra": ""}


def entries(name: str) -> dict[str, str]:
    """Return the entries of a lock file: the text about each package by its name."""
    text = (ROOT / "deploy" / name).read_text("utf-8")
    found = re.split(r"^(?=[a-z0-9])", text, flags=re.MULTILINE)[1:]
    return {canonicalize_name(re.split(r"[=\[; ]", entry)[0]): entry for entry in found}


def version(entry: str) -> str:
    """Return the version of an entry."""
    found = re.match(r"\S+?==(\S+)", entry)
    assert found, entry
    return found[1]


@pytest.mark.parametrize("name", LOCKS)
def test_a_lock_has_what_the_project_asks_for(name: str) -> None:
    """Each requirement is locked to a version that it allows, and every package is there because another needs it."""
    locked = entries(name)
    for text in LOCKS[name]:
        required = Requirement(text)
        if required.marker and not required.marker.evaluate(IMAGE):
            continue
        entry = locked.get(canonicalize_name(required.name))
        assert entry, f"{required.name} is not in deploy/{name}; {REMEDY}"
        assert required.specifier.contains(version(entry)), f"{entry.split()[0]} is not {text!r}; {REMEDY}"
    direct = {canonicalize_name(Requirement(text).name) for text in LOCKS[name]}
    for package, entry in locked.items():
        needed = {canonicalize_name(each) for each in re.findall(r"#(?: via)?\s+([a-z0-9][\w.-]*)", entry)} - {"via"}
        assert package in direct or needed & locked.keys(), f"nothing needs {package}; {REMEDY}"


@pytest.mark.parametrize("name", LOCKS)
def test_each_package_has_hashes_and_no_address(name: str) -> None:
    """A changed file of a registry is refused, and the lock names no registry."""
    for package, entry in entries(name).items():
        assert re.findall(r"--hash=sha256:[0-9a-f]{64}", entry), package
        assert "://" not in entry


def test_the_image_installs_only_what_is_locked() -> None:
    """Both locks are installed with hashes; the package itself is built by the locked tool, without dependencies."""
    (install, build) = [rest for word, rest in instructions()["build"] if word == "RUN"]
    for name in LOCKS:
        assert f"--require-hashes -r {name}" in install
    assert "python -m hatchling build" in build
    assert "--no-deps dist/*.whl" in build
    assert "pip check" in build


def test_patched_packages_have_upper_bounds() -> None:
    """A release that was not read is not installed."""
    required = {each.name: each for each in map(Requirement, PROJECT["project"]["dependencies"])}
    for name in PATCHED:
        assert any(each.operator in ("<", "==") for each in required[name].specifier), name
