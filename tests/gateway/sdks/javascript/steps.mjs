// Functions whose steps succeed: each kind of step, and what comes back from it.

import { app, define, isV3, url } from "./sdk.mjs";

const NESTED = { list: [1, [2, { text: "é 😀", none: null }]], float: 1.5, empty: {}, big: 9007199254740991 };
const MIB = 1_048_576;

define("three-steps", {}, async ({ event, step, attempt }) => {
  const first = await step.run("first", () => 1);
  const second = await step.run("second", () => 2);
  const third = await step.run("third", () => event.data.n);
  return { sum: first + second + third, attempt };
});

define("nested-data", {}, async ({ event, step }) => {
  const nested = await step.run("nested", () => NESTED);
  return { nested, event: event.data };
});

define("null-results", {}, async ({ step }) => {
  const nothing = await step.run("nothing", () => {});
  const none = await step.run("null", () => null);
  return [nothing ?? null, none];
});

define("no-result", {}, async ({ step }) => {
  await step.run("only", () => 1);
});

define("no-steps", {}, async ({ event }) => event.data.n);

define("loop", {}, async ({ step }) => {
  const squares = [];
  for (let number = 0; number < 5; number += 1) {
    squares.push(await step.run("square", () => number * number));
  }
  return squares;
});

define("context", {}, async ({ event, events, runId, attempt }) => ({
  event: event.name,
  events: events.length,
  attempt,
  run: runId.length,
  id: event.id.length > 0,
  ts: event.ts > 1_700_000_000_000,
}));

define("large-state", {}, async ({ step }) => {
  const sizes = [];
  for (let number = 0; number < 5; number += 1) {
    sizes.push((await step.run("mib", () => "x".repeat(MIB))).length);
  }
  return sizes;
});

define("sleep", {}, async ({ step }) => {
  const start = await step.run("start", () => Date.now());
  await step.sleep("nap", "1s");
  return (await step.run("end", () => Date.now())) - start >= 1_000;
});

define("sleep-until", {}, async ({ step }) => {
  const due = await step.run("due", () => Date.now() + 1_000);
  await step.sleepUntil("nap", new Date(due));
  return (await step.run("end", () => Date.now())) >= due;
});

const wait = (id, condition) =>
  define(id, {}, async ({ event, step }) => {
    const answers = [event.data.n + 1, event.data.n].map((n) => ({ name: `${app}/${id}-answer`, data: { n } }));
    const [found] = await Promise.all([
      step.waitForEvent("wait", { event: `${app}/${id}-answer`, timeout: "1m", ...condition }),
      step.sendEvent("answer", answers),
    ]);
    return [found.name, found.data];
  });

wait("wait-if", { if: "async.data.n == event.data.n" });
wait("wait-match", { match: "data.n" });

define("wait-timeout", {}, async ({ step }) =>
  step.waitForEvent("wait", { event: `${app}/never`, timeout: "1s" }),
);

define("wait-for-signal", {}, async ({ runId, step }) => {
  const signal = `approve/${runId}`;
  const [found] = await Promise.all([
    step.waitForSignal("wait", { signal, timeout: "1m", onConflict: "fail" }),
    step.sendSignal("send", { signal, data: { approved: true } }),
  ]);
  return found.data;
});

define("signal-timeout", {}, async ({ runId, step }) =>
  step.waitForSignal("wait", { signal: `never/${runId}`, timeout: "1s", onConflict: "replace" }),
);

define("send-events", {}, async ({ step }) => {
  const sent = [1, 2].map((n) => ({ name: `${app}/sent`, data: { n } }));
  const { ids } = await step.sendEvent("send", sent);
  return ids.map((id) => id.length);
});

define("sent", {}, async ({ event }) => event.data.n);

const parallel = (id, optimizeParallelism) =>
  define(id, { optimizeParallelism }, async ({ step }) => {
    const results = await Promise.all([
      step.run("one", () => 1),
      step.run("two", () => 2),
      step.sleep("nap", "1s"),
      step.waitForEvent("wait", { event: `${app}/never`, timeout: "1s" }),
    ]);
    const last = await step.run("last", () => 3);
    return [...results.map((result) => result ?? null), last];
  });

parallel("parallel", true);
parallel("parallel-every-step", false);

define("race", {}, async ({ group, step }) => {
  const race = () => Promise.race([step.run("fast", () => "fast"), step.sleep("slow", "5s").then(() => "slow")]);
  return isV3 ? race() : group.parallel({ mode: "race" }, race);
});

define("fetch", {}, async ({ step }) => {
  const answer = await step.fetch(`${url}/echo`, { method: "POST", body: "hello" });
  return [answer.status, await answer.text()];
});

define("ai-wrap", {}, async ({ step }) => step.ai.wrap("double", async (number) => number * 2, 4));
