"""Realtime clients of the official SDK for TypeScript, which subscribe to what a function of it publishes."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.gateway.sdks.processes import READY_S_MAX, Processes, install, running, start_dev
from tests.kafka.cluster.broker import free_port
from tests.polling import until
from tests.tidy_rules import ROOT

pytestmark = pytest.mark.long
PROGRAMS = ROOT / "tests" / "gateway" / "sdks" / "javascript"
END_S_MAX = 60.0
HELLO, BYE = ["data", {"text": "hello"}], ["data", {"text": "bye"}]
ENDED = ["run", {"status": "completed", "result": {"answered": True}}]


def printed(processes: Processes) -> list[Any]:
    """Return the messages that the clients have printed: their kinds and data."""
    return [json.loads(line) for line in processes.text("app").splitlines() if line.startswith("[")]


def test_subscribers_get_what_a_function_publishes(tmp_path: Path) -> None:
    """Values, a text that is published in parts as it comes into being, and the end of the run."""
    folder, port = tmp_path / "app", free_port()
    shutil.copytree(PROGRAMS, folder)
    install(folder, "npm", "ci")
    with running(tmp_path) as processes:
        server = start_dev(processes, [f"http://127.0.0.1:{port}/api/inngest"])
        command = ["node", "--experimental-websocket", "realtime.mjs"]
        processes.start("app", command, folder, PORT=str(port), INNGEST_DEV=server.url)
        until(lambda: "talk-talk" in server.functions(), READY_S_MAX, "the app was not registered")
        server.send({"name": "talk/go"})
        until(lambda: {"datastream-end", "run"} <= {kind for kind, _ in printed(processes)}, END_S_MAX, "no end")
        until(lambda: BYE in printed(processes) and ENDED in printed(processes), END_S_MAX, "a message is missing")
        found = printed(processes)
    assert [each for each in found if each[0] == "data"] == [HELLO, BYE]
    streamed = [each for each in found if each[0] not in ("data", "run")]
    assert (streamed[0], streamed[-1]) == (["datastream-start", "tokens"], ["datastream-end", "tokens"])
    assert {kind for kind, _ in streamed[1:-1]} == {"chunk"}
    assert "".join(text for _, text in streamed[1:-1]) == "to be"
