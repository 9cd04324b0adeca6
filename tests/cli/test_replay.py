"""What `stepstream replay` reports about files without events, and lines that are not events."""

import json
import resource
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from stepstream.cli.main import cli
from tests.disk import limited_files

APP = """
from stepstream import App, Context, on

app = App("replayed")


@app.function(on("go"))
async def work(ctx: Context) -> None:
    await ctx.step.sleep("long", "84h")
"""
NOW_MS = 1_767_225_600_000


@pytest.fixture
def replay(tmp_path: Path) -> Callable[..., Result]:
    """Replay lines through an app that sleeps for three days and a half."""
    (tmp_path / "replayed.py").write_text(APP, encoding="utf-8")
    day = tmp_path / "day.jsonl"

    def run(*lines: object, options: Sequence[str] = (), file_bytes_max: int = resource.RLIM_INFINITY) -> Result:
        day.write_text("\n".join(json.dumps(line) for line in lines), encoding="utf-8")
        command = ["replay", str(tmp_path / "replayed.py"), "--events", str(day), "--progress", "none", *options]
        with limited_files(file_bytes_max):
            return CliRunner().invoke(cli, command)

    return run


def test_a_time_in_seconds_is_recognized(replay: Callable[..., Result]) -> None:
    """It is refused with its line and the number in milliseconds; the other lines are replayed."""
    done = replay({"name": "go", "ts": NOW_MS}, {"name": "go", "ts": NOW_MS // 1_000})
    assert f"line 2: ts: {NOW_MS // 1_000} looks like seconds; give milliseconds: {NOW_MS}" in done.stderr
    assert (done.exit_code, "1 completed" in done.stdout) == (0, True)


def test_long_times_are_shown_in_days(replay: Callable[..., Result]) -> None:
    """The mean time of a function that takes three and a half days is shown as such."""
    assert "3d 12h" in replay({"name": "go", "ts": NOW_MS}).stdout


def test_a_file_without_any_event_fails(replay: Callable[..., Result]) -> None:
    """If no line is an event the command says so and exits with 1; it lists the first ten lines."""
    done = replay(*({"nome": "go"} for _ in range(12)))
    assert done.exit_code == 1
    assert "line 1: " in done.stderr
    assert "line 10: " in done.stderr
    assert "skipped 2 more lines" in done.stderr
    assert "contains no event" in done.stderr


def test_a_folder_refuses_another_file_of_events(replay: Callable[..., Result], tmp_path: Path) -> None:
    """A replay resumes with the file that its folder has read, which may have grown, and with no other."""
    durable = ("--data-dir", str(tmp_path / "state"))
    first, second, third = ({"name": "go", "ts": NOW_MS + number, "data": {"n": number}} for number in range(3))
    assert "2 completed" in replay(first, second, options=durable).stdout
    assert "3 completed" in replay(first, second, third, options=durable).stdout
    for other in ([third], [first, third, third], [first, second, third | {"data": {}}, third]):
        refused = replay(*other, options=durable)
        assert refused.exit_code == 2, refused.output
        assert "or another --data-dir" in refused.stderr
        assert "state has replayed 3 lines" in refused.stderr
    assert "3 completed" in replay(first, second, third, options=durable).stdout


def test_full_disk_ends_a_replay_that_can_resume(replay: Callable[..., Result], tmp_path: Path) -> None:
    """It ends with one line and 2 instead of waiting, and the same command completes once there is space."""
    durable = ("--data-dir", str(tmp_path / "state"))
    lines = [{"name": "go", "ts": NOW_MS + number, "data": {"text": "x" * 20_000}} for number in range(20)]
    assert "1 completed" in replay(lines[0], options=durable).stdout
    full = replay(*lines, options=durable, file_bytes_max=150_000)
    assert full.exit_code == 2
    error = next(line for line in full.stderr.splitlines() if line.startswith("error: "))
    assert "state/db cannot be used (File too large); " in error
    assert "20 completed" in replay(*lines, options=durable).stdout


def test_time_passes_for_a_given_duration_after_the_last_event(replay: Callable[..., Result], tmp_path: Path) -> None:
    """A run that waits longer stays open, and a replay that is given more time continues it."""
    durable = ("--data-dir", str(tmp_path / "state"))
    event = {"name": "go", "ts": NOW_MS}
    assert "1 running" in replay(event, options=(*durable, "--continue-for", "2d")).stdout
    assert "1 running" in replay(event, options=(*durable, "--continue-for", "83h")).stdout
    assert "1 completed" in replay(event, options=(*durable, "--continue-for", "85h")).stdout
    refused = replay(event, options=("--continue-for", "soon"))
    assert (refused.exit_code, "'soon' is not a duration" in refused.stderr) == (2, True)
