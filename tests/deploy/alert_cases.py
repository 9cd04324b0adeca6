"""Series on which each alert must fire, and must not, in the notation of promtool's unit tests."""

from collections.abc import Mapping
from dataclasses import dataclass, field

MINUTE_S = 60


@dataclass(frozen=True, slots=True)
class Case:
    """Series with a sample per interval; `fires` is the first minute in which the alert fires, None for never.

    The alert that fires has at least these `labels`.
    """

    fires: int | None
    series: Mapping[str, str]
    interval_s: int = MINUTE_S
    labels: Mapping[str, str] = field(default_factory=dict)


def _slow(metric: str, edge: str, most: str, fires: int) -> list[Case]:
    """Return the cases of an alert on the 99th percentile of a histogram."""

    def buckets(below: str) -> dict[str, str]:
        counts = {edge: below, most: "100", "+Inf": "100"}
        return {f'{metric}_bucket{{le="{le}"}}': f"0+{count}x40" for le, count in counts.items()}

    return [Case(fires, buckets("97")), Case(None, buckets("99.5"))]


def _ratio(metric: str, bad: str, good: str) -> list[Case]:
    """Return the cases of an alert on more than 5, and more than one in twenty, failures in 15 minutes."""

    def ended(bad_more: int, good_more: int) -> dict[str, str]:
        return {
            f'{metric}{{function="f",{label}}}': f"1000x14 {1_000 + more}x20"
            for label, more in ((bad, bad_more), (good, good_more))
        }

    return [Case(15, ended(6, 100)), Case(None, ended(6, 200)), Case(None, ended(4, 1)), Case(None, ended(3, 20))]


def _lag(metric: str, *labels: str) -> list[Case]:
    """Return the cases of an alert on a total lag above 1,000 that grows."""
    one, other = (f"{metric}{{{each}}}" for each in labels)
    return [
        Case(6, {one: "600+1x30", other: "401+1x30"}),
        Case(None, {one: "500+0.1x30", other: "490+0.1x30"}),
        Case(None, {one: "600x30", other: "600x30"}),
        Case(None, {one: "800-1x30", other: "800-1x30"}),
    ]


def _any(metric: str) -> list[Case]:
    """Return the cases of an alert on any increase in 15 minutes."""
    return [Case(15, {metric: "10x14 11x20"}), Case(None, {metric: "10x40"})]


_SERVING = "stepstream_shard_serving"
_INPUT = 'stepstream_input_lag_records{shard="0",topic='
_OLDEST = "stepstream_input_oldest_seconds"
_HOT = "stepstream_hot_event_share"
_FREE, _SIZE, _USED = (f"stepstream_disk_{each}_bytes" for each in ("free", "size", "used"))
_RETRIES = 'stepstream_step_retries_total{function="f"}'
_CODE_RETRIES = 'stepstream_run_retries_total{function="f"}'
_ENDED = 'stepstream_runs_ended_total{function="f",status='
_WORKERS = {"in_use": "stepstream_worker_slots_in_use", "slots": "stepstream_worker_slots"}
_THREADS = ("stepstream_worker_body_threads", "stepstream_worker_body_threads_in_use")
_BUILD = "stepstream_build_info"
_COMMANDS = 'stepstream_commands_lag_records{app="shop",partition="0"}'

