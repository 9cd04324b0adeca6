// The SDK that the variable SDK names, and one way to define functions with each of its versions.

const sdk = process.env.SDK ?? "inngest";

export const isV3 = sdk !== "inngest";
export const app = process.env.APP ?? "program";
export const port = Number(process.env.PORT ?? 3000);
export const url = `http://127.0.0.1:${port}`;
export const library = await import(sdk);
export const { serve } = await import(`${sdk}/node`);
export const experimental = isV3 ? {} : await import("inngest/experimental");

export const client = new library.Inngest({ id: app, ...JSON.parse(process.env.CLIENT ?? "{}") });
export const functions = [];
// How often a body was called, by function and run: the memory of the process, which no step has.
const counts = new Map();

export function define(id, options, handler) {
  const { condition, ...others } = options;
  const trigger = { event: `${app}/${id}`, ...(condition ? { if: condition } : {}) };
  const made = isV3
    ? client.createFunction({ id, ...others }, trigger, handler)
    : client.createFunction({ id, triggers: [trigger], ...others }, handler);
  functions.push(made);
  return made;
}

export function count(...names) {
  const key = names.join(" ");
  counts.set(key, (counts.get(key) ?? 0) + 1);
  return counts.get(key);
}

export const after = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));
