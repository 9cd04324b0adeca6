"""The examples of the documents: each page's code loads, its tests pass, and each function does what the text says."""

import subprocess
import sys
from pathlib import Path

import pytest

from stepstream import App, Context, Event, on
from stepstream.host.loading import load_app
from stepstream.testing import VirtualEngine
from tests.docs.agents_page import AGENTS
from tests.docs.concepts_page import CONCEPTS
from tests.docs.guide_pages import GUIDES, VERSIONING
from tests.docs.pages import DOCS, PAGES, QUICKSTART, README, files, write_files
from tests.docs.scenarios import Scenario, Scenarios
from tests.docs.streams_page import STREAMS

TAUGHT = (AGENTS, CONCEPTS, STREAMS, *GUIDES)
CASES = [pytest.param(guide, each, id=f"{guide.page}-{each.__name__}") for guide in TAUGHT for each in guide.options]


def load(page: Path, folder: Path) -> App:
    """Return the app of a page whose examples are one file."""
    (module,) = [name for name in write_files(page, folder) if name.endswith(".py")]
    return load_app(str(folder / module))


@pytest.fixture
def all_files(tmp_path: Path) -> Path:
    """A folder with the files of all pages; two pages may share a name only for the same file."""
    written: dict[str, str] = {}
    for page in PAGES:
        for name, text in files(page).items():
            assert written.setdefault(name, text) == text, f"{page.name} shows another {name}: rename it"
        write_files(page, tmp_path)
    return tmp_path


def python(folder: Path, *arguments: str) -> None:
    """Run Python in a folder; it must succeed."""
    command = [sys.executable, *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_readme_has_the_function_of_the_quickstart() -> None:
    """The first function that a reader sees is the one that the quickstart runs."""
    assert files(README)["shop.py"] == files(QUICKSTART)["shop.py"]


@pytest.mark.slow
def test_code_of_pages_runs(all_files: Path) -> None:
    """Each Python file of the pages can be imported."""
    modules = sorted(path.stem for path in all_files.glob("*.py"))
    assert {"shop", "concepts_page", "steps_page", "media", "web", "trip"} <= set(modules)
    python(all_files, "-c", "; ".join(f"import {module}" for module in modules))


@pytest.mark.long
@pytest.mark.slow
def test_tests_of_pages_pass(all_files: Path) -> None:
    """The tests that pages show pass, with the settings that the quickstart shows."""
    assert {"test_shop.py", "test_orders.py", "test_trip.py"} <= {path.name for path in all_files.glob("test_*.py")}
    python(all_files, "-m", "pytest", "-q", "-p", "no:cloudcoil")


@pytest.mark.parametrize("guide", TAUGHT, ids=lambda guide: guide.page)
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
    before = App("versions")

    @before.function(on("order.packed"), id="ship-order")
    async def ship_order(ctx: Context) -> str:
        await ctx.step.sleep("pack", "1d")
        return "by rail"

    state = tmp_path / "state"
    async with VirtualEngine(before, data_dir=state) as engine:
        await engine.send(Event("order.packed"))
        now = engine.now_ms
    async with VirtualEngine(load(DOCS / VERSIONING.page, tmp_path), data_dir=state, now_ms=now) as engine:
        await engine.send(Event("order.packed"))
        await engine.advance("25h")
        ended = engine.run("ship-order")
        assert (ended.output, ended.warnings) == ("by rail", ())
        assert engine.run("ship-order-2").output == "by air"