SHARDS = {
    "StepstreamShardNotServed": [
        Case(7, {f'{_SERVING}{{shard="0"}}': "1x4 0x20"}),
        # Its process is gone: the last sample counts for five minutes.
        Case(11, {f'{_SERVING}{{shard="0"}}': "1x4 _x20", f'{_SERVING}{{shard="1"}}': "1x25"}),
        Case(
            None,
            {f'{_SERVING}{{shard="0",instance="a"}}': "1x4 0x20", f'{_SERVING}{{shard="0",instance="b"}}': "0x4 1x20"},
        ),
        Case(None, {f'{_SERVING}{{shard="0"}}': "0x20"}),
    ],
    "StepstreamShardStuck": [
        Case(6, {f'{_INPUT}"events"}}': "1x30", 'stepstream_records_total{shard="0"}': "5x30"}),
        Case(None, {f'{_INPUT}"history"}}': "1x30", 'stepstream_records_total{shard="0"}': "5x30"}),
        Case(None, {f'{_INPUT}"events"}}': "1x30", 'stepstream_records_total{shard="0"}': "5+1x30"}),
        Case(None, {f'{_INPUT}"events"}}': "0x30", 'stepstream_records_total{shard="0"}': "5x30"}),
        Case(None, {f'{_INPUT}"events"}}': "1x30", 'stepstream_records_total{shard="1"}': "5x30"}),
    ],
    "StepstreamInputLagGrows": [
        *_lag("stepstream_input_lag_records", 'shard="0",topic="events"', 'shard="0",topic="inbox"'),
        # Neither of two shards has more than 1,000.
        Case(None, {f'stepstream_input_lag_records{{shard="{at}",topic="events"}}': "600+1x30" for at in "01"}),
        Case(None, {f'{_INPUT}"history"}}': "5000+1x30", f'{_INPUT}"events"}}': "1+0.1x30"}),
        Case(None, {f'{_INPUT}"history"}}': "5000+1x30", f'{_INPUT}"events"}}': "2000x30"}),
        # One event name is most of what the shard reads: engines would not help.
        Case(None, {f'{_INPUT}"events"}}': "2000+9x30", f'{_HOT}{{shard="0",event="order"}}': "0.9x30"}),
        Case(6, {f'{_INPUT}"events"}}': "2000+9x30", f'{_HOT}{{shard="0",event="order"}}': "0.3x30"}),
        Case(6, {f'{_INPUT}"events"}}': "2000+9x30", f'{_HOT}{{shard="1",event="order"}}': "0.9x30"}),
    ],
    "StepstreamShardBehind": [
        # A batch that takes minutes: the age grows by 60 s a minute.
        Case(7, {f'{_OLDEST}{{shard="0"}}': "0+60x30"}, labels={"shard": "0"}),
        Case(None, {f'{_OLDEST}{{shard="0"}}': "0+60x5 0x20"}),
        Case(None, {f'{_OLDEST}{{shard="{at}"}}': "60x30" for at in "01"}),
    ],
    "StepstreamHotEvent": [
        Case(
            5,
            {f'{_HOT}{{shard="0",event="order"}}': "0.4x30", f'{_INPUT}"inbox"}}': "1001x30"},
            labels={"shard": "0", "event": "order"},
        ),
        # It is hot, and the shard keeps up; it is not hot; another shard is behind; only the read model is.
        Case(None, {f'{_HOT}{{shard="0",event="order"}}': "0.9x30", f'{_INPUT}"inbox"}}': "1000x30"}),
        Case(None, {f'{_HOT}{{shard="0",event="order"}}': "0.3x30", f'{_INPUT}"inbox"}}': "5000x30"}),
        Case(None, {f'{_HOT}{{shard="1",event="order"}}': "0.9x30", f'{_INPUT}"inbox"}}': "5000x30"}),
        Case(None, {f'{_HOT}{{shard="0",event="order"}}': "0.9x30", f'{_INPUT}"history"}}': "5000x30"}),
    ],
    "StepstreamReadModelLags": [
        Case(10, {f'{_INPUT}"history"}}': "10001x30"}),
        Case(None, {f'{_INPUT}"history"}}': "10000x30"}),
        Case(None, {f'{_INPUT}"events"}}': "50000x30"}),
    ],
    # Three increases count as 3.3 in ten minutes, since samples do not reach both ends of the range.
    "StepstreamShardRecoversRepeatedly": [
        Case(10, {'stepstream_shard_recoveries_total{shard="0"}': "10x9 13x20"}),
        Case(None, {'stepstream_shard_recoveries_total{shard="0"}': "10x9 12x20"}),
        Case(None, {f'stepstream_shard_recoveries_total{{shard="{shard}"}}': "10x9 12x20" for shard in "01"}),
        # A shard moves between engines that are replaced.
        Case(
            None,
            {f'stepstream_shard_recoveries_total{{instance="e{at}",shard="0"}}': "10x9 12x20" for at in "01"},
        ),
    ],
    "StepstreamRecoveryStalls": [
        Case(6, {"stepstream_recovery_left_rows": "1x30"}),
        Case(6, {"stepstream_recovery_left_rows": "1+1x30"}),
        Case(None, {"stepstream_recovery_left_rows": "100-1x30"}),
        Case(None, {"stepstream_recovery_left_rows": "0x30"}),
    ],
    "StepstreamStandbyLagGrows": [
        Case(11, {"stepstream_standby_lag_rows": "100001+1x30"}),
        Case(None, {"stepstream_standby_lag_rows": "99000+10x30"}),
        Case(None, {"stepstream_standby_lag_rows": "200000x30"}),
    ],
    "StepstreamCommitsSlow": _slow("stepstream_commit_duration_seconds", "0.5", "1", 11),
    "StepstreamBatchesSlow": [
        *_slow("stepstream_batch_duration_seconds", "1", "2", 11),
        # One slow shard among fast ones is named.
        Case(
            11,
            {
                f'stepstream_batch_duration_seconds_bucket{{shard="{shard}",le="{le}"}}': f"0+{count}x40"
                for shard, below, all_ in (("0", 9_999, 9_999), ("3", 0, 10))
                for le, count in (("1", below), ("2", all_), ("+Inf", all_))
            },
            labels={"shard": "3"},
        ),
    ],
    "StepstreamRebalances": [
        Case(10, {'stepstream_rebalances_total{group="worker"}': "10x9 20x20"}),
        Case(None, {'stepstream_rebalances_total{group="worker"}': "10x9 18x20"}),
        Case(None, {f'stepstream_rebalances_total{{group="{group}"}}': "10x9 16x20" for group in ("engine", "worker")}),
    ],
}

