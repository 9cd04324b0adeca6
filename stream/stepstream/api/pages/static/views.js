// Saved views: filters of the list of runs under names of the reader, kept in this browser only.
const KEY = "stepstream.views";
const VIEWS_MAX = 50;

function load() {
  try {
    const found = JSON.parse(localStorage.getItem(KEY) ?? "[]");
    const isView = (view) => typeof view?.name === "string" && typeof view?.filter === "string";
    return Array.isArray(found) ? found.filter(isView).slice(0, VIEWS_MAX) : [];
  } catch {
    return [];
  }
}

function store(views) {
  try {
    localStorage.setItem(KEY, JSON.stringify(views.slice(0, VIEWS_MAX)));
  } catch {
    // The browser keeps nothing for this site, or has no room; the list stays as it was.
  }
}

function item(view, current, remove) {
  const link = document.createElement("a");
  link.href = `?${new URLSearchParams({ filter: view.filter })}`;
  link.textContent = view.name;
  link.title = view.filter;
  if (view.filter === current) link.setAttribute("aria-current", "true");
  const button = document.createElement("button");
  button.type = "button";
  button.textContent = "×";
  button.setAttribute("aria-label", `Remove the view ${view.name}`);
  button.addEventListener("click", remove);
  const element = document.createElement("li");
  element.append(link, " ", button);
  return element;
}

export function serveViews(page) {
  const part = page.getElementById("views");
  if (!part) return;
  // As the server wrote it, whatever the reader types meanwhile; one with an error is no view.
  const field = page.getElementById("filter");
  const current = field.hasAttribute("aria-invalid") ? "" : field.defaultValue;
  const list = part.querySelector("ul");
  const form = part.querySelector("form");

  function show() {
    const views = load();
    const remove = (name) => () => {
      store(load().filter((view) => view.name !== name));
      show();
    };
    list.replaceChildren(...views.map((view) => item(view, current, remove(view.name))));
    // A list without a filter is not saved.
    form.hidden = !current;
    part.hidden = form.hidden && !views.length;
  }

  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const name = form.elements.name.value.trim();
    if (!name) return;
    // The latest is first, and replaces one of the same name.
    store([{ name, filter: current }, ...load().filter((view) => view.name !== name)]);
    form.reset();
    show();
  });
  // Another tab of this browser changed them.
  window.addEventListener("storage", (event) => { if (event.key === KEY) show(); });
  show();
}
