// Functions with limits, and what ends a run from outside.

import { after, app, count, define } from "./sdk.mjs";

let running = 0;

define("concurrency", { concurrency: 1 }, async ({ step }) =>
  step.run("overlap", async () => {
    running += 1;
    await after(100);
    running -= 1;
    return running;
  }),
);

define("throttle", { throttle: { limit: 1, period: "1s" } }, async ({ event }) => event.data.n);

define("rate-limit", { rateLimit: { limit: 1, period: "1h" } }, async ({ event }) => event.data.n);

define("debounce", { debounce: { period: "1s" } }, async ({ event }) => event.data.n);

define("idempotency", { idempotency: "event.data.n" }, async ({ event }) => event.data.n);

define("event-id", {}, async ({ event }) => event.data.n);

define("conditional", { condition: "event.data.n > 1" }, async ({ event }) => event.data.n);

for (const mode of ["skip", "cancel"]) {
  define(`singleton-${mode}`, { singleton: { mode } }, async ({ event, step }) => {
    await step.sleep("nap", "2s");
    return event.data.n;
  });
}

define("priority", { concurrency: 1, priority: { run: "event.data.priority" } }, async ({ event, step }) =>
  step.run("order", async () => {
    await after(500);
    return [event.data.n, count("priority")];
  }),
);

const cancelled = { event: `${app}/cancel`, if: "async.data.n == event.data.n" };

define("cancel-on", { cancelOn: [cancelled] }, async ({ event, step }) => {
  await step.sendEvent("cancel", { name: `${app}/cancel`, data: event.data });
  await step.sleep("long", "1h");
});

define("finish-timeout", { timeouts: { finish: "1s" } }, async ({ step }) => {
  await step.sleep("long", "1h");
});
