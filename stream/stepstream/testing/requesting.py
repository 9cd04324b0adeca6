"""How tests send requests to the runs of an engine."""

from typing import Any

from stepstream.contract.codec import dump_json
from stepstream.contract.operators.run_requests import check_request_id
from stepstream.runtime.readmodel.index import RunIndex
from stepstream.runtime.requests import RequestRef, RunRequests
from stepstream.sdk.values import to_json
from stepstream.testing.streaming import StreamingEngine


class RequestingEngine(StreamingEngine):
    """A test engine whose runs can be sent requests."""

    index: RunIndex

    async def request(
        self, run_id: str, name: str, data: Any = None, *, request_id: str = "", by: str = "tester"
    ) -> Any:
        """Send a request to a run, let all effects happen, and return the reply.

        The same `request_id` is taken once, and has the same reply. Raises `InvalidInput` for data that does not fit
        the schema, `Conflict` if the run has ended or does not wait for the request, and `LookupError` if there is no
        such run, or it has taken the request and waits for something else before it replies.
        """
        requests = RunRequests(self.engine.signal, self.index.queries, self.index.changes, lambda: self.now_ms)
        id = check_request_id(request_id or f"request-{self.index.changes.version}")
        ref = RequestRef(run_id, name, id)
        sent = await requests.ask(ref, dump_json(to_json(data), "data"), by, 0)
        await self.until_idle()
        answer = await requests.reply(ref, 0) if sent else None
        if answer is None or not answer.is_replied:
            raise LookupError(f"{ref} has no reply" if sent else f"there is no run {run_id!r}")
        return answer.reply
