"""Durable functions in Python on Kafka; on a laptop they run in one process without a broker."""

from stepstream.contract.errors import StepstreamError
from stepstream.contract.functions import CronTrigger, EventTrigger
from stepstream.sdk.app import App
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
from stepstream.sdk.function import Function, cron, on

__version__ = "0.1.0"

__all__ = [
    "App",
    "Context",
    "CronTrigger",
    "DefinitionError",
    "Event",
    "EventTrigger",
    "Function",
    "NonRetriableError",
    "RetryAfterError",
    "StepError",
    "StepLimitError",
    "StepUsageError",
    "StepstreamError",
    "ThreadedContext",
    "cron",
    "on",
]
