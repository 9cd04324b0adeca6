"""What the README tells a stranger to type is typed here: its code, its commands and its requests."""

import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.cli.serving import Serving
from tests.tidy_rules import ROOT

README = (ROOT / "README.md").read_text("utf-8")
# The demo and the tests themselves, and what wants a broker, which tests/kafka has.
NOT_HERE = {"make", "source", "stepstream topics", "stepstream engine", "stepstream worker"}
APPROVAL = """

@app.function(on("shop/order.created"))
async def approve(ctx: Context) -> object:
    return await ctx.step.wait_for_signal("approval", signal="approved/42", timeout="1h")
"""


def blocks(language: str) -> list[str]:
    """Return the code of the README in a language."""
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def commands() -> list[list[str]]:
    """Return the commands of the README that run on a laptop alone, each as words."""
    found = [shlex.split(line, comments=True) for block in blocks("sh") for line in block.splitlines()]
    return [words for words in found if words[0] not in NOT_HERE and " ".join(words[:2]) not in NOT_HERE]


def rows_of_endpoints() -> list[tuple[str, str]]:
    """Return each endpoint of the table with its example."""
    return re.findall(r"^\| `([A-Z]+ /[^`]*)`.*?\| `(curl .*?)` \|$", README, re.MULTILINE)


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """A folder with the README's files."""
    code, test = blocks("python")
    (tmp_path / "shop.py").write_text(code, encoding="utf-8")
    (tmp_path / "test_shop.py").write_text(test, encoding="utf-8")
    (tmp_path / "day.jsonl").write_text(blocks("json")[0], encoding="utf-8")
    (tmp_path / "pyproject.toml").write_text('[tool.pytest.ini_options]\nasyncio_mode = "auto"\n', encoding="utf-8")
    return tmp_path


@pytest.fixture
def serving(shop: Path) -> Iterator[Serving]:
    """`stepstream dev shop.py`, as the README has it, on a free port."""
    (shop / "shop.py").write_text((shop / "shop.py").read_text("utf-8") + APPROVAL, encoding="utf-8")
    serving = Serving(shop, "shop.py")
    serving.start()
    yield serving
    if serving.process is not None:
        serving.process.kill()
        serving.process.communicate(timeout=20)


def run(folder: Path, *words: str) -> str:
    """Run a module's command and return what it prints; it must succeed."""
    done = subprocess.run(
        [sys.executable, "-m", *words], cwd=folder, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, f"{shlex.join(words)}:\n{done.stdout}{done.stderr}"
    return done.stdout


def wait_for(serving: Serving, words: str) -> None:
    """Wait until the server prints these words."""
    assert serving.process is not None
    assert serving.process.stdout is not None
    for line in serving.process.stdout:
        if words in line:
            return
    raise AssertionError(f"it never said {words!r}")


def test_the_first_five_minutes(serving: Serving) -> None:
    """The commands of the README, typed in their order, end with an order that was paid."""
    typed = [words for words in commands() if words[1] in ("dev", "send", "runs") and "--data-dir" not in words]
    assert [words[1] for words in typed] == ["dev", "send", "send", "runs"]
    assert typed[0] == ["stepstream", "dev", "shop.py"]
    for words in typed[1:]:
        if "shop/paid" in words:
            wait_for(serving, "paid waits")
        shown = run(serving.folder, *words, "--url", serving.url)
    assert "fulfil-order" in shown
    wait_for(serving, "fulfil-order completed")


def test_the_test_of_the_readme_passes(shop: Path) -> None:
    """The example of a user's own test is one that passes, with the settings that are named."""
    assert "1 passed" in run(shop, "pytest", "-q", "test_shop.py")


def test_the_replay_of_the_readme(shop: Path) -> None:
    """The recorded events go through the functions, in memory and durably, and the runs can be listed."""
    typed = [words for words in commands() if "replay" in words or "--data-dir" in words]
    assert len(typed) == 3
    for words in typed[:2]:
        shown = run(shop, *words)
        assert "2 completed" in shown, shown
        assert "timeouts 1" in shown
    assert run(shop, *typed[2]).count("fulfil-order") == 2


def request(serving: Serving, example: str, names: dict[str, str]) -> httpx.Response:
    """Do what a curl command of the README does."""
    for name, value in names.items():
        example = example.replace(name, value)
    words = shlex.split(example)[1:]
    (address,) = [word for word in words if word.startswith("localhost:8288/")]
    data = words[words.index("-d") + 1] if "-d" in words else None
    method = words[words.index("-X") + 1] if "-X" in words else "POST" if data else "GET"
    return httpx.request(method, serving.url + address.removeprefix("localhost:8288"), content=data)


def test_every_endpoint_has_an_example_that_works(serving: Serving) -> None:
    """The table has all endpoints that there are, and what it shows for each is answered."""
    rows = rows_of_endpoints()
    described: dict[str, Any] = httpx.get(f"{serving.url}/openapi.json").json()["paths"]
    named = set(
        re.findall(r"`([A-Z]+) (/[^`]*)`", "\n".join(line for line in README.splitlines() if "| `curl" in line))
    )
    known = {(method.upper(), re.sub(r"{\w+_id}", "{id}", path)) for path in described for method in described[path]}
    assert named == known | {("GET", "/openapi.json")}
    names: dict[str, str] = {}
    for endpoint, example in rows:
        if "/v1/signals" in endpoint:
            wait_for(serving, "approval waits")
        answer = request(serving, example, names)
        assert answer.is_success, f"{example}: {answer.text}"
        if "/e/" in endpoint:
            names["EVENT_ID"] = answer.json()["ids"][0]
        if endpoint == "GET /v1/runs":
            (names["RUN_ID"],) = [run["run_id"] for run in answer.json()["runs"] if run["function"] == "fulfil-order"]


def test_the_targets_of_make_are_there() -> None:
    """Each `make …` of the README is a target."""
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    wanted = set(re.findall(r"(?:^|`)make ([a-z-]+)", README, re.MULTILINE))
    assert {"demo", "test"} <= wanted <= targets
    wants = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["requires-python"]
    assert f"Python {wants.removeprefix('>=')} or newer" in README
