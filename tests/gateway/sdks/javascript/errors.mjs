// Functions whose steps or code fail, and functions that call others.

import { after, app, client, count, define, library } from "./sdk.mjs";

const { NonRetriableError, RetryAfterError, StepError, referenceFunction } = library;
const again = () => new RetryAfterError("again", "1s");

define("retried-step", {}, async ({ runId, step }) =>
  step.run("flaky", () => {
    const calls = count("retried-step", runId);
    if (calls < 3) throw again();
    return calls;
  }),
);

define("retried-function", {}, async ({ attempt, step }) => {
  const first = await step.run("first", () => "first");
  if (attempt === 0) throw again();
  return [first, attempt];
});

define("default-back-off", { retries: 1 }, async ({ runId, step }) =>
  step.run("flaky", () => {
    const calls = count("default-back-off", runId);
    if (calls < 2) throw new Error("no reason");
    return calls;
  }),
);

define("exhausted-step", { retries: 1 }, async ({ runId, step }) =>
  step.run("broken", () => {
    throw new RetryAfterError(`call ${count("exhausted-step", runId)}`, "1s");
  }),
);

define("exhausted-function", { retries: 1 }, async ({ attempt }) => {
  throw new RetryAfterError(`attempt ${attempt}`, "1s");
});

define("step-error-caught", { retries: 0 }, async ({ step }) => {
  try {
    await step.run("broken", () => {
      throw new TypeError("no number");
    });
  } catch (error) {
    const caught = await step.run("after", () => "after");
    return [error instanceof StepError, error.message, caught];
  }
});

define("non-retriable-step", {}, async ({ runId, step }) =>
  step.run("refuse", () => {
    throw new NonRetriableError(`call ${count("non-retriable-step", runId)}`);
  }),
);

define("non-retriable-function", {}, async ({ attempt }) => {
  throw new NonRetriableError(`attempt ${attempt}`);
});

define(
  "on-failure",
  {
    retries: 0,
    onFailure: async ({ error, event, step }) => {
      const noted = await step.run("note", () => error.message);
      return [noted, event.data.function_id, event.data.event.data];
    },
  },
  async () => {
    throw new Error("broken");
  },
);

const callee = define("callee", {}, async ({ event, step }) => step.run("double", () => event.data.x * 2));

const refuses = define("refuses", {}, async () => {
  throw new NonRetriableError("no use");
});

const slow = define("slow", {}, async ({ step }) => {
  await step.sleep("nap", "4s");
  return "slow";
});

define("invoke", {}, async ({ step }) => step.invoke("call", { function: callee, data: { x: 21 } }));

const caught = (id, options) =>
  define(id, { retries: 0 }, async ({ step }) => {
    try {
      return await step.invoke("call", options());
    } catch (error) {
      return ["caught", error instanceof Error];
    }
  });

caught("invoke-timeout", () => ({ function: slow, timeout: "1s" }));
caught("invoke-unknown", () => ({ function: referenceFunction({ functionId: "missing" }) }));

define("invoke-error", {}, async ({ step }) => {
  try {
    return await step.invoke("call", { function: refuses });
  } catch (error) {
    return error.message;
  }
});

define("invoke-uncaught", {}, async ({ step }) => step.invoke("call", { function: refuses }));

define("invoke-foreign", {}, async ({ step }) => {
  const foreign = referenceFunction({ appId: process.env.FOREIGN, functionId: "foreign" });
  return step.invoke("call", { function: foreign, data: { from: app } });
});

define("foreign", {}, async ({ event }) => ["served", event.data.from.length > 0]);

define("send-from-code", {}, async () => {
  await client.send({ name: `${app}/sent-from-code`, data: { n: 1 } });
  await after(1);
  return "sent";
});

define("sent-from-code", {}, async ({ event }) => event.data.n);
