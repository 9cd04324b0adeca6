"""What a client of Kafka raises, in the words of the ports; and how clients end that cannot."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from aiokafka.errors import KafkaConnectionError, KafkaError, ProducerFenced

from stepstream.runtime.ports import Fenced, LogError

STOP_S_MAX = 5.0


@contextmanager
def translate_kafka_errors(what: str) -> Iterator[None]:
    """Turn what a client raises into LogError: the outcome is unknown; Fenced when our transactions are ended.

    The broker says the same of a newer owner as of a transaction that took longer than it may.
    """
    try:
        yield
    except asyncio.CancelledError as error:
        # A client that ends cancels what it has in its hands; only what cancels the task is ours.
        if (task := asyncio.current_task()) is None or task.cancelling():
            raise
        raise LogError(f"{what}: cancelled by the Kafka client") from error
    except ProducerFenced as error:
        raise Fenced(f"{what}: a newer owner is there, or the transaction took too long") from error
    except KafkaConnectionError as error:
        raise LogError(f"{what}: no broker answers") from error
    except (KafkaError, TimeoutError, OSError) as error:
        raise LogError(f"{what}: {type(error).__name__}: {error}") from error


async def stop(client: Any, connections: Any) -> None:
    """Stop a client; one that cannot, as when it waits to fetch again, at least goes off the wire."""
    try:
        with translate_kafka_errors("closing"):
            async with asyncio.timeout(STOP_S_MAX):
                await client.stop()
    except LogError:
        with suppress(LogError), translate_kafka_errors("closing connections"):
            await connections.close()
