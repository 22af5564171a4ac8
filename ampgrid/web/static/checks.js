// How redundant the files of a directory are: asked for when somebody wants to know, one by one.
import { TOKEN, say } from "./page.js";

function verdict(finding) {
  if (finding.type === "literal") return ["in its cap", true];
  const { shares_good: good, shares_total: total } = finding.report ?? {};
  const counted = total === undefined ? "" : `${good} of ${total} `;
  if (finding.healthy) return [`${counted || "all "}well`, true];
  return [finding.recoverable ? `${counted || "not "}well: repair` : `${counted}too few`, false];
}

async function check(button) {
  button.textContent = "…";
  try {
    const body = new URLSearchParams({ t: "check", output: "json" });
    const reply = await fetch(button.dataset.check, { method: "POST", body, headers: { "X-Ampgrid-Token": TOKEN } });
    const told = await reply.json();
    if (!reply.ok) throw new Error(told.error.message);
    const [words, well] = verdict(told);
    button.textContent = words;
    button.classList.add(well ? "good" : "bad");
    button.classList.remove(well ? "bad" : "good");
    const name = button.closest("tr").querySelector("a").textContent;
    button.setAttribute("aria-label", `${words}: check ${name} again`);
    return well;
  } catch (error) {
    button.textContent = "failed";
    button.title = error.message;
    return false;
  }
}

async function checkAll(all) {
  const buttons = [...document.querySelectorAll("#listing [data-check]")];
  all.disabled = true;
  let wanting = 0;
  for (const [number, button] of buttons.entries()) {
    all.textContent = `Checking ${number + 1} of ${buttons.length}`;
    if (!(await check(button))) wanting += 1;
  }
  all.disabled = false;
  all.textContent = "Check all again";
  say(wanting ? `${wanting} of ${buttons.length} are not as redundant as they should be` : "All is well");
}

export function watchChecks() {
  const all = document.getElementById("check-all");
  if (!all) return;
  if (!TOKEN) all.hidden = true;
  all.addEventListener("click", () => checkAll(all));
}
