"""Reads metrics as Prometheus does."""

from collections.abc import Iterable
from dataclasses import replace

from prometheus_client.parser import text_string_to_metric_families

from stepstream.runtime.metrics import Metrics
from stepstream.testing import VirtualEngine


class Scrape:
    """The samples and families of one scrape."""

    def __init__(self, text: str) -> None:
        families = list(text_string_to_metric_families(text))
        self.families = {family.name: family for family in families}
        # Without a line with its type, a metric is a family for each of its samples.
        self._samples = [sample for family in families for sample in family.samples]

    @classmethod
    def of(cls, scrapes: "Iterable[Scrape]") -> "Scrape":
        """Return several scrapes as one."""
        found = cls("")
        for each in scrapes:
            found._samples += each._samples
        return found

    def values(self, name: str, **labels: str) -> list[tuple[dict[str, str], float]]:
        """Return the labels and values of the samples of that name with these labels."""
        return [
            (sample.labels, sample.value)
            for sample in self._samples
            if sample.name == name and labels.items() <= sample.labels.items()
        ]

    def sum(self, name: str, **labels: str) -> float:
        """Return the sum of the samples of that name with these labels."""
        return sum(value for _, value in self.values(name, **labels))


def observe(engine: VirtualEngine, metrics: Metrics) -> None:
    """Have an engine that was not started report to metrics."""
    engine.engine._options = replace(engine.engine._options, observer=metrics, worker_observer=metrics)
