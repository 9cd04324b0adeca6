"""`stepstream dev` as a developer uses it: saves in quick succession, broken files, Ctrl-C."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.polling import until

pytestmark = pytest.mark.slow

APP = """
import time
from pathlib import Path
from stepstream import App, Context, on

app = App("VERSION")


def hang(run_id: str) -> None:
    Path("started").touch()
    while not Path("finish").exists():
        time.sleep(0.01)


@app.function(on("go"))
async def work(ctx: Context) -> None:
    ctx.logger.info("about to hang")
    await ctx.step.run("hang", hang, ctx.run_id)
"""


class Developing:
    """A folder with an app, and the `stepstream dev` that watches it."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.folder = folder
        self.write("first")
        command = [sys.executable, "-m", "stepstream", "dev", "app.py", "--port", "0", *options]
        environment = {**os.environ, "PYTHONUNBUFFERED": "1", "PYTHONDONTWRITEBYTECODE": ""}
        self.process = subprocess.Popen(
            command,
            cwd=folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def write(self, version: str, *, broken: bool = False) -> None:
        """Save the file with the same time and, for names of equal length, the same size."""
        text = APP.replace("VERSION", version).replace("import time", "imp ort time" if broken else "import time")
        (self.folder / "new").write_text(text, encoding="utf-8")
        os.utime(self.folder / "new", (1_700_000_000, 1_700_000_000))
        (self.folder / "new").replace(self.folder / "app.py")

    def until(self, words: str) -> str:
        """Return the next line that has these words."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if words in line:
                return line.strip()
        raise AssertionError(f"it ended without printing {words!r}")

    def url(self) -> str:
        """Return the address where it serves now."""
        return self.until("send events to").split()[3].removesuffix("/e/dev,")

    def press_ctrl_c(self) -> None:
        """Send SIGINT to the whole process group, as a terminal does."""
        os.killpg(self.process.pid, signal.SIGINT)


@pytest.fixture
def developing(tmp_path: Path) -> Iterator[Developing]:
    """A running `stepstream dev`, killed at the end or when it hangs for minutes."""
    developing = Developing(tmp_path)
    watchdog = threading.Timer(240, developing.process.kill)
    watchdog.start()
    yield developing
    watchdog.cancel()
    (tmp_path / "finish").touch()
    developing.process.kill()
    developing.process.communicate(timeout=60)


@pytest.mark.long
def test_a_save_with_the_same_time_and_size_is_loaded(developing: Developing) -> None:
    """Python trusts bytecode whose source has the same time and size; a reload does not."""
    assert developing.until("serves") == f"stepstream {version()} serves first (1 function)"
    for name in ("other", "third", "again"):
        developing.url()
        developing.write(name)
        assert f"serves {name}" in developing.until("serves")


@pytest.mark.long
def test_a_reload_opens_the_page_no_second_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`--open` opens the page where the first process serves it, and the processes of later saves open none."""
    browser, opened = tmp_path / "browser", tmp_path / "opened"
    browser.write_text(f'#!/bin/sh\necho "$1" >>{opened}\n', encoding="utf-8")
    browser.chmod(0o700)
    monkeypatch.setenv("BROWSER", str(browser))
    developing = Developing(tmp_path, "--open")
    pages = [developing.until("see all runs at").split()[-1]]
    until(opened.exists)
    developing.write("other")
    pages.append(developing.until("see all runs at").split()[-1])
    developing.press_ctrl_c()
    developing.process.communicate(timeout=60)
    assert opened.read_text("utf-8").splitlines() == pages[:1]


def version() -> str:
    """Return the version that is printed at the start."""
    return subprocess.run(
        [sys.executable, "-m", "stepstream", "--version"], capture_output=True, text=True, check=True
    ).stdout.split()[1]


@pytest.mark.long
def test_a_broken_file_leaves_the_previous_code_running(developing: Developing) -> None:
    """The error is printed with its line, and the previous code serves until the file can be loaded."""
    url = developing.url()
    developing.write("other", broken=True)
    assert developing.until("cannot be loaded")
    assert developing.until("imp ort")
    assert developing.until("the previous code keeps running")
    assert httpx.get(f"{url}/ready").is_success
    developing.write("third")
    assert "serves third" in developing.until("serves")


@pytest.mark.long
def test_ctrl_c_waits_for_running_steps_and_a_second_one_does_not(developing: Developing) -> None:
    """The first Ctrl-C prints how many steps it waits for; the second one ends the command at once."""
    url = developing.url()
    httpx.post(f"{url}/e/dev", json={"name": "go"}).raise_for_status()
    until((developing.folder / "started").exists)
    developing.press_ctrl_c()
    assert developing.until("waiting") == "waiting for 1 step; Ctrl-C again to stop now"
    assert developing.process.poll() is None
    developing.press_ctrl_c()
    developing.process.communicate(timeout=60)
    assert developing.process.returncode == 130


@pytest.mark.long
def test_ctrl_c_keeps_the_result_of_a_running_step(developing: Developing) -> None:
    """After one Ctrl-C the step finishes and its result is stored; the exit code is 0."""
    url = developing.url()
    httpx.post(f"{url}/e/dev", json={"name": "go"}).raise_for_status()
    until((developing.folder / "started").exists)
    developing.press_ctrl_c()
    developing.until("waiting")
    (developing.folder / "finish").touch()
    assert "hang" in developing.until("done")
    developing.process.communicate(timeout=60)
    assert developing.process.returncode == 0


@pytest.mark.long
def test_lines_that_functions_log_are_shown(developing: Developing) -> None:
    """The default output is for people: it has what a function logs, and not what the engine logs."""
    (developing.folder / "finish").touch()
    httpx.post(f"{developing.url()}/e/dev", json={"name": "go"}).raise_for_status()
    shown = []
    while "completed" not in (line := developing.until("")):
        shown.append(line)
    assert any("INFO stepstream.run.work: about to hang" in line for line in shown)
    assert not any("stepstream.step" in line or "stepstream.runtime" in line for line in shown)


@pytest.mark.long
def test_the_log_may_be_json(tmp_path: Path) -> None:
    """With --log-format json everything that `dev` prints is one object a line, one of them for each step."""
    (tmp_path / "finish").touch()
    developing = Developing(tmp_path, "--log-format", "json")
    try:
        served = json.loads(developing.until(" serves first at "))
        url = served["message"].split()[-1]
        httpx.post(f"{url}/e/dev", json={"name": "go"}).raise_for_status()
        lines = [json.loads(developing.until(words)) for words in ("step hang ran", "run completed")]
        assert {(line["app"], line["function"]) for line in lines} == {("first", "work")}
        httpx.post(f"{url}/e/dev", json={"name": "gone"}).raise_for_status()
        assert json.loads(developing.until("'gone' starts no function"))["level"] == "warning"
    finally:
        developing.press_ctrl_c()
        developing.process.communicate(timeout=60)
