"""The parts of a process that read sources and measure their lag, alike in engines and workers."""

import functools
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from stepstream.host.monitoring.gauges import SourceGauges
from stepstream.host.sources.agent import Append
from stepstream.host.sources.faust_app import make_faust
from stepstream.host.sources.readers import SourceReaders
from stepstream.runtime.kafka.client.cluster import Cluster
from stepstream.runtime.metrics import Metrics
from stepstream.sdk.source import Source


def source_parts(
    cluster: Cluster, group: str, sources: Sequence[Source], append: Append, metrics: Metrics
) -> dict[str, Callable[[], Coroutine[Any, Any, None]]]:
    """Return the parts by name; the metrics get the gauges of the sources."""
    readers = SourceReaders(functools.partial(make_faust, cluster, group), sources, append, metrics)
    gauges = SourceGauges(readers, cluster)
    metrics.ask(gauges.read)
    return {"sources": readers.serve, "source_lags": gauges.measure}
