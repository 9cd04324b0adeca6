"""The runs for which this process makes calls: what their apps ask for, or report, while a call is open."""

from stepstream.contract.codec import encode
from stepstream.gateway.runs.code import RemoteCode
from stepstream.gateway.runs.metadata_log import MetadataLog
from stepstream.gateway.runs.peers import RunInput
from stepstream.gateway.wire.checkpoints import Checkpoint
from stepstream.sdk.errors import RunInterrupted


class OpenRuns:
    """The runs in the memory of this process, by id; without `metadata` that of their steps is dropped."""

    def __init__(self, metadata: MetadataLog | None = None) -> None:
        self.metadata = metadata
        self._codes: dict[str, RemoteCode] = {}

    def __contains__(self, run_id: object) -> bool:
        return run_id in self._codes

    def add(self, code: RemoteCode) -> None:
        """Note a run that this process has from now on."""
        self._codes[code.run_id] = code

    def forget(self, code: RemoteCode) -> None:
        """Forget a run that has ended here."""
        if self._codes.get(code.run_id) is code:
            del self._codes[code.run_id]

    def events(self, run_id: str) -> RunInput | None:
        """Return the events of a run, a JSON array; None if this process does not have the run."""
        code = self._codes.get(run_id)
        return RunInput(encode(code.caller.events_json()), code.epoch) if code else None

    def memos(self, run_id: str) -> RunInput | None:
        """Return the memos of a run, a JSON object by step; None if this process does not have the run."""
        code = self._codes.get(run_id)
        return RunInput(encode(code.results.memos), code.epoch) if code else None

    async def checkpoint(self, found: Checkpoint) -> bool:
        """Keep what an app reports of a run; return whether the call in which it does is open here.

        When this returns, the results are durable.
        """
        code = self._codes.get(found.run_id)
        if code is None:
            return False
        try:
            return await code.checkpoint(found.ops, found.generation)
        except RunInterrupted:
            return False
