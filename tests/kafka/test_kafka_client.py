"""The client that sends straight to Kafka, on a real broker with an engine."""

from pathlib import Path

import pytest

from stepstream import App, Context, Event, KafkaClient, StepstreamError, on
from stepstream.contract.errors import InvalidInput
from stepstream.runtime.kafka.client.settings import KafkaSettingsError
from tests.kafka.cluster.worlds import KafkaWorld, fresh_namespace

app = App("shop")


@app.function(on("order"))
async def charge(ctx: Context) -> int:
    """Return the total."""
    return int(ctx.event.data["total"])


@pytest.mark.kafka
@pytest.mark.slow
async def test_events_sent_to_kafka_start_functions_once(bootstrap: str, tmp_path: Path) -> None:
    """By name or several at once; the same id starts a function once, also if the client connects again."""
    namespace = fresh_namespace()
    async with KafkaWorld(bootstrap, namespace, app, shards=2, data_dir=tmp_path) as engine:
        for _ in range(2):
            async with KafkaClient(bootstrap, namespace=namespace) as client:
                assert await client.send("order", {"total": 1}, id="o-1") == "o-1"
                ids = await client.send(Event("order", {"total": 2}, id="o-2"), Event("other"))
                assert (ids[0], len(ids[1])) == ("o-2", 32)
        await engine.until_idle()
        assert sorted(str(run.output) for run in engine.runs()) == ["1", "2"]
    with pytest.raises(InvalidInput, match="use it in `async with`"):
        await client.send("order")


@pytest.mark.kafka
@pytest.mark.slow
async def test_a_lost_broker_is_an_error_with_the_remedy() -> None:
    """Settings are checked at once; an address without a broker is an error of the first call."""
    with pytest.raises(KafkaSettingsError, match="expected HOST:PORT"):
        KafkaClient("a b")
    async with KafkaClient("127.0.0.1:9") as client:
        with pytest.raises(StepstreamError, match="send them again with the same ids"):
            await client.send("order")
