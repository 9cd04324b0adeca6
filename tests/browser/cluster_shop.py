"""An engine and a worker on Kafka in place of a `stepstream dev`, which are killed and started again together."""

import sys
from pathlib import Path

import httpx

from tests.browser.shop import Shop
from tests.kafka.cluster.fleet import Fleet
from tests.kafka.cluster.worlds import fresh_namespace
from tests.polling import until


class ClusterShop(Shop):
    """A cluster with one shard, which serves the page at the address of its engine."""

    def __init__(self, folder: Path, bootstrap: str) -> None:
        super().__init__(folder)
        self._fleet = Fleet(bootstrap, fresh_namespace(), folder)
        self._fleet.command("topics", "apply", "--shards", "1", "--app", "support")

    def start(self, limit: int = sys.maxsize, port: int = 0) -> None:  # noqa: ARG002 - as those of the laptop
        """Start both processes, and wait until the engine knows the functions of the worker."""
        self.url = f"http://127.0.0.1:{self._port}"
        self._fleet.app = self.folder / self.file
        if self._fleet.members:
            for member in self._fleet.members:
                member.start()
        else:
            self._fleet.add_engine("--port", str(self._port))
            self._fleet.add_worker()
        until(self._serves, missing="the engine does not serve the functions of the worker")

    def _serves(self) -> bool:
        try:
            return bool(self.get("/v1/functions")["functions"])
        except httpx.HTTPError:
            return False

    def kill(self) -> None:
        """Kill both processes."""
        self._fleet.kill()

    def errors(self) -> list[str]:
        """Return what both processes wrote."""
        return self._fleet.logs().splitlines()

    def end(self) -> None:
        """Stop both processes; no page may have failed on an error of ours."""
        self._fleet.stop()
        super().end()