RUNS = {
    "StepstreamRunsFail": _ratio("stepstream_runs_ended_total", 'status="failed"', 'status="completed"'),
    "StepstreamStepRetriesRise": [
        # A function without an hour of samples: seven a minute are 0.117 a second, five are 0.083.
        Case(14, {_RETRIES: "0+7x30"}),
        Case(None, {_RETRIES: "0+5x30"}),
        # 2.1 a minute an hour ago, 6.6 now: more than three times as many; with 4 and 7 it is less.
        Case(84, {_RETRIES: "0+2.1x70 153.6+6.6x50"}),
        Case(None, {_RETRIES: "0+4x70 287+7x50"}),
    ],
    "StepstreamStepsFail": _ratio("stepstream_steps_ended_total", 'outcome="error"', 'outcome="value"'),
    "StepstreamCodeFailsMoreThanItEnds": [
        Case(15, {_CODE_RETRIES: "10x14 20x20", f'{_ENDED}"completed"}}': "10x14 19x20"}),
        Case(15, {_CODE_RETRIES: "10x14 20x20", f'{_ENDED}"failed"}}': "10x14 30x20"}),
        Case(None, {_CODE_RETRIES: "10x14 20x20", f'{_ENDED}"completed"}}': "10x14 20x20"}),
        Case(None, {_CODE_RETRIES: "10x14 19x20", f'{_ENDED}"completed"}}': "10x14 11x20"}),
    ],
    "StepstreamCodeChangedUnderRuns": _any('stepstream_run_warnings_total{function="f"}'),
    "StepstreamChainsRefused": _any('stepstream_chains_refused_total{function="f"}'),
    "StepstreamRunsPileUp": [
        # The 289th sample begins the second day; six hours later it fires.
        Case((289 + 72) * 5, {'stepstream_runs_open{function="f"}': "500x288 1001x90"}, 300),
        Case(None, {'stepstream_runs_open{function="f"}': "501x288 1001x90"}, 300),
        Case(None, {'stepstream_runs_open{function="f"}': "100x288 1000x90"}, 300),
        Case(None, {'stepstream_runs_open{function="f"}': "100x288 5000x70 100x20"}, 300),
    ],
    "StepstreamTimersLate": _slow("stepstream_timer_late_seconds", "5", "10", 6),
    "StepstreamMatchingSlow": _slow("stepstream_match_latency_seconds", "1", "2", 6),
    "StepstreamDeadLetters": [
        Case(20, {"stepstream_dead_letters_total": "0x19 1x20"}),
        # A series whose first sample is a dead letter, because nothing scraped it before.
        Case(5, {"stepstream_dead_letters_total": "_x5 1x20"}),
        Case(None, {"stepstream_dead_letters_total": "0x40"}),
    ],
    "StepstreamReadModelSkipsRecords": _any("stepstream_history_skipped_total"),
    "StepstreamExpressionErrors": _any("stepstream_expression_errors_total"),
}

