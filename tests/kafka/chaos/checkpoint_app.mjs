// The app of the chaos tests of gateways, by the official SDK for TypeScript: it reports its steps while a call is open.
//
// It appends what sdk_app.py appends, and a line for each step whose report was acknowledged.

import { randomUUID } from "node:crypto";
import fs from "node:fs";
import http from "node:http";

import { Inngest } from "inngest";
import { serve } from "inngest/node";

const { O_APPEND, O_CREAT, O_DSYNC, O_WRONLY } = fs.constants;
const file = fs.openSync(process.env.CHAOS_EFFECTS, O_WRONLY | O_APPEND | O_CREAT | O_DSYNC);
// Calls fail for as long as their app is down; no run may fail for that.
const retries = 20;

function append(...words) {
  fs.writeSync(file, `${words.join(" ")}\n`);
}

function effect(run, step, seen) {
  const token = randomUUID().replaceAll("-", "");
  append(run, step, token, ...seen);
  return token;
}

async function noting(url, options) {
  const answer = await fetch(url, options);
  if (answer.ok && /\/v1\/checkpoint\/[^/]+\/async$/.test(String(url))) {
    const { run_id, steps } = JSON.parse(options.body);
    for (const { displayName, data } of steps) {
      if (typeof data === "string") append(run_id, `acknowledged:${displayName}`, data);
    }
  }
  return answer;
}

const client = new Inngest({ id: "chaos", fetch: noting });
// An event of a run with a number counts once, however often its step sends it.
const numbered = (name, data) => ({ name: `chaos/${name}`, data, id: `${name}-${data.n}` });

const answer = client.createFunction(
  { id: "answer", retries, triggers: [{ event: "chaos/call" }] },
  async ({ event, runId, step }) => {
    await step.sendEvent("echo", numbered("echo", { n: event.data.n, by: runId }));
    return step.run("answered", () => effect(runId, "answered", []));
  },
);

const work = client.createFunction(
  { id: "work", retries, triggers: [{ event: "chaos/go" }] },
  async ({ event, runId, step }) => {
    const { n } = event.data;
    const results = [];
    const body = (id, seen = [...results]) => step.run(id, () => effect(runId, id, seen));
    const inOrder = async (...ids) => {
      for (const id of ids) results.push(await body(id));
    };
    await inOrder("first", "second", "third");
    results.push(...(await Promise.all([body("left"), body("right"), step.sleep("nap", "1s")])).slice(0, 2));
    await inOrder("fourth", "fifth");
    const call = () =>
      n % 2
        ? step.invoke("call", { function: answer, data: { n } })
        : step.sendEvent("call", numbered("call", { n }));
    const match = "event.data.n == async.data.n";
    const waiting = step.waitForEvent("echo", { event: "chaos/echo", if: match, timeout: "1h" });
    const [echo] = await Promise.all([waiting, call()]);
    await inOrder("sixth", "last");
    return { n, steps: results, echo: echo?.data ?? null };
  },
);

http
  .createServer(serve({ client, functions: [work, answer] }))
  .listen(Number(process.env.PORT), "127.0.0.1", () => console.log(process.env.CHAOS_UP));
