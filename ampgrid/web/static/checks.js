// How redundant the files of a directory are: asked for when somebody wants to know, one by one.
import { TOKEN, fetchPage, say } from "./page.js";

/** Show in its row what a check has found; returns whether all is well. */
function show(finding) {
  const { url, words, well } = finding.dataset;
  const button = document.querySelector(`#listing [data-check="${CSS.escape(url)}"]`);
  if (button) {
    const name = button.closest("tr").querySelector("a").textContent;
    button.textContent = words;
    button.classList.toggle("good", well === "yes");
    button.classList.toggle("bad", well !== "yes");
    button.setAttribute("aria-label", `${words}: check ${name} again`);
  }
  return well === "yes";
}

async function check(button) {
  button.textContent = "…";
  try {
    const body = new URLSearchParams({ t: "check", output: "html" });
    const page = await fetchPage(button.dataset.check, { method: "POST", body });
    return show(page.getElementById("finding"));
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
  all.textContent = "Check again";
  say(wanting ? `Not as redundant as it should be: ${wanting} of ${buttons.length}` : "All is well");
}

export function watchChecks() {
  // A check or a repair in the dialog tells its row too.
  document.addEventListener("shown", () => {
    const finding = document.querySelector("#dialog #finding");
    if (finding) show(finding);
  });
  const all = document.getElementById("check-all");
  if (!all) return;
  if (!TOKEN) all.hidden = true;
  all.addEventListener("click", () => checkAll(all));
}