_SOURCE = "stepstream_source_lag_records"
_READ = 'stepstream_source_records_total{topic="orders"}'
PROCESSES = {
    "StepstreamSourceNotRead": [
        Case(15, {f'stepstream_source_partitions{{topic="orders",instance="{each}"}}': "1x9 0x30" for each in "ab"}),
        Case(
            None,
            {f'stepstream_source_partitions{{topic="orders",instance="{each}"}}': f"{each}x30" for each in range(2)},
        ),
    ],
    "StepstreamSourceStuck": [
        Case(6, {f'{_SOURCE}{{topic="orders",partition="0"}}': "1x30", _READ: "5x30"}),
        Case(None, {f'{_SOURCE}{{topic="orders",partition="0"}}': "1x30", _READ: "5+1x30"}),
        Case(None, {f'{_SOURCE}{{topic="orders",partition="0"}}': "0x30", _READ: "5x30"}),
        Case(None, {f'{_SOURCE}{{topic="other",partition="0"}}': "1x30", _READ: "5x30"}),
    ],
    "StepstreamSourceLagGrows": [
        *_lag(_SOURCE, 'topic="orders",partition="0"', 'topic="orders",partition="1"'),
        # Two processes report one partition while it moves.
        Case(None, {f'{_SOURCE}{{topic="orders",partition="0",instance="{each}"}}': "600+1x30" for each in "ab"}),
    ],
    "StepstreamDown": [
        Case(5, {'up{job="shop-stepstream-engine"}': "0x30"}),
        Case(None, {'up{job="shop-stepstream-engine"}': "1x30"}),
        Case(None, {'up{job="another"}': "0x30"}),
    ],
    "StepstreamNotReady": [
        Case(5, {"stepstream_ready": "0x30"}),
        # A scrape fails, and Prometheus marks the series as stale.
        Case(5, {"stepstream_ready": "0x8 stale 0x40"}, interval_s=15),
        Case(None, {"stepstream_ready": "1x30"}),
    ],
    "StepstreamDiskAlmostFull": [
        Case(9, {_FREE: "13-1x30", _SIZE: "100x30"}),
        Case(None, {_FREE: "10x30", _SIZE: "100x30"}),
    ],
    "StepstreamDiskFills": [
        # 10 MB in five minutes are 2,880 MB a day.
        Case(65, {f'{_USED}{{store="tables"}}': "100+10x90", _FREE: "2800x90"}, 300),
        Case(None, {f'{_USED}{{store="tables"}}': "100+10x90", _FREE: "2900x90"}, 300),
        Case(None, {f'{_USED}{{store="read_model"}}': "500x90", _FREE: "10x90"}, 300),
    ],
    "StepstreamFilesOpen": [
        Case(10, {"process_open_fds": "81x30", "process_max_fds": "100x30", "stepstream_ready": "1x30"}),
        Case(None, {"process_open_fds": "80x30", "process_max_fds": "100x30", "stepstream_ready": "1x30"}),
        # Another program that Prometheus scrapes.
        Case(None, {"process_open_fds": "81x30", "process_max_fds": "100x30"}),
    ],
    "StepstreamWorkersFull": [
        Case(10, {f'{name}{{app="shop",instance="{each}"}}': "4x30" for name in _WORKERS.values() for each in "ab"}),
        Case(
            None,
            {
                f'{_WORKERS["in_use"]}{{app="shop",instance="a"}}': "4x30",
                f'{_WORKERS["in_use"]}{{app="shop",instance="b"}}': "3x30",
                f'{_WORKERS["slots"]}{{app="shop",instance="a"}}': "4x30",
                f'{_WORKERS["slots"]}{{app="shop",instance="b"}}': "4x30",
            },
        ),
    ],
    "StepstreamBodyThreadsBusy": [
        Case(10, {f'{name}{{app="shop",instance="{each}"}}': "64x30" for name in _THREADS for each in "ab"}),
        # A worker of the app has free threads.
        Case(
            None,
            {f'{_THREADS[0]}{{app="shop",instance="{each}"}}': "64x30" for each in "ab"}
            | {f'{_THREADS[1]}{{app="shop",instance="{each}"}}': f"6{each}x30" for each in "43"},
        ),
    ],
    "StepstreamWorkerMemoryFull": [
        Case(10, {"stepstream_worker_memory_bytes": "500x30", "stepstream_worker_memory_limit_bytes": "400x30"}),
        Case(None, {"stepstream_worker_memory_bytes": "399x30", "stepstream_worker_memory_limit_bytes": "400x30"}),
    ],
    "StepstreamRunsWaitForSlots": [
        Case(15, {'stepstream_worker_queue_runs{app="shop"}': "1x30"}),
        Case(None, {'stepstream_worker_queue_runs{app="shop"}': "0x30"}),
    ],
    "StepstreamCallsWaitForWorkers": [
        Case(15, {'stepstream_connect_calls{app="shop",phase="waiting"}': "1x30"}),
        Case(None, {'stepstream_connect_calls{app="shop",phase="waiting"}': "0x30"}),
        Case(None, {'stepstream_connect_calls{app="shop",phase="leased"}': "1x30"}),
    ],
    "StepstreamWorkerLagGrows": [
        Case(6, {'stepstream_worker_lag_records{app="shop",partition="0"}': "0.5+0.01x30"}),
        Case(None, {'stepstream_worker_lag_records{app="shop",partition="0"}': "5x30"}),
        Case(None, {'stepstream_worker_lag_records{app="shop",partition="0"}': "40-1x30"}),
        Case(None, {'stepstream_worker_lag_records{app="shop",partition="0"}': "0x30"}),
    ],
    "StepstreamCommandsWithoutWorkers": [
        Case(2, {_COMMANDS: "1x30", 'stepstream_workers{app="shop"}': "0x30"}),
        Case(None, {_COMMANDS: "1x30", 'stepstream_workers{app="shop"}': "1x30"}),
        Case(None, {_COMMANDS: "0x30", 'stepstream_workers{app="shop"}': "0x30"}),
        # One engine does not know the worker yet.
        Case(
            None, {_COMMANDS: "1x30", **{f'stepstream_workers{{app="shop",instance="{n}"}}': f"{n}x30" for n in "01"}}
        ),
        Case(None, {_COMMANDS: "1x30", 'stepstream_workers{app="shop.gpu"}': "0x30"}),
    ],
    # The wait of a minute grows by 60 s.
    "StepstreamLimitWaitsLong": [
        Case(15, {'stepstream_gate_oldest_wait_seconds{gate="db"}': "3601+60x30"}),
        Case(15, {f'stepstream_gate_oldest_wait_seconds{{gate="db",instance="e{at}"}}': "4000x30" for at in "01"}),
        Case(None, {'stepstream_gate_oldest_wait_seconds{gate="db"}': "3600x30"}),
        Case(None, {'stepstream_gate_oldest_wait_seconds{gate="db"}': "4000x10 60x20"}),
    ],
    "StepstreamTwoVersionsOfCode": [
        Case(60, {f'{_BUILD}{{app="shop",app_version="{version}"}}': "1x80" for version in "ab"}),
        Case(None, {f'{_BUILD}{{app="shop",app_version="a",instance="{each}"}}': "1x80" for each in "ab"}),
        # The workers of a queue may have their own image, and engines have no code.
        Case(None, {f'{_BUILD}{{app="{app}",app_version="{app}"}}': "1x80" for app in ("shop", "shop.gpu")}),
        Case(None, {f'{_BUILD}{{app="",app_version="{version}"}}': "1x80" for version in "ab"}),
    ],
}

CASES = SHARDS | RUNS | PROCESSES
