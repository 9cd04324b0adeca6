"""The metrics are correct, count nothing twice, and are those of docs/metrics.md."""

import re
from datetime import timedelta
from typing import Any

import pytest

from stepstream import App, Context, Event, Limit, NonRetriableError, on
from stepstream.contract.functions import FunctionRegistered
from stepstream.contract.topics import EVENTS, FUNCTIONS
from stepstream.runtime.metrics import METRICS, Metrics
from stepstream.runtime.ports import NewRecord
from stepstream.runtime.shard.loop import BatchStats
from stepstream.runtime.storage.journal import JournalWrite
from stepstream.testing import Crash, VirtualEngine
from tests.runtime.exposition import Scrape, observe
from tests.tidy_rules import PRODUCT, ROOT

DOCUMENT = (ROOT / "docs" / "metrics.md").read_text("utf-8")
PARTS: dict[str, tuple[Any, ...]] = {
    "dev": ("engine", "worker", "gateway"),
    "engine": ("engine", "sources"),
    "worker": ("worker", "sources"),
    "gateway": ("worker", "gateway"),
}
RUNS = 3


class Measured(VirtualEngine):
    """An engine on a virtual clock, with metrics."""

    def __init__(self, *apps: App, **options: Any) -> None:
        super().__init__(*apps, **options)
        self.metrics = Metrics("engine", "worker")
        observe(self, self.metrics)

    async def __aenter__(self) -> "Measured":
        await super().__aenter__()
        return self

    def sum(self, name: str, **labels: str) -> float:
        """Return the sum of a metric, `name` without its prefix."""
        return Scrape(self.metrics.text().decode()).sum(f"stepstream_{name}", **labels)


def listed(section: str) -> dict[str, tuple[str, set[str]]]:
    """Return the metrics that a section of the document lists: type and labels by name."""
    found = re.search(rf"^## {section} \(.*?\n(.*?)(?=^## |\Z)", DOCUMENT, re.M | re.S)
    assert found, f"there is no section {section!r}"
    rows = re.findall(r"^\| `(\w+)` \| (\w+) \| (.*?) \|", found[1], re.M)
    assert rows
    return {name: (kind, set(re.findall(r"`(\w+)`", labels))) for name, kind, labels in rows}


def sections_of(process: str) -> list[str]:
    """Return the sections whose heading names a process."""
    headings = re.findall(r"^## (.+?) \((.+?)\)$", DOCUMENT, re.M)
    return [title for title, processes in headings if process in processes.split(", ")]


@pytest.mark.parametrize("process", PARTS)
def test_the_document_lists_what_a_process_exports(process: str) -> None:
    """Names, types and labels are the same on both sides."""
    documented = {name: row for section in sections_of(process) for name, row in listed(section).items()}
    metrics = Metrics(*PARTS[process])
    typed = dict(re.findall(r"^# TYPE (\S+) (\w+)$", metrics.text().decode(), re.M))
    assert typed == {name: kind for name, (kind, _) in documented.items()}
    labels = {f"stepstream_{m.name}{'_total' if m.kind == 'counter' else ''}": set(m.labels) for m in METRICS}
    labels |= {name: set[str]() for name in documented if name.startswith("process_")}
    assert {name: labels[name] for name in documented} == {name: row for name, (_, row) in documented.items()}


def test_every_count_of_the_engine_has_a_metric() -> None:
    """A name that a transition counts or times and that the metrics do not know would crash the shard."""
    engine = "\n".join(path.read_text("utf-8") for path in (ROOT / PRODUCT / "engine").rglob("*.py"))
    shard = (ROOT / PRODUCT / "runtime" / "shard" / "loop.py").read_text("utf-8")
    counted = {(name,) for name in re.findall(r'\.count\("(\w+)"', engine)}
    counted |= {(name,) for name in re.findall(r'count = \("(\w+)"', shard)}
    timed = set(re.findall(r'\.time\("(\w+)"', engine))
    assert len(counted) > 8
    assert len(timed) > 3
    metrics = Metrics("engine")
    labelled = {(*name, "label"): 1 for name in counted}
    samples = [(name, "label", 1) for name in timed]
    metrics.committed(0, BatchStats(1, labelled, samples, 0.1, 0.1))  # type: ignore[arg-type]  # Plain tuples will do.


