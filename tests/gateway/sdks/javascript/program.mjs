// The acceptance program in JavaScript; it also serves what its functions request.

import http from "node:http";

import { client, functions, port, serve } from "./sdk.mjs";
import "./steps.mjs";
import "./errors.mjs";
import "./limits.mjs";
import "./extras.mjs";

const handler = serve({ client, functions });
// Calls of functions, by the id of the function.
const calls = {};

async function textOf(request) {
  const parts = [];
  for await (const part of request) parts.push(part);
  return Buffer.concat(parts).toString();
}

const answers = {
  "/echo": (body) => body,
  "/calls": () => JSON.stringify(calls),
  "/v1/chat/completions": (body) => {
    const { messages, model } = JSON.parse(body);
    return JSON.stringify({ choices: [{ message: { content: `${model}: ${messages[0].content}` } }] });
  },
};

http
  .createServer(async (request, response) => {
    const { pathname, searchParams } = new URL(request.url, "http://localhost");
    if (answers[pathname]) {
      response.setHeader("Content-Type", "application/json");
      return response.end(answers[pathname](await textOf(request)));
    }
    if (request.method === "POST") {
      const id = searchParams.get("fnId");
      calls[id] = (calls[id] ?? 0) + 1;
    }
    return handler(request, response);
  })
  .listen(port, "127.0.0.1");
