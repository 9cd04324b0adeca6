// Starts the modules of the page. Reading needs none of them.
import { serveCopy } from "./copy.js";
import { serveKeys } from "./keys.js";
import { serveLive } from "./live.js";
import { serveViews } from "./views.js";

serveCopy(document);
serveKeys(document);
serveViews(document);
serveLive(document, window.htmx);

// What a form did is said once: neither a reload nor a bookmark repeats it.
const here = new URL(location.href);
if (here.searchParams.has("done")) {
  here.searchParams.delete("done");
  history.replaceState(history.state, "", here);
}

// An engine that replays a recorded day, or whose clock is wrong, has another "now" than the reader.
const CLOCKS_DIFFER_MS = 120_000;
const clock = document.getElementById("clock");
if (clock) clock.hidden = Math.abs(Date.now() - Number(clock.dataset.now)) < CLOCKS_DIFFER_MS;

// Leaving a form with entries that were not sent asks first.
const guarded = document.querySelector("form[data-guard]");
if (guarded) {
  let sent = false;
  guarded.addEventListener("submit", () => { sent = true; });
  addEventListener("beforeunload", (event) => {
    const differs = (field) => field.defaultValue !== undefined && field.value !== field.defaultValue;
    if (!sent && (guarded.dataset.guard || [...guarded.elements].some(differs))) event.preventDefault();
  });
}