def shop() -> App:
    """Return an app with a step that fails once, a sleep, a wait, and a function that fails."""
    app = App("shop")
    failed: set[str] = set()

    async def flaky(run_id: str) -> str:
        if run_id not in failed:
            failed.add(run_id)
            raise ConnectionError("down")
        return "up"

    @app.function(on("order"), backoff="10s")
    async def work(ctx: Context) -> str:
        await ctx.step.run("flaky", flaky, ctx.run_id)
        await ctx.step.sleep("nap", "1h")
        paid = await ctx.step.wait_for_event("paid", event="paid", match="data.n", timeout="1d")
        return "paid" if paid else "unpaid"

    @app.function(on("broken"))
    async def broken(ctx: Context) -> None:
        raise NonRetriableError("no")

    return app


@pytest.mark.parametrize("shards", [1, 4])
async def test_figures_are_correct(shards: int) -> None:
    """Runs, steps, retries, open waits and times are right for any number of shards."""
    async with Measured(shop(), shards=shards) as engine:
        assert engine.sum("runs_started_total", function="work") == 0
        await engine.send(*[Event("order", {"n": n}) for n in range(RUNS)], Event("broken"))
        assert engine.sum("runs_started_total", function="work") == RUNS
        assert engine.sum("runs_ended_total", function="broken", status="failed") == 1
        assert engine.sum("step_retries_total", function="work") == RUNS
        assert engine.sum("steps_open", kind="run") == RUNS
        await engine.advance("10s")
        assert engine.sum("steps_open", kind="run") == 0
        assert engine.sum("steps_open", kind="sleep") == RUNS
        await engine.advance("1h")
        assert engine.sum("steps_open", kind="wait") == engine.sum("runs_open", function="work") == RUNS
        await engine.send(Event("paid", {"n": 0}))
        await engine.advance("1d")
        assert engine.sum("runs_ended_total", function="work", status="completed") == RUNS
        assert engine.sum("runs_open") == engine.sum("steps_open") == 0
        assert engine.sum("steps_ended_total", kind="wait", outcome="value") == 1
        assert engine.sum("steps_ended_total", kind="wait", outcome="timeout") == RUNS - 1
        assert engine.sum("match_latency_seconds_count") == 1
        longest = timedelta(days=1, hours=1, seconds=10).total_seconds()
        spent = engine.sum("run_duration_seconds_sum", function="work")
        assert round(spent, 6) == longest * (RUNS - 1) + 3_610
        assert engine.sum("step_duration_seconds_count", function="work") == RUNS
        assert engine.sum("timer_late_seconds_count", kind="step") == RUNS + RUNS + RUNS - 1
        assert engine.sum("timer_late_seconds_sum") == 0
        assert engine.sum("worker_step_attempts_total", function="work", outcome="retry") == RUNS
        assert engine.sum("worker_step_attempts_total", function="work", outcome="value") == RUNS
        assert engine.sum("batch_records_sum") == engine.sum("records_total") > 0


async def test_a_late_timer_is_measured() -> None:
    """A timer that fires 7 s after its time is 7 s late."""
    async with Measured(shop()) as engine:
        await engine.send(Event("order", {"n": 1}))
        engine.clock.advance_to(engine.now_ms + 17_000)
        await engine.until_idle()
        assert engine.sum("timer_late_seconds_sum", kind="step") == pytest.approx(7)


@pytest.mark.parametrize("when", ["before", "after"])
async def test_what_was_rolled_back_is_not_counted(when: Any) -> None:
    """An engine that crashes around a commit counts no step twice, and the gauges of open runs stay right."""
    async with Measured(shop(), crashes=[Crash("engine", when, "nap")]) as engine:
        await engine.send(Event("order", {"n": 1}))
        await engine.advance("10s")
        assert engine.sum("steps_open", kind="sleep") == 1
        await engine.advance("1h")
        assert engine.sum("runs_started_total", function="work") == 1
        assert engine.sum("steps_ended_total", kind="run") == 1
        assert engine.sum("steps_ended_total", kind="sleep") == 1
        assert engine.sum("steps_open") == engine.sum("runs_open") == 1
        assert engine.sum("shard_recoveries_total", shard="0") == 2


