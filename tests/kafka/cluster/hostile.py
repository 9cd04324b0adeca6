"""Compressed batches that inflate to more than a process should hold."""

from aiokafka import AIOKafkaProducer

from stepstream.contract.limits import MIB

RECORDS, RECORD_BYTES = 3, 32 * MIB


async def send_batches(bootstrap: str, codec: str, topics: list[str]) -> None:
    """Send a batch of zeros to partition 0 of each topic."""
    most = 2 * RECORDS * RECORD_BYTES
    producer = AIOKafkaProducer(
        bootstrap_servers=bootstrap, compression_type=codec, max_batch_size=most, max_request_size=most
    )
    await producer.start()
    try:
        for topic in topics:
            batch = producer.create_batch()
            for _ in range(RECORDS):
                assert batch.append(key=b"key", value=bytes(RECORD_BYTES), timestamp=None)
            await (await producer.send_batch(batch, topic, partition=0))
    finally:
        await producer.stop()
