// Moves through rows and pages by keyboard: j k o [ ] / ?

function typing(target) {
  return target.closest?.("input, textarea, select, [contenteditable]") !== null;
}

function move(page, step) {
  const rows = [...page.querySelectorAll("[data-row]")];
  if (!rows.length) return;
  const current = rows.findIndex((row) => row.contains(page.activeElement));
  const next = current < 0 ? (step > 0 ? 0 : rows.length - 1) : current + step;
  const row = rows[Math.min(Math.max(next, 0), rows.length - 1)];
  // The first link of a row stands for it: focus, and not a colour of our own, shows where the reader is.
  const target = row.querySelector("a, button") ?? row;
  if (target === row) row.tabIndex = -1;
  target.focus();
  row.scrollIntoView({ block: "nearest" });
}

function follow(page, id) {
  page.getElementById(id)?.click();
}

function toggle(dialog) {
  if (dialog.open) dialog.close();
  else dialog.showModal();
}

export function serveKeys(page) {
  const actions = {
    j: () => move(page, 1),
    k: () => move(page, -1),
    o: () => page.activeElement?.closest("[data-row]")?.querySelector("a, button")?.click(),
    "[": () => follow(page, "earlier"),
    "]": () => follow(page, "later"),
    "/": () => page.getElementById("find")?.focus(),
    "?": () => toggle(page.getElementById("keys")),
  };
  page.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || typing(event.target)) return;
    const action = actions[event.key];
    if (!action) return;
    event.preventDefault();
    action();
  });
}
