"""Every bound of the system with its unit in its name, so that nothing grows without one."""

from dataclasses import dataclass, replace

MINUTE_MS = 60_000
HOUR_MS = 60 * MINUTE_MS
DAY_MS = 24 * HOUR_MS
MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits that a deployment may change; the defaults are those of docs/guarantees.md."""

    steps_per_run_max: int = 1_000
    step_output_bytes_max: int = 4 * MIB
    run_memo_bytes_max: int = 32 * MIB
    event_bytes_max: int = 512 * 1024
    events_per_request_max: int = 5_000
    request_bytes_max: int = 16 * MIB
    wait_ms_max: int = 366 * DAY_MS
    start_dedup_ms: int = DAY_MS
    waits_per_match_max: int = 500


DEFAULT_LIMITS = Limits()
# Any event that the log accepts. Inngest SDKs may send events so large; those of stepstream's own clients, and of code,
# have at most `event_bytes_max`.
LOGGED_EVENT_BYTES_MAX = 3 * MIB
SDK_LIMITS = replace(DEFAULT_LIMITS, event_bytes_max=LOGGED_EVENT_BYTES_MAX)

# An event about the end of a run has the run's own event and its result; their topic accepts no larger records.
OWN_EVENT_BYTES_MAX = 8 * MIB
# What the engine adds to an event that a step sends: an id and a time.
SENT_EVENT_BYTES_MORE = 1_024
EVENT_NAME_CHARACTERS_MAX = 255
EVENT_ID_CHARACTERS_MAX = 255
STEP_ID_CHARACTERS_MAX = 1_024
SIGNAL_NAME_CHARACTERS_MAX = 1_024
# A message on a live stream, and the name of its channel.
LIVE_DATA_BYTES_MAX = 256 * 1024
LIVE_CHANNEL_CHARACTERS_MAX = 256
# The steps of which a client remembers the latest message, to know what it repeats or replaces.
LIVE_STEPS_REMEMBERED_MAX = 10_000
# The signals, and their bytes, that wait for a run which a signal has started. They are one row, of at most 8 MiB.
SIGNALS_QUEUED_MAX = 100
SIGNALS_QUEUED_BYTES_MAX = 6 * MIB
# What a person reads and writes in an approval; the form is a JSON schema.
APPROVAL_TITLE_CHARACTERS_MAX = 200
APPROVAL_DESCRIPTION_CHARACTERS_MAX = 10_000
APPROVAL_COMMENT_CHARACTERS_MAX = 10_000
APPROVAL_RECIPIENTS_MAX = 50
APPROVAL_FORM_BYTES_MAX = 64 * 1024
INPUT_SCHEMA_BYTES_MAX = 64 * 1024
# A request to a run: its name, its data, and the JSON schema of the data. How long its sender may wait for the reply,
# and how many senders may wait in a process.
REQUEST_NAME_CHARACTERS_MAX = 256
REQUEST_DATA_BYTES_MAX = MIB
REQUEST_FORM_BYTES_MAX = 64 * 1024
REQUEST_WAIT_MS_DEFAULT, REQUEST_WAIT_MS_MAX = 30_000, MINUTE_MS
REQUESTS_WAITING_MAX = 256
# The events that one step may wait for, and what the code calls each of them.
EVENTS_PER_WAIT_MAX = 20
WAIT_NAME_CHARACTERS_MAX = 100
# The attributes by which people find a run, and a text among them.
ATTRIBUTES_PER_RUN_MAX = 32
ATTRIBUTE_CHARACTERS_MAX = 256
# The values that code sets in `ctx.state`, and the bytes of their names and their JSON together.
STATE_NAMES_PER_RUN_MAX = 32
STATE_BYTES_MAX = 64 * 1024
FUNCTION_ID_CHARACTERS_MAX = 255
# Kafka's own limit; a name consists of a namespace, `commands`, and an app with its queue.
TOPIC_CHARACTERS_MAX = 249
NAMESPACE_CHARACTERS_MAX = 60
WORKERS_NAME_CHARACTERS_MAX = TOPIC_CHARACTERS_MAX - NAMESPACE_CHARACTERS_MAX - len(".commands.")
TRIGGERS_PER_FUNCTION_MAX = 10
# The URL by which a gateway calls a function, and the name and version of its SDK.
ENDPOINT_CHARACTERS_MAX = 2_048
SDK_CHARACTERS_MAX = 100
FUNCTION_NAME_CHARACTERS_MAX = 255
# The events that may cancel a run.
CANCEL_ON_PER_FUNCTION_MAX = 5
# All limits of a function.
GATES_PER_FUNCTION_MAX = 11
# The named limits of a function or a step, those that an app declares, and those that it compares with one another.
LIMITS_PER_FUNCTION_MAX = 5
LIMITS_PER_APP_MAX = 100
LIMITS_PER_APP_CHECKED_MAX = 1_000
# The events of a batch, and their bytes: its run is rows and records of at most 12 MiB, which have the callers as well.
EVENTS_PER_BATCH_MAX = 1_000
EVENTS_PER_BATCH_BYTES_MAX = 10 * MIB
# By how much a priority moves a start forward or back in a queue.
PRIORITY_MS_MAX = 12 * HOUR_MS
GATE_LIMIT_MAX = 1_000_000
UNITS_PER_STEP_MAX = 1_000_000_000
# What a heartbeat says of the progress of a body, as JSON. Of many heartbeats one is reported in a third of the time
# after which their absence fails the attempt, within these bounds.
PROGRESS_BYTES_MAX = 64 * 1024
HEARTBEAT_INTERVAL_MS_MIN = 1_000
HEARTBEAT_INTERVAL_MS_MAX = 5_000
GATE_KEY_CHARACTERS_MAX = 256
GATE_NAME_CHARACTERS_MAX = 2_048
# The weight of a sub-queue is from a thousandth to a thousand, in thousandths.
GATE_WEIGHT_ONE, GATE_WEIGHT_MAX = 1_000, 1_000_000
# How many of the latest changes of a limit are kept, and for how long after it is as in code again.
LIMIT_CHANGES_KEPT_MAX = 10
LIMIT_CHANGES_KEPT_MS = 30 * DAY_MS
# How many of the latest pauses and resumptions of a function or a queue are kept.
SCOPE_CHANGES_KEPT_MAX = 10
# The path of a wait that has no time limit is indexed for the longer time, and the run renews that after the shorter.
PATH_RENEWED_MS = 30 * DAY_MS
PATH_USED_MS = 60 * DAY_MS
# How long a body that is running when its run has exceeded its time may continue.
FINISH_GRACE_MS = 10 * MINUTE_MS
# A chain of runs that start one another; an app may set another limit up to the second number.
CHAIN_RUNS_MAX = 100
CHAIN_RUNS_SETTABLE_MAX = 1_000_000
RETRIES_MAX = 20
RETRIES_DEFAULT = 4
RETRY_AFTER_MS_MIN = 1_000
RETRY_AFTER_MS_MAX = DAY_MS
INVOKE_TIMEOUT_MS = 365 * DAY_MS
TIMESTAMP_MS_MAX = 2**48 - 1
# Who asked an operator's request, why, and the id by which a repeated request changes nothing.
ACTOR_CHARACTERS_MAX = 128
REASON_CHARACTERS_MAX = 1_024
REQUEST_ID_CHARACTERS_MAX = 128
OPERATION_ID_CHARACTERS_MAX = 64
# The runs of a bulk operation by default and at most, how many operations may be open, how many runs each acts on per
# second, and what their requests for reruns have together: the engine stores them until they are answered.
BULK_RUNS_DEFAULT = 10_000
BULK_RUNS_MAX = 100_000
BULK_OPEN_MAX = 50
BULK_RATE_DEFAULT = 100
BULK_RATE_MAX = 1_000
BULK_BYTES_MAX = 256 * MIB
# A page of runs on its way to the engine; one request for a rerun may be larger.
BULK_PAGE_RUNS_MAX = 500
BULK_PAGE_BYTES_MAX = 4 * MIB
# An operation whose pages stop arriving expires. Its requests are answered for as long as their topic retains them. One
# that has ended is remembered, so that a repeat changes nothing. The first of its runs that fail are named.
BULK_UPLOAD_MS_MAX = 10 * MINUTE_MS
BULK_ANSWER_MS_MAX = 7 * DAY_MS
BULK_FAILURES_MAX = 10
BULK_REMEMBERED_MS = 7 * DAY_MS
# The operations that a read model keeps.
BULK_LISTED_MAX = 1_000
ERROR_MESSAGE_CHARACTERS_MAX = 4_096
ERROR_STACK_CHARACTERS_MAX = 16_384
# The error object of an SDK; of a larger one only its name, message and stack are kept.
ERROR_OBJECT_BYTES_MAX = 64 * 1024
WARNINGS_PER_RUN_MAX = 20
# An event is forwarded to at most this many buckets; 32 events of the default limit are 16 MiB.
PATHS_PER_NAME_MAX = 32
# The kept events of a name are indexed by at most this many paths.
LOOKBACK_PATHS_PER_NAME_MAX = 8
# A look-back by more than one equality evaluates the newest kept events of its bucket, in about 3 ms.
LOOKBACK_EVENTS_MAX = 200
# The different expressions of one plan, or of the waits that one record matches: about a second of work.
EXPRESSION_CHARACTERS_PER_RECORD_MAX = 64 * 1024
# What one record matches: a batch with all of it would delay all shards of the process.
MATCHED_BYTES_PER_RECORD_MAX = 4 * MIB
MATCHED_VISITS_PER_RECORD_MAX = 500_000
# The delay before a run whose worker lacks its code is retried.
POSTPONE_MS_MIN = 10_000
POSTPONE_MS_MAX = 10 * MINUTE_MS

# The plans of one activation, the size of one request; more are split into several records.
PLANS_BYTES_MAX = 16 * MIB

# The largest record is a command of 48 MiB; its dead letter has a few headers more.
DEAD_LETTER_BYTES_MAX = 48 * MIB

# While older events are unread, the deduplication of the start of a function by an event lasts this much longer at
# most: topics keep unread events for no longer.
START_HELD_MS_MAX = 7 * DAY_MS

TIMERS_PER_BATCH_MAX = 500
RECORDS_PER_BATCH_MAX = 500
CHANGES_PER_BATCH_MAX = 20_000
# The parts of tables that a shard caches, and the rows and bytes of each: at most 16 MiB.
CACHED_PARTS_MAX = 256
CACHED_PART_ROWS_MAX = 256
CACHED_PART_BYTES_MAX = 64 * 1024
# A compressed batch of a producer may inflate to this; one record of our largest topic fits.
BATCH_INFLATED_BYTES_MAX = 64 * MIB
BATCH_BYTES_MAX = 16 * MIB
# A batch blocks the event loop of the process, and the heartbeats of its groups must be sent within 10 s.
BATCH_MS_MAX = 250
# A step of a run with more memos than this is dispatched without them, and claimed before it runs.
DISPATCHED_BYTES_MAX = 64 * 1024
RELEASES_REPLACED_MAX = 20
RUNS_ACTIVE_MAX = 256
# What a worker starts in one iteration of the event loop: code that creates this many tasks, which take 75 us each,
# and this many bodies, which take 0.3 ms each with their reports.
TASKS_STARTED_PER_ITERATION_MAX = 500
BODIES_STARTED_PER_ITERATION_MAX = 64
RUNS_CACHED_MAX = 10_000
BODY_THREADS_MAX = 64
# Results and reports that the workers of a process hold; Python needs up to three times as much for them.
MEMORY_BYTES_MAX = 256 * MIB
RUNS_QUEUED_MAX = 10_000
# A filter of runs, which a URL contains.
FILTER_CHARACTERS_MAX = 4_096
FILTER_TERMS_MAX = 20
FILTER_VALUES_MAX = 50
# Functions with their own series in the metrics of a process; records in the log may name any number of functions.
FUNCTIONS_LABELLED_MAX = 1_000