async def test_open_runs_and_steps_are_counted_after_a_restart(tmp_path: Any) -> None:
    """A new process reads from the tables how many there are, and counts down from there."""
    async with Measured(shop(), data_dir=tmp_path) as engine:
        await engine.send(*[Event("order", {"n": n}) for n in range(RUNS)])
        await engine.advance("10s")
        now = engine.now_ms
    async with Measured(shop(), data_dir=tmp_path, now_ms=now) as engine:
        assert engine.sum("runs_open", function="work") == RUNS
        assert engine.sum("steps_open", kind="sleep") == RUNS
        assert engine.sum("runs_started_total") == 0
        await engine.advance("2d")
        assert engine.sum("runs_open") == engine.sum("steps_open") == 0
        engine.metrics.left(0)
        assert "stepstream_runs_open{" not in engine.metrics.text().decode()


async def test_limits_are_measured_by_name() -> None:
    """How many runs hold one and wait for it, for all values of its key, and since when the first one waits."""
    app = App("shop")

    @app.function(on("order"), limits=[Limit("bank", 1, key="event.data.tenant")])
    async def pay(ctx: Context) -> None:
        await ctx.step.sleep("nap", "1h")

    async with Measured(app) as engine:
        await engine.send(*(Event("order", {"tenant": tenant}) for tenant in "aab"))
        await engine.advance("10m")
        assert engine.sum("gate_permits_in_use", gate="bank") == 2
        assert engine.sum("gate_runs_waiting", gate="bank") == 1
        assert engine.engine.oldest_waits() == {"bank": 600.0}
        await engine.advance("2h")
        assert engine.sum("gate_permits_in_use") == engine.sum("gate_runs_waiting") == 0
        assert engine.engine.oldest_waits() == {}


async def test_a_loop_of_events_ends_after_100_runs_and_is_counted() -> None:
    """That is the limit by default; the metric names the function whose step is refused."""
    app = App("loops")

    @app.function(on("go"))
    async def again(ctx: Context) -> None:
        await ctx.step.send_event("again", Event("go"))

    async with Measured(app) as engine:
        await engine.send(Event("go"))
        assert [run.status for run in engine.runs()] == 99 * ["completed"] + ["failed"]
        assert engine.sum("chains_refused_total", function="again") == 1


async def test_dead_letters_and_errors_of_expressions_are_counted() -> None:
    """A dead letter is counted by topic and reason, an expression that fails on an event by its place."""
    app = App("shop")

    @app.function(on("order", if_="event.data.total > 5"))
    async def costly(ctx: Context) -> None:
        await ctx.step.wait_for_event("paid", event="paid", if_="async.data.sum > 5", timeout="1d")

    async with Measured(app) as engine:
        poison = [(EVENTS, b"{"), (EVENTS, b'{"name":"x","data":{"a":"' + b"y" * 3_200_000 + b'"}}'), (FUNCTIONS, b"5")]
        records = [NewRecord(topic, 0, b"", value) for topic, value in poison]
        engine.journal.write(JournalWrite(records), engine.now_ms)
        await engine.send(Event("order", {"total": "much"}), Event("order", {"total": 6}))
        await engine.send(Event("paid", {"sum": "much"}))
        assert engine.sum("dead_letters_total", topic=EVENTS, reason="invalid") == 1
        assert engine.sum("dead_letters_total", topic=EVENTS, reason="too-large") == 1
        assert engine.sum("dead_letters_total", topic=FUNCTIONS, reason="invalid") == 1
        assert engine.sum("expression_errors_total", place="trigger") == 1
        assert engine.sum("expression_errors_total", place="match") == 1


def test_histograms_are_as_prometheus_reads_them() -> None:
    """Buckets are cumulative and include their bound; the last one is the count."""
    metrics = Metrics("engine")
    for records in (1, 2, 3, 500, 501):
        metrics.committed(7, BatchStats(records, {}, (), 0.0, 0.0))
    found = Scrape(metrics.text().decode()).values("stepstream_batch_records_bucket", shard="7")
    buckets = {labels["le"]: value for labels, value in found}
    assert buckets == {"1": 1, "2": 2, "5": 3, "10": 3, "20": 3, "50": 3, "100": 3, "200": 3, "500": 4, "+Inf": 5}


def test_known_functions_start_at_zero() -> None:
    """A recovered shard exports 0 for each function, so that Prometheus sees the first run as an increase."""
    metrics = Metrics("engine")
    metrics.recovered(0, {}, [FunctionRegistered("work", "shop").id])
    scrape = Scrape(metrics.text().decode())
    assert scrape.values("stepstream_runs_started_total") == [({"function": "work"}, 0)]
    assert scrape.values("stepstream_runs_ended_total") == [({"function": "work", "status": "failed"}, 0)]
