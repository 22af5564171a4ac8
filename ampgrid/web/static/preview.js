// Looking at a file beside the listing. What is stored never runs: pictures, sound and films are
// shown as such, text as text, and a page of HTML in a frame that may do nothing.
import { element, sizeText } from "./page.js";
import { showDialog } from "./dialog.js";

/** So much of a text is shown, bytes. */
const MOST_TEXT = 200_000;

async function text(url) {
  const place = element("pre", { tabindex: "0", "aria-label": "Content" }, "…");
  try {
    const reply = await fetch(url, { headers: { Range: `bytes=0-${MOST_TEXT - 1}` } });
    if (!reply.ok && reply.status !== 416) throw new Error(`The node answered ${reply.status}.`);
    const read = reply.status === 416 ? "" : new TextDecoder().decode(await reply.arrayBuffer());
    const all = Number(reply.headers.get("Content-Range")?.split("/")[1] ?? 0);
    place.textContent = read || "This file is empty.";
    if (all > MOST_TEXT) place.append(`\n… and ${sizeText(all - MOST_TEXT)} more.`);
  } catch (error) {
    place.textContent = error.message;
  }
  return place;
}

const SHOWN = {
  image: (url, name) => element("img", { src: url, alt: name }),
  audio: (url, name) => element("audio", { src: url, controls: "", "aria-label": name }),
  video: (url, name) => element("video", { src: url, controls: "", "aria-label": name }),
  page: (url, name) => element("iframe", { src: url, sandbox: "", title: name, referrerpolicy: "no-referrer" }),
  text,
};

function steps(link) {
  const all = [...document.querySelectorAll("#listing a[data-preview]")];
  const here = all.indexOf(link);
  return [["Previous", all[here - 1]], ["Next", all[here + 1]]].filter(([, to]) => to);
}

async function show(link) {
  const url = link.getAttribute("href");
  const name = link.textContent;
  const shown = await SHOWN[link.dataset.preview](url, name);
  const place = element("div", { class: "preview" }, shown);
  shown.addEventListener("error", () => {
    place.replaceChildren(element("p", { class: "problem" }, "This browser cannot show it. It can be saved."));
  });
  const row = element("div", { class: "row" });
  for (const [word, to] of steps(link)) {
    const button = element("button", { type: "button", "data-step": word.toLowerCase() }, word);
    button.addEventListener("click", () => show(to));
    row.append(button);
  }
  row.append(
    element("a", { href: url, target: "_blank", rel: "noreferrer" }, "Open in a tab"),
    element("a", { href: `${url}?save=true` }, "Save to disk"),
  );
  showDialog(name, [place, row], { broad: true });
}

export function watchPreviews() {
  document.addEventListener("click", (event) => {
    const link = event.target.closest?.("a[data-preview]");
    if (!link || event.button || event.ctrlKey || event.metaKey || event.shiftKey || event.altKey) return;
    event.preventDefault();
    show(link);
  });
  document.getElementById("dialog").addEventListener("keydown", (event) => {
    const step = { ArrowLeft: "previous", ArrowRight: "next" }[event.key];
    if (!step || event.target.closest("audio, video, pre, input")) return;
    document.querySelector(`#dialog [data-step="${step}"]`)?.click();
  });
}
