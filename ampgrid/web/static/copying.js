// Buttons that copy a cap.
import { say } from "./page.js";

async function copy(field) {
  field.select();
  try {
    await navigator.clipboard.writeText(field.value);
    return true;
  } catch {
    // A page that came over plain HTTP from another machine has no clipboard.
    return document.execCommand("copy");
  }
}

export function watchCopies() {
  document.addEventListener("click", async (event) => {
    const button = event.target.closest?.("[data-copy]");
    if (!button) return;
    const done = await copy(document.getElementById(button.dataset.copy));
    button.textContent = done ? "Copied" : "Press Ctrl+C";
    say(done ? "Copied" : "It is marked: press Ctrl+C to copy it");
  });
}
