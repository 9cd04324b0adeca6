// An app that publishes, and clients of the SDK that subscribe to what it publishes; they print the messages.

import http from "node:http";

import { Inngest } from "inngest";
import { serve } from "inngest/node";
import { channel, staticSchema } from "inngest/realtime";

const client = new Inngest({ id: "talk" });
const topic = { schema: staticSchema() };
const chat = channel({ name: ({ room }) => `chat:${room}`, topics: { words: topic, tokens: topic } });
const room = chat({ room: "7" });

const talk = client.createFunction({ id: "talk", triggers: [{ event: "talk/go" }] }, async ({ step }) => {
  await step.realtime.publish("hello", room.words, { text: "hello" });
  await step.waitForEvent("subscribed", { event: "talk/subscribed", timeout: "1h" });
  await step.run("answer", () => {
    const parts = ["to ", "be"];
    const pull = (controller) => (parts.length ? controller.enqueue(parts.shift()) : controller.close());
    return client.realtime.publish(room.tokens, new ReadableStream({ pull }).pipeThrough(new TextEncoderStream()));
  });
  await client.realtime.publish(room.words, { text: "bye" });
  return { answered: true };
});

const print = (kind, value) => console.log(JSON.stringify([kind, value]));
let begin;
// The run has continued when the first part of its answer comes.
const begun = new Promise((resolve) => (begin = resolve));

async function followRun({ runId }) {
  await client.realtime.subscribe({
    channel: runId,
    topics: ["$run"],
    onMessage: ({ kind, data }) => print(kind, data),
  });
  // The run may not wait for it yet.
  const again = setInterval(() => client.send({ name: "talk/subscribed" }), 200);
  begun.then(() => clearInterval(again));
}

// Not by the SDK: its clients fail at the message that begins a stream (4.24.0: a ReferenceError of TokenSubscription).
async function followParts() {
  const { key, apiBaseUrl } = await client.realtime.token({ channel: room, topics: ["tokens"] });
  const url = new URL(`/v1/realtime/connect?token=${key}`, apiBaseUrl);
  const socket = new WebSocket(url.href.replace(/^http/, "ws"));
  socket.onmessage = ({ data }) => {
    const message = JSON.parse(data);
    begin();
    print(message.kind, message.kind === "chunk" ? message.data : message.topic);
  };
  await new Promise((resolve) => (socket.onopen = resolve));
}

await followParts();
await client.realtime.subscribe({
  channel: room,
  topics: ["words"],
  onMessage: async (message) => {
    print(message.kind, message.data);
    if (message.data.text === "hello") await followRun(message);
  },
});

http.createServer(serve({ client, functions: [talk] })).listen(Number(process.env.PORT), "127.0.0.1");
