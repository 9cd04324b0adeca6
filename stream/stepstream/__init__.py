"""Durable functions in Python on Kafka; on a laptop they run in one process without a broker."""

import importlib
from typing import Any

__version__ = "0.1.0"

# Each public name is imported at its first use, so that a command of the shell starts without the SDK. Type checkers
# and editors read __init__.pyi instead; a test holds the two together.
_HOMES = {
    "App": "sdk.app",
    "Approval": "sdk.steps.approvals",
    "Batch": "sdk.batches",
    "CancelOn": "sdk.cancellation",
    "Channel": "sdk.channels",
    "Client": "client.client",
    "Concurrency": "sdk.flow_control",
    "Context": "sdk.context",
    "CronTrigger": "contract.functions",
    "Debounce": "sdk.refusals",
    "DefinitionError": "sdk.errors",
    "EngineUnreachable": "client.errors",
    "Event": "sdk.event",
    "EventTrigger": "contract.functions",
    "Function": "sdk.function",
    "Idempotency": "sdk.refusals",
    "Inference": "sdk.inference",
    "KafkaClient": "runtime.kafka.kafka_client",
    "Limit": "sdk.named_limits",
    "NoReply": "client.errors",
    "NonRetriableError": "sdk.errors",
    "RateLimit": "sdk.refusals",
    "Request": "sdk.steps.requests",
    "RequestRefused": "client.errors",
    "RetryAfterError": "sdk.errors",
    "Run": "client.results",
    "RunFailed": "client.errors",
    "RunHandle": "client.run_control",
    "RunNotEnded": "client.errors",
    "Singleton": "sdk.refusals",
    "SignalReceipt": "contract.receipts",
    "StepError": "sdk.errors",
    "StepLimitError": "sdk.errors",
    "StepUsageError": "sdk.errors",
    "StepstreamError": "contract.errors",
    "StreamClient": "client.stream_client",
    "StreamLost": "client.errors",
    "StreamMessage": "client.messages",
    "StreamRefused": "client.errors",
    "SyncClient": "client.sync_client",
    "SyncRunHandle": "client.sync_client",
    "ThreadedContext": "sdk.context",
    "ThreadedRequest": "sdk.steps.requests",
    "Throttle": "sdk.flow_control",
    "Timeouts": "sdk.cancellation",
    "Wait": "sdk.steps.several_waits",
    "cron": "sdk.function",
    "on": "sdk.function",
}
__all__ = [*_HOMES]


def __getattr__(name: str) -> Any:
    """Return a public name from the module that defines it."""
    if (home := _HOMES.get(name)) is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}", name=name)
    found = globals()[name] = getattr(importlib.import_module(f"{__name__}.{home}"), name)
    return found


def __dir__() -> list[str]:
    """Return the names of the module, the public ones included."""
    return sorted({*globals(), *_HOMES})
