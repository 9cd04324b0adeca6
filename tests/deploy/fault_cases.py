"""What Prometheus records during the faults of a cluster, and which alerts an operator then sees.

Each fault starts at minute 30 of an hour; until then the cluster is healthy. All other series stay as they are.
"""

from collections.abc import Mapping
from dataclasses import dataclass

START = 30
HEALTHY: dict[str, str] = {
    'up{job="stepstream-engine",instance="e0"}': "1x60",
    'up{job="stepstream-engine",instance="e1"}': "1x60",
    'up{job="stepstream-worker-shop",instance="w0"}': "1x60",
    'stepstream_ready{job="stepstream-engine",instance="e0"}': "1x60",
    'stepstream_ready{job="stepstream-engine",instance="e1"}': "1x60",
    'stepstream_ready{job="stepstream-worker-shop",instance="w0"}': "1x60",
    **{
        f'{name}{{job="stepstream-engine",instance="e{shard}",shard="{shard}"}}': values
        for shard in "01"
        for name, values in (
            ("stepstream_shard_serving", "1x60"),
            ("stepstream_records_total", "0+3000x60"),
            ("stepstream_input_oldest_seconds", "0x60"),
            ("stepstream_shard_recoveries_total", "1x60"),
            ("stepstream_recovery_left_rows", "0x60"),
        )
    },
    **{
        f'stepstream_input_lag_records{{job="stepstream-engine",instance="e{at}",shard="{at}",topic="{topic}"}}': "0x60"
        for at in "01"
        for topic in ("events", "inbox", "history")
    },
    **{
        f'{name}_bucket{{job="stepstream-engine",instance="e{shard}",shard="{shard}",le="{le}"}}': "0+600x60"
        for name in ("stepstream_batch_duration_seconds", "stepstream_commit_duration_seconds")
        for shard in "01"
        for le in ("0.1", "0.5", "1", "5", "+Inf")
    },
    **{
        f'stepstream_timer_late_seconds_bucket{{job="stepstream-engine",instance="e0",le="{le}"}}': "0+60x60"
        for le in ("1", "5", "10", "+Inf")
    },
    'stepstream_commands_lag_records{job="stepstream-engine",instance="e0",app="shop",partition="0"}': "0x60",
    'stepstream_workers{job="stepstream-engine",instance="e0",app="shop"}': "1x60",
    'stepstream_worker_slots{job="stepstream-worker-shop",instance="w0",app="shop"}': "64x60",
    'stepstream_worker_slots_in_use{job="stepstream-worker-shop",instance="w0",app="shop"}': "3x60",
    'stepstream_worker_queue_runs{job="stepstream-worker-shop",instance="w0",app="shop"}': "0x60",
    'stepstream_worker_body_threads{job="stepstream-worker-shop",instance="w0",app="shop"}': "64x60",
    'stepstream_worker_body_threads_in_use{job="stepstream-worker-shop",instance="w0",app="shop"}': "2x60",
    'stepstream_worker_memory_bytes{job="stepstream-worker-shop",instance="w0"}': "10x60",
    'stepstream_worker_memory_limit_bytes{job="stepstream-worker-shop",instance="w0"}': "400x60",
    'stepstream_worker_lag_records{job="stepstream-worker-shop",instance="w0",app="shop",partition="0"}': "0x60",
    'stepstream_disk_free_bytes{job="stepstream-engine",instance="e0"}': "500x60",
    'stepstream_disk_size_bytes{job="stepstream-engine",instance="e0"}': "1000x60",
    'process_open_fds{job="stepstream-engine",instance="e0"}': "100x60",
    'process_max_fds{job="stepstream-engine",instance="e0"}': "1000x60",
    'stepstream_dead_letters_total{job="stepstream-engine",instance="e0",topic="events",reason="too-large"}': "0x60",
    'stepstream_chains_refused_total{job="stepstream-engine",instance="e0",function="loop"}': "0x60",
}


@dataclass(frozen=True, slots=True)
class Fault:
    """The series that a fault changes from its start on, and all alerts that fire within 30 minutes, by their labels.

    The new values replace those of each healthy series whose text contains all words of the key.
    """

    changes: Mapping[str, str]
    alerts: Mapping[str, Mapping[str, str]]


_GONE = "_x30"
_E1 = 'instance="e1"'
_W0 = 'instance="w0"'

