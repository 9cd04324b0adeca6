# What type checkers and editors read; __init__.py imports the same names at their first use.

from stepstream.client.client import Client
from stepstream.client.errors import (
    EngineUnreachable,
    NoReply,
    RequestRefused,
    RunFailed,
    RunNotEnded,
    StreamLost,
    StreamRefused,
)
from stepstream.client.messages import StreamMessage
from stepstream.client.results import Run
from stepstream.client.run_control import RunHandle
from stepstream.client.stream_client import StreamClient
from stepstream.client.sync_client import SyncClient, SyncRunHandle
from stepstream.contract.errors import StepstreamError
from stepstream.contract.functions import CronTrigger, EventTrigger
from stepstream.contract.receipts import SignalReceipt
from stepstream.runtime.kafka.kafka_client import KafkaClient
from stepstream.sdk.app import App
from stepstream.sdk.batches import Batch
from stepstream.sdk.cancellation import CancelOn, Timeouts
from stepstream.sdk.channels import Channel
from stepstream.sdk.context import Context, ThreadedContext
from stepstream.sdk.errors import (
    DefinitionError,
    NonRetriableError,
    RetryAfterError,
    StepError,
    StepLimitError,
    StepUsageError,
)
from stepstream.sdk.event import Event
from stepstream.sdk.flow_control import Concurrency, Throttle
from stepstream.sdk.function import Function, cron, on
from stepstream.sdk.inference import Inference
from stepstream.sdk.named_limits import Limit
from stepstream.sdk.refusals import Debounce, Idempotency, RateLimit, Singleton
from stepstream.sdk.steps.approvals import Approval
from stepstream.sdk.steps.requests import Request, ThreadedRequest
from stepstream.sdk.steps.several_waits import Wait

__version__: str

__all__ = [
    "App",
    "Approval",
    "Batch",
    "CancelOn",
    "Channel",
    "Client",
    "Concurrency",
    "Context",
    "CronTrigger",
    "Debounce",
    "DefinitionError",
    "EngineUnreachable",
    "Event",
    "EventTrigger",
    "Function",
    "Idempotency",
    "Inference",
    "KafkaClient",
    "Limit",
    "NoReply",
    "NonRetriableError",
    "RateLimit",
    "Request",
    "RequestRefused",
    "RetryAfterError",
    "Run",
    "RunFailed",
    "RunHandle",
    "RunNotEnded",
    "SignalReceipt",
    "Singleton",
    "StepError",
    "StepLimitError",
    "StepUsageError",
    "StepstreamError",
    "StreamClient",
    "StreamLost",
    "StreamMessage",
    "StreamRefused",
    "SyncClient",
    "SyncRunHandle",
    "ThreadedContext",
    "ThreadedRequest",
    "Throttle",
    "Timeouts",
    "Wait",
    "cron",
    "on",
]
