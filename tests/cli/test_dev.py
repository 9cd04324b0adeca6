"""`stepstream dev` restarts when the file changes, and the commands print what scripts need."""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from tests.cli.serving import APP, Serving
from tests.kafka.cluster.broker import free_port

pytestmark = pytest.mark.slow


def stepstream(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run the command to its end."""
    return subprocess.run(
        [sys.executable, "-m", "stepstream", *arguments], cwd=cwd, capture_output=True, text=True, check=False
    )


def test_a_changed_file_is_loaded(tmp_path: Path) -> None:
    """The process that serves is replaced by one with the new code; SIGTERM ends both with exit code 0."""
    file = tmp_path / "app.py"
    file.write_text(APP, encoding="utf-8")
    command = [sys.executable, "-m", "stepstream", "dev", "app.py", "--port", "0"]
    environment = {**os.environ, "EFFECTS": str(tmp_path / "effects.txt"), "PYTHONUNBUFFERED": "1"}
    process = subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    names = []
    for line in process.stdout:
        if "serves" in line:
            names.append(line.split()[3])
        if "state is in" in line and len(names) == 1:
            file.write_text(APP.replace('App("kill")', 'App("changed")'), encoding="utf-8")
        elif "state is in" in line:
            break
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert names == ["kill", "changed"]
    assert process.returncode == 0


@pytest.mark.long
def test_commands_answer_scripts(tmp_path: Path) -> None:
    """send, runs list, show and cancel print JSON; exit codes are 0, 1, 2 for usage and 3 for no answer."""
    serving = Serving(tmp_path)
    serving.start()
    at = ("--url", serving.url)
    sent = stepstream("send", "go", "--data", '{"n": 1}', "--json", *at, cwd=tmp_path)
    assert json.loads(sent.stdout)["status"] == 200
    (run,) = serving.until_completed()
    listed = stepstream("runs", "list", "--json", *at, cwd=tmp_path)
    assert [each["run_id"] for each in json.loads(listed.stdout)] == [run["run_id"]]
    shown = stepstream("runs", "show", str(run["run_id"]), *at, cwd=tmp_path)
    assert "completed" in shown.stdout
    assert stepstream("runs", "cancel", str(run["run_id"]), *at, cwd=tmp_path).returncode == 1
    assert stepstream("signal", "unknown", *at, cwd=tmp_path).returncode == 1
    assert stepstream("send", "go", "--data", "{", *at, cwd=tmp_path).returncode == 2
    assert serving.stop(signal.SIGTERM) == 0
    refused = stepstream("runs", "list", *at, cwd=tmp_path)
    assert refused.returncode == 3
    assert "start `stepstream dev FILE`" in refused.stderr


@pytest.mark.long
def test_a_file_without_an_app_says_what_to_do(tmp_path: Path) -> None:
    """A target that cannot be run is a usage error with the remedy."""
    (tmp_path / "empty.py").write_text("x = 1\n", encoding="utf-8")
    for target, words in (("missing.py", "there is no file"), ("empty.py", 'write app = App("name")')):
        done = stepstream("dev", target, "--no-reload", cwd=tmp_path)
        assert done.returncode == 2
        assert words in done.stderr


def dev(folder: Path, *options: str) -> "subprocess.Popen[str]":
    """Start `stepstream dev` as a user does, with reload."""
    command = [sys.executable, "-m", "stepstream", "dev", "app.py", *options]
    environment = {**os.environ, "EFFECTS": str(folder / "effects.txt"), "PYTHONUNBUFFERED": "1"}
    return subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.PIPE, text=True)


def port_of(process: "subprocess.Popen[str]") -> str:
    """Return the port on which it serves."""
    assert process.stdout is not None
    for line in process.stdout:
        if found := re.search(r"http://127\.0\.0\.1:(\d+)", line):
            return found[1]
    raise AssertionError("it does not serve")


@pytest.mark.long
def test_a_killed_command_can_be_started_again(tmp_path: Path) -> None:
    """kill -9 of the command that the README gives also ends its child, so that port and state are free."""
    (tmp_path / "app.py").write_text(APP, encoding="utf-8")
    # Not one of the ports that the system may give to another process in between.
    port = str(free_port())
    first = dev(tmp_path, "--port", port)
    assert port_of(first) == port
    first.kill()
    first.communicate(timeout=60)
    again = dev(tmp_path, "--port", port)
    assert port_of(again) == port
    taken = dev(tmp_path, "--port", port)
    taken.communicate(timeout=60)
    assert taken.returncode == 2, "a port in use ends the command"
    again.send_signal(signal.SIGTERM)
    again.communicate(timeout=60)
    assert again.returncode == 0


@pytest.mark.long
def test_errors_of_a_file_are_shown_without_our_frames(tmp_path: Path) -> None:
    """A file that cannot be loaded, or a path that cannot be a folder, is reported in a few lines with the remedy."""
    (tmp_path / "bad.py").write_text("import nothing_of_this_name\n", encoding="utf-8")
    refused = stepstream("dev", "bad.py", cwd=tmp_path)
    assert refused.returncode == 2
    assert "bad.py cannot be loaded" in refused.stderr
    assert "No module named" in refused.stderr
    assert "typer" not in refused.stderr
    (tmp_path / "app.py").write_text('from stepstream import App; app = App("a")', encoding="utf-8")
    file = stepstream("dev", "app.py", "--no-reload", "--data-dir", "app.py", "--port", "0", cwd=tmp_path)
    assert (file.returncode, "--data-dir" in file.stderr) == (2, True), file.stderr


@pytest.mark.long
@pytest.mark.parametrize("imports", [1, 2], ids=["command", "child"])
def test_ctrl_c_during_the_imports_leaves_no_traceback(tmp_path: Path, imports: int) -> None:
    """Ctrl-C while the command or its child imports modules ends both without output."""
    (tmp_path / "app.py").write_text('from stepstream import App; app = App("a")', encoding="utf-8")
    command = [sys.executable, "-m", "stepstream", "dev", "app.py", "--port", "0"]
    process = subprocess.Popen(
        command,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPROFILEIMPORTTIME": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stderr is not None
    for line in process.stderr:
        # Only the command imports it; the modules that are larger come after it.
        imports -= line.split("|")[-1].strip() == "typer"
        if not imports:
            break
    os.killpg(process.pid, signal.SIGINT)
    out, rest = process.communicate(timeout=60)
    assert (process.returncode, out) == (130, "")
    assert "Traceback" not in rest


@pytest.mark.long
def test_dev_reports_empty_apps_and_failed_attempts(tmp_path: Path) -> None:
    """An app without functions is reported; a run that an earlier process started is shown with its function.

    A failed attempt says when the next one is due.
    """
    app = 'from stepstream import App, Context, on\napp = App("a")\n'
    code = """
@app.function(on("go"), retries=1, backoff="1h")
async def broken_work(ctx: Context) -> None:
    await ctx.step.wait_for_event("word", event="word", timeout="1h")
    await ctx.step.run("broken", lambda: 1 / 0)
"""
    (tmp_path / "app.py").write_text(app + code, encoding="utf-8")
    first = dev(tmp_path, "--port", "0")
    url = f"http://127.0.0.1:{port_of(first)}"
    httpx.post(f"{url}/e/dev", json={"name": "go"}).raise_for_status()
    until(first, "word")
    first.send_signal(signal.SIGTERM)
    first.communicate(timeout=60)
    again = dev(tmp_path, "--port", "0")
    url = f"http://127.0.0.1:{port_of(again)}"
    httpx.post(f"{url}/e/dev", json={"name": "word"}).raise_for_status()
    failed = until(again, "attempt 1 failed")
    assert " broken-work " in failed
    assert re.search(
        r"ZeroDivisionError: division by zero \(app\.py:\d+\); the next is due at \d\d:\d\d:\d\d$", failed.rstrip()
    )
    (tmp_path / "app.py").write_text(app, encoding="utf-8")
    assert "@app.function(on(…))" in until(again, "no function yet")
    again.send_signal(signal.SIGTERM)
    again.communicate(timeout=60)


@pytest.mark.long
def test_dev_runs_without_a_file(tmp_path: Path) -> None:
    """It waits for an app of an SDK at the URL that is given, and SIGTERM ends it."""
    url = "http://127.0.0.1:9/api/inngest"
    command = [sys.executable, "-m", "stepstream", "dev", "--port", "0", "--app-url", url]
    process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, text=True)
    assert "runs without a Python file" in until(process, "stepstream")
    assert until(process, "no app answers") == f"no app answers at {url} yet\n"
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode == 0


@pytest.mark.long
def test_a_second_signal_ends_code_that_spins(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """The command ends at once, although its child's event loop is blocked, and says what runs again."""
    code = """
from stepstream import App, Context, on

app = App("a")


async def spin() -> None:
    print("spinning", flush=True)
    while True:
        pass


@app.function(on("go"))
async def work(ctx: Context) -> None:
    # The request is answered before the event loop is blocked.
    await ctx.step.sleep("nap", "500ms")
    await ctx.step.run("spin", spin)
"""
    (tmp_path / "app.py").write_text(code, encoding="utf-8")
    process = dev(tmp_path, "--port", "0")
    httpx.post(f"http://127.0.0.1:{port_of(process)}/e/dev", json={"name": "go"}).raise_for_status()
    until(process, "spinning")
    process.send_signal(signal.SIGTERM)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(timeout=0.5)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM
    assert "will run again: 1" in capfd.readouterr().err


def until(process: "subprocess.Popen[str]", words: str) -> str:
    """Return the next line of output that contains these words."""
    assert process.stdout is not None
    for line in process.stdout:
        if words in line:
            return line
    raise AssertionError(f"it ended without printing {words!r}")
