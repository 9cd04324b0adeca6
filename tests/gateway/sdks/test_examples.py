"""The order apps of examples/: each runs with its SDK from its registry, found and called by `stepstream dev`."""

import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.gateway.sdks.processes import READY_S_MAX, Server, install, running, start_dev
from tests.kafka.cluster.broker import free_port
from tests.polling import until
from tests.tidy_rules import ROOT

pytestmark = pytest.mark.long
END_S_MAX = 120.0
ITEMS = [{"price": 1_200, "quantity": 2}, {"price": 500, "quantity": 1}]
SHIPPED = {"order_id": "paid", "status": "shipped", "total": 3_200, "parcel": "Berlin/paid"}
CANCELLED = {"order_id": "unpaid", "status": "cancelled"}


@dataclass(frozen=True, slots=True)
class Example:
    """An app: the commands that install it, as in its README, and the one that starts it."""

    folder: str
    app: str
    installs: Sequence[Sequence[str]]
    start: Sequence[str]


EXAMPLES = (
    Example("typescript", "typescript-shop", [["npm", "ci"], ["npm", "run", "build"]], ["npm", "start"]),
    Example("fastapi", "python-shop", [], [sys.executable, "-m", "uvicorn", "app:app", "--port"]),
    Example("go", "go-shop", [["go", "build", "."]], ["./order-app"]),
)


def order(id: str, pay_within_s: float) -> dict[str, Any]:
    """Return the event that places an order."""
    return {
        "name": "shop/order.placed",
        "data": {"order_id": id, "city": "Berlin", "pay_within_s": pay_within_s, "items": ITEMS},
    }


def outputs(server: Server, function: str) -> list[Any]:
    """Return the outputs of the completed runs of a function, in the order of their events."""
    runs = sorted(server.runs(function=function), key=lambda run: str(run["run_id"]))
    return [server.run(run["run_id"])["output"] for run in runs if run["status"] == "completed"]


def waits(server: Server, function: str) -> bool:
    """Return whether a run of a function waits for an event."""
    return any((run["waits"] or {}).get("state") == "waiting" for run in server.runs(function=function))


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.folder)
def test_example_ships_a_paid_order_and_cancels_another(example: Example, tmp_path: Path) -> None:
    """A step is retried, the payment of one order resumes it, and the wait of another one times out."""
    folder, port = tmp_path / "app", free_port()
    shutil.copytree(ROOT / "examples" / example.folder, folder, ignore=shutil.ignore_patterns("node_modules", "dist"))
    for command in example.installs:
        install(folder, *command)
    with running(tmp_path) as processes:
        server = start_dev(processes, [f"http://127.0.0.1:{port}/api/inngest"])
        start = [*example.start, *([str(port)] if example.start[-1] == "--port" else [])]
        processes.start("app", start, folder, PORT=str(port), INNGEST_DEV=server.url)
        process, notify = f"{example.app}-process-order", f"{example.app}-notify-customer"
        until(lambda: {process, notify} <= server.functions(), READY_S_MAX, "the app was not registered")
        server.send(order("paid", 600))
        until(lambda: waits(server, process), END_S_MAX, "the order did not wait for its payment")
        server.send({"name": "shop/payment.received", "data": {"order_id": "paid"}})
        server.send(order("unpaid", 1))
        until(lambda: len(outputs(server, process)) == 2, END_S_MAX, "the orders were not processed")
        assert outputs(server, process) == [SHIPPED, CANCELLED]
        until(lambda: bool(outputs(server, notify)), END_S_MAX, "the customer was not notified")
        assert outputs(server, notify) == ["parcel Berlin/paid is on its way"]
