// A function of three steps in the official SDK for TypeScript, served with checkpoints or without.

import http from "node:http";

import { Inngest } from "inngest";
import { serve } from "inngest/node";

const { APP, PORT } = process.env;
const client = new Inngest({ id: APP, checkpointing: APP === "checkpoints" });

const functions = [
  client.createFunction({ id: "three-steps", triggers: [{ event: `${APP}/three` }] }, async ({ step }) => {
    const first = await step.run("one", () => 1);
    const second = await step.run("two", () => first + 1);
    return await step.run("three", () => second + 1);
  }),
];

http.createServer(serve({ client, functions })).listen(Number(PORT), "127.0.0.1");
