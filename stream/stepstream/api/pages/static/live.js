// Keeps a page current: the server sends the parts that changed, and htmx morphs those that the page has.

const RETRY_MS = 5_000;
const FOLLOW_MS = 2_000;
// More runs than these at once are only counted: a list that moves all the time cannot be read.
const FOLLOWED_MAX = 20;
const REASONS = {
  401: "The session has ended: reload the page to log in again.",
  404: "The run was dropped.",
  503: "The engine has too many live pages, so this one is not updated; reload it to see the latest.",
};
const UNREACHABLE = "The engine does not answer. The page is updated again as soon as it does.";

class Refused {
  constructor() {
    throw new Error("attributes of this page have no code");
  }
}

class Live {
  #page;
  #htmx;
  #source = "";
  #events = null;
  #retry = 0;
  #followed = 0;

  constructor(page, htmx) {
    this.#page = page;
    this.#htmx = htmx;
    // Browsers open six connections to a host; pages in hidden tabs need none.
    page.addEventListener("visibilitychange", () => (page.hidden ? this.#close() : this.connect()));
  }

  // Connects to the stream that the page names, unless it is connected.
  connect() {
    const element = this.#page.querySelector("[data-live]");
    if (!element || (this.#events && element.dataset.live === this.#source)) return;
    this.#close();
    this.#source = element.dataset.live;
    const events = new EventSource(this.#source);
    this.#events = events;
    events.onopen = () => this.#say("");
    events.onmessage = (event) => this.#show(event);
    events.onerror = () => this.#fail(events);
    events.addEventListener("ended", () => this.#end());
  }

  #close() {
    clearTimeout(this.#retry);
    this.#events?.close();
    this.#events = null;
  }

  #end() {
    this.#close();
    this.#page.querySelector("[data-live]")?.removeAttribute("data-live");
  }

  async #show({ data, lastEventId }) {
    await this.#htmx.swap({ text: data, swap: "none", sourceElement: this.#page.body });
    // A connection that is opened again continues here, as one does that the browser repeats by itself.
    const url = new URL(this.#source, location.href);
    url.searchParams.set("after", lastEventId);
    const element = this.#page.querySelector("[data-live]");
    if (element?.dataset.live === this.#source) element.dataset.live = this.#source = url.pathname + url.search;
    this.#follow();
  }

  async #fail(events) {
    // A browser reconnects after a failure of the network, but not after a refusal, whose reason it conceals.
    if (events.readyState !== EventSource.CLOSED) return this.#say(UNREACHABLE);
    const request = new AbortController();
    const status = await fetch(this.#source, { signal: request.signal }).then((answer) => answer.status, () => 0);
    request.abort();
    if (this.#events !== events) return;
    if (status !== 200) this.#say(REASONS[status] ?? UNREACHABLE);
    this.#close();
    this.#retry = setTimeout(() => this.connect(), RETRY_MS);
  }

  #say(reason) {
    const line = this.#page.getElementById("live-state");
    if (!line || line.textContent === reason) return;
    line.textContent = reason;
    line.hidden = !reason;
  }

  async #follow() {
    const line = this.#page.getElementById("new-runs");
    const count = Number(line?.dataset.new);
    if (!count || count > FOLLOWED_MAX || Date.now() - this.#followed < FOLLOW_MS) return;
    // Rows do not move while a reader uses them.
    if (this.#page.querySelector("#runs:hover, #runs :focus, .filters :focus") || window.scrollY > 0) return;
    this.#followed = Date.now();
    const url = line.querySelector("a").href;
    await this.#htmx.ajax("GET", url, { target: "#main", select: "#main", swap: "outerMorph" });
    this.connect();
  }
}

export function serveLive(page, htmx) {
  if (!htmx) return;
  // The policy of the page forbids evaluation already; without it, htmx would still refuse.
  htmx.registerExtension("no-eval", { init: (api) => api.initSecurity(null, Refused, Refused) });
  new Live(page, htmx).connect();
}
