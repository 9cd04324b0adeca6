"""Translates the errors of Kafka clients to those of the ports, and stops clients that fail to stop."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from aiokafka.errors import (
    InvalidSessionTimeoutError,
    InvalidTransactionTimeout,
    KafkaConnectionError,
    KafkaError,
    ProducerFenced,
)

from stepstream.runtime.ports import Fenced, LogError

STOP_S_MAX = 5.0
_TIMEOUTS = {
    InvalidSessionTimeoutError: (
        "SESSION_S",
        "group.min.session.timeout.ms to group.max.session.timeout.ms (by default 6 s to 30 min)",
    ),
    InvalidTransactionTimeout: ("TRANSACTION_S", "at most transaction.max.timeout.ms (by default 15 min)"),
}


@contextmanager
def translate_kafka_errors(what: str) -> Iterator[None]:
    """Raise LogError for an error of a client, whose outcome is unknown; Fenced if the producer was fenced.

    `what` is what was tried, as in "writing". Brokers use the same error for a producer that was fenced and for a
    transaction that exceeded its timeout.
    """
    try:
        yield
    except asyncio.CancelledError as error:
        # A client that stops cancels its own futures. Only a cancellation of this task passes through.
        if (task := asyncio.current_task()) is None or task.cancelling():
            raise
        raise LogError(f"{what}: cancelled by the Kafka client") from error
    except ProducerFenced as error:
        raise Fenced(f"{what}: fenced by a newer owner, or the transaction timed out") from error
    except (InvalidSessionTimeoutError, InvalidTransactionTimeout) as error:
        name, limits = _TIMEOUTS[type(error)]
        raise LogError(f"{what}: the broker refuses STEPSTREAM_KAFKA_{name}; it allows {limits}") from error
    except KafkaConnectionError as error:
        raise LogError(f"{what}: no broker answers") from error
    except (KafkaError, TimeoutError, OSError) as error:
        raise LogError(f"{what}: {type(error).__name__}: {error}") from error


async def stop(client: Any, connections: Any) -> None:
    """Stop a client; if it fails to stop, for example while it waits to retry a fetch, close its connections."""
    try:
        with translate_kafka_errors("closing"):
            async with asyncio.timeout(STOP_S_MAX):
                await client.stop()
    except LogError:
        with suppress(LogError), translate_kafka_errors("closing connections"):
            await connections.close()