FAULTS = {
    "nothing happens": Fault({}, {}),
    "an engine is killed and does not return": Fault(
        {_E1: _GONE, f"up{{ {_E1}": "0x30"},
        {"StepstreamDown": {"instance": "e1"}, "StepstreamShardNotServed": {"shard": "1"}},
    ),
    "all workers are killed": Fault(
        {
            _W0: _GONE,
            f"up{{ {_W0}": "0x30",
            "workers{": "0x30",
            "commands_lag": "0+50x30",
        },
        {"StepstreamDown": {"instance": "w0"}, "StepstreamCommandsWithoutWorkers": {"app": "shop"}},
    ),
    "the brokers are down": Fault(
        {
            "stepstream_ready": "0x30",
            "records_total": "90000x30",
            "input_lag": _GONE,
            "commands_lag": _GONE,
            "workers{": _GONE,
            "worker_lag": _GONE,
            "input_oldest": _GONE,
        },
        {"StepstreamNotReady": {}},
    ),
    "the topics are deleted": Fault(
        {"stepstream_ready": "0x30", "shard_serving": "0x30", "records_total": "90000x30", "input_": _GONE},
        {"StepstreamNotReady": {}, "StepstreamShardNotServed": {}},
    ),
    "the commands of an app are deleted and not created again": Fault(
        {f"stepstream_ready {_W0}": "0x30"}, {"StepstreamNotReady": {"instance": "w0"}}
    ),
    "a shard stops reading": Fault(
        {
            'records_total shard="1"': "90000x30",
            'input_lag shard="1" topic="inbox"': "0+30x30",
            'input_oldest shard="1"': "0+60x30",
        },
        {"StepstreamShardStuck": {"shard": "1"}, "StepstreamShardBehind": {"shard": "1"}},
    ),
    "the look-backs of one event name collapse": Fault(
        {
            'input_lag shard="1" topic="inbox"': "0+900x30",
            'input_oldest shard="1"': "0+30x30",
            'hot_event shard="1"': "0.8x30",
        },
        {"StepstreamHotEvent": {"shard": "1", "event": "payment"}, "StepstreamShardBehind": {"shard": "1"}},
    ),
    "producers send more than the engines take": Fault(
        {'input_lag topic="events"': "0+900x30", "input_oldest": "0+30x30"},
        {"StepstreamInputLagGrows": {}, "StepstreamShardBehind": {}},
    ),
    "a hostile batch becomes dead letters": Fault(
        {"dead_letters": "1x30"}, {"StepstreamDeadLetters": {"topic": "events", "reason": "too-large"}}
    ),
    "functions start one another in a loop": Fault(
        {"chains_refused": "0+5x30"}, {"StepstreamChainsRefused": {"function": "loop"}}
    ),
    "bodies that never end take all slots": Fault(
        {"slots_in_use": "64x30", "queue_runs": "0+10x30"},
        {"StepstreamWorkersFull": {"app": "shop"}, "StepstreamRunsWaitForSlots": {"app": "shop"}},
    ),
    "plain bodies that never end take all threads": Fault(
        {"threads_in_use": "64x30", "queue_runs": "0+10x30"},
        {"StepstreamBodyThreadsBusy": {"app": "shop"}, "StepstreamRunsWaitForSlots": {"app": "shop"}},
    ),
    "large results fill the memory of a worker": Fault(
        {"memory_bytes": "400x30"}, {"StepstreamWorkerMemoryFull": {"instance": "w0"}}
    ),
    "timers wait for the work of an overloaded engine": Fault(
        {'timer_late le="1"': "1800x30", 'timer_late le="5"': "1800x30", 'timer_late le="10"': "1800x30"},
        {"StepstreamTimersLate": {}},
    ),
    "the disk fills up": Fault({"disk_free": "200-20x9 10x20"}, {"StepstreamDiskAlmostFull": {"instance": "e0"}}),
    "clients hold all connections": Fault({"open_fds": "900x30"}, {"StepstreamFilesOpen": {"instance": "e0"}}),
    "a broker acknowledges slowly": Fault(
        {'commit_duration le="0.1"': "18000x30", 'commit_duration le="0.5"': "18000x30"}, {"StepstreamCommitsSlow": {}}
    ),
    "one shard has slow batches": Fault(
        {f'batch_duration shard="1" le="{le}"': "18000x30" for le in ("0.1", "0.5", "1")},
        {"StepstreamBatchesSlow": {"shard": "1"}},
    ),
    "a shard recovers again and again": Fault(
        {'recoveries shard="1"': "1+1x30"}, {"StepstreamShardRecoversRepeatedly": {"shard": "1"}}
    ),
}
# Series that exist only during a fault.
EXTRA = 'stepstream_hot_event_share{job="stepstream-engine",instance="e1",shard="1",event="payment"}'


def series_of(fault: Fault) -> dict[str, str]:
    """Return the series of the hour in which a fault happens."""
    found: dict[str, str] = {}
    for name, healthy in (HEALTHY | {EXTRA: "_x60"}).items():
        changed = [new for words, new in fault.changes.items() if all(word in name for word in words.split())]
        if name != EXTRA or any("hot_event" in words for words in fault.changes):
            found[name] = f"{_before(healthy)} {changed[-1] if changed else _after(healthy)}"
    return found


def _before(values: str) -> str:
    """Return the first half hour of a healthy series."""
    return values.replace("x60", f"x{START - 1}")


def _after(values: str) -> str:
    """Return its second half hour."""
    start, plus, rest = values.partition("+")
    if not plus:
        return values.replace("x60", "x30")
    step = int(rest.removesuffix("x60"))
    return f"{int(start) + step * START}+{step}x30"
