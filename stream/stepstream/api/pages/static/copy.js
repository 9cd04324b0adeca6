// Copies the whole text of a value, which its tree may cut, to the clipboard.
const RESTORE_MS = 2000;

async function copy(button) {
  const response = await fetch(button.dataset.copy, { credentials: "same-origin" });
  if (!response.ok) throw new Error(`status ${response.status}`);
  await navigator.clipboard.writeText(await response.text());
}

function show(root) {
  // Browsers have a clipboard on https and on the loopback only.
  if (!navigator.clipboard) return;
  for (const button of root.querySelectorAll("[data-copy][hidden]")) button.hidden = false;
}

export function serveCopy(page) {
  show(page);
  page.addEventListener("htmx:after:swap", () => show(page));
  page.addEventListener("click", async (event) => {
    const button = event.target.closest?.("[data-copy]");
    if (!button) return;
    const label = "copy";
    try {
      await copy(button);
      button.textContent = "copied";
    } catch {
      button.textContent = "not copied";
    }
    setTimeout(() => { button.textContent = label; }, RESTORE_MS);
  });
}
