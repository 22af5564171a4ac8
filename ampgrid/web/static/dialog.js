// Forms that are answered in place: data-how="dialog" shows the page that comes in the dialog,
// data-how="change" changes the directory and then shows its listing anew.
import { element, fetchPage, localTimes, refreshListing, say, showListing } from "./page.js";

const box = document.getElementById("dialog");

/** Show nodes in the dialog. */
export function showDialog(title, inner, { broad = false } = {}) {
  const heading = element("h2", { id: "dialog-title", tabindex: "-1" }, title);
  const close = element("button", { type: "button" }, "Close");
  close.addEventListener("click", () => box.close());
  box.replaceChildren(element("header", {}, heading, close), element("div", { class: "inner" }, ...inner));
  box.classList.toggle("broad", broad);
  if (!box.open) box.showModal();
  (box.querySelector("[autofocus]") ?? heading).focus();
}

export function closeDialog() {
  if (box.open) box.close();
}

function showPage(page) {
  const main = page.getElementById("main");
  const title = main.querySelector("h1");
  title?.remove();
  localTimes(main);
  showDialog(title?.textContent ?? "", [...main.childNodes]);
  document.dispatchEvent(new Event("shown"));
}

/** What a form would send, as the arguments of fetch. */
function request(form, submitter) {
  const fields = new URLSearchParams(new FormData(form, submitter));
  const target = new URL(
    submitter?.getAttribute("formaction") ?? form.getAttribute("action"), location.href);
  if (form.getAttribute("method") === "post") return [target.href, { method: "POST", body: fields }];
  target.search = fields;
  return [target.href, {}];
}

function tell(form, message) {
  const place = form.querySelector("[role=alert]");
  if (!place) return showDialog("That did not work", [element("p", { class: "problem" }, message)]);
  place.hidden = false;
  place.textContent = message;
}

async function answer(form, submitter) {
  const buttons = submitter ? [submitter] : [];
  const [url, options] = request(form, submitter);
  for (const each of buttons) each.disabled = true;
  try {
    const page = await fetchPage(url, options);
    if (form.dataset.how === "dialog") return showPage(page);
    // What it was answered with is the first page of the listing.
    if (new URLSearchParams(location.search).has("page")) await refreshListing();
    else showListing(page);
    closeDialog();
    form.reset();
    form.closest("details")?.removeAttribute("open");
    say(form.dataset.said ?? "Done");
    if (document.activeElement === document.body || !document.activeElement) {
      document.getElementById("listing")?.focus();
    }
  } catch (error) {
    tell(form, error.message);
  } finally {
    for (const each of buttons) each.disabled = false;
  }
}

export function watchForms() {
  document.addEventListener("submit", (event) => {
    const form = event.target;
    if (!form.dataset.how) return;
    event.preventDefault();
    answer(form, event.submitter);
  });
  // A click beside the dialog closes it.
  box.addEventListener("click", (event) => { if (event.target === box) box.close(); });
  // Nothing of what was shown stays behind: sound stops, caps go.
  box.addEventListener("close", () => box.replaceChildren());
}
