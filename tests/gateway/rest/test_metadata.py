"""Metadata and scores: with the result of a step, and by requests, in traces and among the lines of the run."""

from typing import Any

import pytest

from stepstream.gateway.rest.parts import RestOptions
from stepstream.gateway.runs.metadata_log import MetadataLog
from stepstream.runtime.ports import LogError
from tests.gateway.rest.sites import SdkClient, running
from tests.gateway.runs.endpoint import FakeEndpoint, app_of, hashed, ops, ran, returned

SPANS = """query ($id: String!) { run(runID: $id) { trace {
    metadata { scope kind values } childrenSpans { name metadata { scope kind values updatedAt } } } } }"""
USAGE = {"kind": "inngest.ai", "scope": "step", "op": "set", "values": {"tokens": 7}}


def score(name: str, value: float, **target: Any) -> dict[str, Any]:
    """Return a score as the SDK for TypeScript sends it."""
    values = {name: {"value": value}}
    return {"target": target, "metadata": [{"kind": "inngest.score", "op": "merge", "values": values}]}


async def ended(client: SdkClient) -> str:
    """Run the function, and return the id of the run."""
    await client.send({"name": "demo/go"})
    return client.engine.run("demo-f").run_id


async def test_metadata_is_in_traces_and_among_the_lines_of_the_run() -> None:
    """Scores are merged by name, those of the run are at its span, and a step is named by its id and index."""
    app = app_of(FakeEndpoint(ops(ran("a", 1, metadata=[USAGE])), returned()))
    async with running(app, RestOptions()) as client:
        app.runs.metadata = client.metadata
        run_id = await ended(client)
        for body in (
            score("good", 1, run_id=run_id, step_id="a", step_attempt=0),
            score("fast", 0.5, run_id=run_id, step_id="a"),
            score("all", 2, run_id=run_id),
        ):
            assert (await client.http.post(f"/v1/runs/{run_id}/metadata", json=body)).status_code == 200
        trace = (await client.ask(SPANS, id=run_id))["run"]["trace"]
        lines = client.engine.index.logs(run_id, step=hashed("a"))
    (span,) = trace["childrenSpans"]
    assert all(each.pop("updatedAt") for each in span["metadata"])
    scores = {"good": {"value": 1}, "fast": {"value": 0.5}}
    assert span["metadata"] == [
        {"scope": "step", "kind": "inngest.ai", "values": {"tokens": 7}},
        {"scope": "step", "kind": "inngest.score", "values": scores},
    ]
    assert trace["metadata"] == [{"scope": "run", "kind": "inngest.score", "values": {"all": {"value": 2}}}]
    assert [line.text for line in lines][:2] == [
        'inngest.ai set {"tokens":7}',
        'inngest.score merge {"good":{"value":1}}',
    ]


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"target": {}}, 400),
        ([], 400),
        ({"metadata": [{"kind": "a b", "values": {}}]}, 400),
        ({"metadata": [{"kind": "a", "values": 1}]}, 400),
        ({"metadata": [{"kind": "a", "values": {"x": "y" * 9_000}}]}, 413),
        ({"metadata": [{"kind": "a", "values": {}}] * 101}, 413),
    ],
    ids=["none", "array", "kind", "values", "large", "many"],
)
async def test_wrong_metadata_is_refused(body: Any, status: int) -> None:
    """The reason is in the form that SDKs parse."""
    async with running(app_of(FakeEndpoint(returned())), RestOptions()) as client:
        run_id = await ended(client)
        refused = await client.http.post(f"/v1/runs/{run_id}/metadata", json=body)
        assert (refused.status_code, refused.json()["status"]) == (status, status)
        assert not client.engine.index.logs(run_id)
        unknown = await client.http.post("/v1/runs/unknown/metadata", json={"metadata": []})
        assert unknown.status_code == 404


@pytest.mark.parametrize("metadata", [5, [{"kind": 1}], [{**USAGE, "values": {"x": "y" * 9_000}}], [USAGE]])
async def test_a_step_does_not_depend_on_its_metadata(metadata: Any) -> None:
    """What cannot be read or written is lost, and the step keeps its result."""

    async def fail(_: Any) -> None:
        raise LogError("no broker")

    app = app_of(FakeEndpoint(ops(ran("a", 1, metadata=metadata)), returned(2)))
    async with running(app, RestOptions()) as client:
        app.runs.metadata = MetadataLog(fail, client.engine.clock.now_ms)
        run_id = await ended(client)
        assert client.engine.run("demo-f").output == 2
        assert not client.engine.index.logs(run_id)
