// Middleware, requests to AI providers, and deferred functions.

import { client, define, experimental, functions, isV3, library, url } from "./sdk.mjs";

const { openai } = library;

function boxing() {
  if (isV3) {
    return new library.InngestMiddleware({
      name: "boxing",
      init: () => ({
        onFunctionRun: () => ({
          transformInput: ({ steps }) => ({ steps: steps.map((each) => ({ ...each, data: each.data.box })) }),
          transformOutput: ({ result, step }) => (step ? { result: { data: { box: result.data } } } : undefined),
        }),
      }),
    });
  }
  return class Boxing extends library.Middleware.BaseMiddleware {
    id = "boxing";

    async wrapStepHandler({ next }) {
      return { box: await next() };
    }

    async wrapStep({ next }) {
      return (await next()).box;
    }
  };
}

// What the engine stores is in a box, as with middleware that encrypts.
define("middleware", { middleware: [boxing()] }, async ({ step }) => {
  const first = await step.run("first", () => "a");
  const second = await step.run("second", () => ({ first }));
  return second;
});

define("ai-infer", {}, async ({ step }) => {
  const model = openai({ model: "small", apiKey: "sk-test", baseUrl: `${url}/v1/` });
  const answer = await step.ai.infer("ask", { model, body: { messages: [{ role: "user", content: "hi" }] } });
  return answer.choices[0].message.content;
});

if (!isV3) {
  const deferred = experimental.createDefer(client, { id: "deferred" }, async ({ event, step }) =>
    step.run("n", () => event.data.n),
  );
  functions.push(deferred);

  define("defers", {}, async ({ defer, step }) => {
    const kept = await step.run("first", () => 1);
    defer("later", { function: deferred, data: { n: kept } });
    defer("never", { function: deferred, data: { n: 2 } }).abort();
    return step.run("second", () => 2);
  });
}
