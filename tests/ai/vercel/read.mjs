// Reads a stream of Vercel AI from its standard input as `useChat` does; prints the message, and the error if any.
import { Readable } from "node:stream";

import { parseJsonEventStream, readUIMessageStream, uiMessageChunkSchema } from "ai";

const valid = new TransformStream({
  transform(chunk, controller) {
    if (!chunk.success) throw chunk.error;
    controller.enqueue(chunk.value);
  },
});
const events = parseJsonEventStream({ stream: Readable.toWeb(process.stdin), schema: uiMessageChunkSchema });
const seen = { error: "", parts: [] };
const onError = (error) => {
  seen.error = error.message;
};
for await (const message of readUIMessageStream({ stream: events.pipeThrough(valid), onError })) {
  seen.parts = message.parts;
}
console.log(JSON.stringify(seen));
