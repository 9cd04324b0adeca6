"""The part of the GraphQL schema that the test suites of SDKs use."""

SCHEMA = """
scalar Bytes
scalar Map
scalar Time
scalar ULID
scalar UUID

type Query {
    apps(filter: Map): [App!]!
    event(query: EventQuery!): Event
    events(query: EventsQuery!): [Event!]!
    eventV2(id: ULID!): EventV2
    eventsV2(first: Int = 50, after: String, filter: EventsFilter): EventsConnection!
    functionBySlug(query: FunctionQuery!): Function
    functionRun(query: FunctionRunQuery!): FunctionRun
    functions: [Function!]!
    run(runID: String!): Run
    runTrace(runID: String!): RunTraceSpan
    runTraceSpanOutputByID(outputID: String!): RunTraceSpanOutput
    runTrigger(runID: String!): RunTraceTrigger
    stream(query: StreamQuery!): [StreamItem!]!
    runs(
        first: Int = 40, after: String, filter: RunsFilterV2, preview: Boolean,
        orderBy: [RunsV2OrderBy!]! = [{field: QUEUED_AT, direction: DESC}]
    ): RunsConnection!
}

type Mutation {
    cancelRun(runID: ULID!): Run
    invokeFunction(data: Map, functionSlug: String!, user: Map, debugSessionID: ULID, debugRunID: ULID): Boolean
}

input EventQuery { eventId: ID!, workspaceId: ID }
input FunctionQuery { functionSlug: String!, workspaceId: ID }
input FunctionRunQuery { functionRunId: ID!, workspaceId: ID }
input EventsQuery { workspaceId: ID, lastEventId: ID }
input StreamQuery { after: Time, before: Time, limit: Int = 50, includeInternalEvents: Boolean }
input EventsFilter { from: Time, until: Time, query: String, eventNames: [String!], includeInternalEvents: Boolean }
enum FunctionRunStatus { QUEUED, RUNNING, COMPLETED, FAILED, CANCELLED, SKIPPED, WAITING, PAUSED, UNKNOWN }
enum RunsOrderByDirection { ASC, DESC }
enum RunsV2OrderByField { QUEUED_AT, STARTED_AT, ENDED_AT }
input RunsV2OrderBy { field: RunsV2OrderByField!, direction: RunsOrderByDirection! }
input RunsFilterV2 {
    from: Time
    until: Time
    timeField: RunsV2OrderByField
    status: [FunctionRunStatus!]
    functionIDs: [UUID!]
    appIDs: [UUID!]
    query: String
}

type App {
    id: UUID!, externalID: String!, name: String!, functions: [Function!]!, functionCount: Int!, connected: Boolean!,
    url: String, error: String
}
type Function {
    id: String!, name: String!, slug: String!, appID: String!, app: App!, triggers: [FunctionTrigger!]!,
    concurrency: Int, url: String
}
type FunctionTrigger { type: String!, value: String!, condition: String }

type Event {
    id: ID!, name: String, createdAt: Time, payload: String, raw: String, pendingRuns: Int, totalRuns: Int,
    functionRuns: [FunctionRun!]
}
type StreamItem { id: ID!, trigger: String!, type: String!, createdAt: Time!, runs: [FunctionRun!], inBatch: Boolean! }
type EventV2 {
    id: ULID!, idempotencyKey: String, name: String!, occurredAt: Time, raw: String!, receivedAt: Time, runs: [Run!]!,
    version: String
}
type EventsConnection { edges: [EventsEdge!]!, pageInfo: PageInfo!, totalCount: Int! }
type EventsEdge { node: EventV2!, cursor: String! }

type FunctionRun {
    id: ID!, name: String, functionID: String!, function: Function, status: String, output: String,
    startedAt: Time, finishedAt: Time, eventID: ID, event: Event, history: [RunHistoryItem!]!
}
type RunHistoryItem { id: ID!, attempt: Int!, createdAt: Time, stepName: String, type: String }
type Run {
    id: ULID!, appID: UUID!, app: App!, functionID: UUID!, function: Function!, traceID: String!, queuedAt: Time!,
    startedAt: Time, endedAt: Time, status: String!, eventName: String, isBatch: Boolean!, batchCreatedAt: Time,
    cronSchedule: String, output: String, trace(preview: Boolean): RunTraceSpan, hasAI: Boolean!
}
type RunTraceSpan {
    runID: ULID!, traceID: String!, spanID: String!, name: String!, status: String!, attempts: Int, isRoot: Boolean!,
    duration: Int, queuedAt: Time, startedAt: Time, endedAt: Time, stepID: String, stepOp: String, stepType: String,
    outputID: String, stepInfo: StepInfo, metadata: [SpanMetadata!]!, parentSpanID: String,
    childrenSpans: [RunTraceSpan!]!
}
union StepInfo = InvokeStepInfo | RunStepInfo | SleepStepInfo | WaitForEventStepInfo | WaitForSignalStepInfo
type InvokeStepInfo {
    triggeringEventID: ULID!, functionID: String!, timeout: Time!, returnEventID: ULID, runID: ULID, timedOut: Boolean
}
type RunStepInfo { type: String }
type SleepStepInfo { sleepUntil: Time! }
type WaitForEventStepInfo {
    eventName: String!, expression: String, timeout: Time!, foundEventID: ULID, timedOut: Boolean
}
type WaitForSignalStepInfo { signal: String!, timeout: Time!, timedOut: Boolean }
type SpanMetadata { scope: String!, kind: String!, values: Map!, updatedAt: Time! }
type RunTraceSpanOutput { input: String, data: String, error: SpanError }
type SpanError { message: String!, name: String, stack: String, cause: Map }
type RunTraceTrigger {
    IDs: [ULID!]!, eventName: String, payloads: [String!]!, timestamp: Time, isBatch: Boolean!, batchID: ULID,
    cron: String
}
type RunsConnection { edges: [RunsEdge!]!, pageInfo: PageInfo!, totalCount(preview: Boolean): Int! }
type RunsEdge { node: Run!, cursor: String! }
type PageInfo { hasNextPage: Boolean!, hasPreviousPage: Boolean!, startCursor: String, endCursor: String }
"""
