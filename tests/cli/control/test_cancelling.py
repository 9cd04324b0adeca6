"""Cancelling all runs of a function: none that is listed stays, and none is cancelled twice."""

from typing import Any, cast

import pytest
from typer.testing import CliRunner, Result

from stepstream.cli.client import EngineClient, Refused
from stepstream.cli.control import runs
from stepstream.cli.control.cancelling import cancel_runs
from stepstream.cli.main import cli


class Engine:
    """The API of an engine whose list of runs is behind; the first three cancelled runs have started another one."""

    def __init__(self, count: int) -> None:
        self.open = [f"run-{number:06}" for number in reversed(range(count))]
        self.listed = list(self.open)
        self.cancelled: list[str] = []

    def request(self, method: str, *path: str, expect: str, query: dict[str, Any] | None = None, **_: Any) -> Any:
        """Answer a request."""
        if method == "DELETE":
            return {expect: self._cancel(path[-1])}
        assert query is not None
        if query["function"] != "loop" or query["status"] != "running":
            return {"runs": []}
        page = [run_id for run_id in self.listed if not query["before"] or run_id < query["before"]]
        if not query["before"]:
            self.listed = sorted({*self.open}, reverse=True)
        return {"runs": [{"run_id": run_id, "function": "loop"} for run_id in page[: query["limit"]]]}

    def _cancel(self, run_id: str) -> bool:
        assert run_id not in self.cancelled
        if run_id.endswith("7"):
            raise Refused("it has ended already")
        self.cancelled.append(run_id)
        self.open.remove(run_id)
        if len(self.cancelled) <= 3:
            self.open.append(f"run-9{len(self.cancelled):05}")
        return True


@pytest.mark.parametrize("count", [5, 1_200])
def test_all_open_runs_of_a_function_are_cancelled(count: int) -> None:
    """Over several pages, and with those that started meanwhile; runs that have ended meanwhile are left out."""
    engine = Engine(count)
    ended = sum(number % 10 == 7 for number in range(count))
    assert cancel_runs(cast("EngineClient", engine), "loop", pause_s=0) == count + 3 - ended
    assert not [run_id for run_id in engine.open if not run_id.endswith("7")]


def invoke(*arguments: str, input: str | None = None) -> Result:
    """Run a command in this process."""
    return CliRunner().invoke(cli, ["runs", "cancel", *arguments], input=input)


def test_the_command_asks_before_it_cancels_many(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without --yes it asks; it needs either a run or a function."""
    engine = Engine(2)
    monkeypatch.setattr(runs, "EngineClient", lambda *_: engine)
    assert invoke("--function", "loop", input="n\n").exit_code == 1
    assert not engine.cancelled
    done = invoke("--function", "loop", "--yes")
    assert (done.exit_code, done.stdout) == (0, "cancelled 5 runs of 'loop'\n")
    for arguments in ((), ("abcdef", "--function", "loop")):
        wrong = invoke(*arguments)
        assert (wrong.exit_code, "give the id of a run, --filter or --function" in wrong.stderr) == (2, True)
