// Keeps a page current: the server sends the ids of what changed, and htmx morphs the parts that show it.

class Refused {
  constructor() {
    throw new Error("attributes of this page have no code");
  }
}

export function serveLive(page, htmx) {
  // The policy of the page forbids evaluation already; without it, htmx would still refuse.
  htmx?.registerExtension("no-eval", { init: (api) => api.initSecurity(null, Refused, Refused) });
}
