"""The examples of the documents: each page's code loads, its tests pass, and each function does what the text says."""

import subprocess
import sys
from pathlib import Path

import pytest

from stepstream import App, Context, Event, on
from stepstream.host.loading import load_app
from stepstream.testing import VirtualEngine
from tests.docs.concepts_page import CONCEPTS
from tests.docs.functions_page import FUNCTIONS
from tests.docs.pages import DOCS, PAGES, QUICKSTART, README, files, write_files
from tests.docs.scenarios import Scenario, Scenarios

GUIDES = (CONCEPTS, FUNCTIONS)
WITH_TESTS = [page for page in PAGES if any(name.startswith("test_") for name in files(page))]
WITH_CODE = [page for page in PAGES if any(name.endswith(".py") for name in files(page))]
CASES = [pytest.param(guide, each, id=f"{guide.page}-{each.__name__}") for guide in GUIDES for each in guide.options]


def load(page: Path, folder: Path) -> App:
    """Return the app of a page whose examples are one file."""
    write_files(page, folder)
    return load_app(str(folder / f"{page.stem}_page.py"))


def test_pages_have_examples() -> None:
    """The pages that teach are found, so that the tests below hold for something."""
    named = {page.name for page in WITH_CODE}
    assert {"README.md", "quickstart.md", "concepts.md", "functions.md", "testing.md", "fastapi.md"} <= named


def test_readme_has_the_function_of_the_quickstart() -> None:
    """The first function that a reader sees is the one that the quickstart runs."""
    assert files(README)["shop.py"] == files(QUICKSTART)["shop.py"]


@pytest.mark.slow
@pytest.mark.parametrize("page", WITH_CODE, ids=lambda page: page.name)
def test_code_of_page_runs(page: Path, tmp_path: Path) -> None:
    """Each Python file of a page can be imported."""
    names = [name for name in write_files(page, tmp_path) if name.endswith(".py")]
    code = "; ".join(f"import {name.removesuffix('.py')}" for name in names)
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("page", WITH_TESTS, ids=lambda page: page.name)
def test_tests_of_page_pass(page: Path, tmp_path: Path) -> None:
    """The tests that a page shows pass, with the settings that it shows."""
    write_files(page, tmp_path)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cloudcoil"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("guide", GUIDES, ids=lambda guide: guide.page)
def test_every_function_has_a_scenario(guide: Scenarios, tmp_path: Path) -> None:
    """No function is on the page that is not run here."""
    assert {function.id for function in load(DOCS / guide.page, tmp_path)} == guide.of.keys()


@pytest.mark.parametrize(("guide", "scenario"), CASES)
async def test_example_does_what_the_text_says(guide: Scenarios, scenario: Scenario, tmp_path: Path) -> None:
    """Each scenario sends what its functions wait for, and looks at what they return."""
    async with VirtualEngine(load(DOCS / guide.page, tmp_path), **guide.options[scenario]()) as engine:
        await scenario(engine)


async def test_open_runs_of_an_old_version_end_as_they_began(tmp_path: Path) -> None:
    """A run of the old code continues in it under the old id, without a warning; new runs take the new code."""
    before = App("guide")

    @before.function(on("order.packed"), id="ship-order")
    async def ship_order(ctx: Context) -> str:
        await ctx.step.sleep("pack", "1d")
        return "by rail"

    state = tmp_path / "state"
    async with VirtualEngine(before, data_dir=state) as engine:
        await engine.send(Event("order.packed"))
        now = engine.now_ms
    async with VirtualEngine(load(DOCS / "functions.md", tmp_path), data_dir=state, now_ms=now) as engine:
        await engine.send(Event("order.packed"))
        await engine.advance("25h")
        ended = engine.run("ship-order")
        assert (ended.output, ended.warnings) == ("by rail", ())
        assert engine.run("ship-order-2").output == "by air"
