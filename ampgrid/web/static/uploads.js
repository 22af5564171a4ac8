// Uploads of several files at once, chosen or dropped, each with its progress.
import { element, refreshListing, say } from "./page.js";
import { filesOf } from "./dropping.js";
import { Transfer } from "./transfer.js";

/** Uploads that go on at once. */
const AT_ONCE = 2;

const place = document.getElementById("transfers");
const list = element("ul");
const waiting = [];
let running = 0;
let finished = 0;

function next() {
  while (running < AT_ONCE && waiting.length) begin(waiting.shift());
  if (!running && !waiting.length) settled();
}

async function begin(transfer) {
  running += 1;
  if (await transfer.run()) finished += 1;
  running -= 1;
  next();
}

async function settled() {
  if (!finished) return;
  say(finished === 1 ? "1 file uploaded" : `${finished} files uploaded`);
  finished = 0;
  try {
    await refreshListing();
  } catch (error) {
    say(error.message);
  }
}

function add(base, { file, path }) {
  const transfer = new Transfer(base, file, path, (again) => { waiting.push(again); next(); });
  list.append(transfer.row);
  waiting.push(transfer);
}

function heading() {
  const clear = element("button", { type: "button", class: "plain" }, "Clear what has ended");
  clear.addEventListener("click", () => {
    for (const row of list.querySelectorAll("li.ended")) row.remove();
    place.hidden = !list.childElementCount;
  });
  return element("h2", {}, "Uploads", clear);
}

function addAll(base, files) {
  if (!files.length) return;
  if (!list.isConnected) place.append(heading(), list);
  place.hidden = false;
  place.scrollIntoView({ block: "nearest" });
  for (const each of files) add(base, each);
  next();
}

export function watchUploads() {
  const form = document.getElementById("upload");
  if (!form) return;
  const base = form.dataset.upload;
  const input = form.querySelector("input[type=file]");
  input.addEventListener("change", () => {
    addAll(base, [...input.files].map((file) => ({ file, path: [file.name] })));
    input.value = "";
  });
  let depth = 0;
  const mark = (change) => {
    depth = Math.max(0, depth + change);
    document.body.classList.toggle("dropping", depth > 0);
  };
  const carries = (event) => event.dataTransfer?.types.includes("Files");
  document.addEventListener("dragenter", (event) => { if (carries(event)) mark(1); });
  document.addEventListener("dragleave", (event) => { if (carries(event)) mark(-1); });
  document.addEventListener("dragover", (event) => { if (carries(event)) event.preventDefault(); });
  document.addEventListener("drop", async (event) => {
    if (!carries(event)) return;
    event.preventDefault();
    mark(-depth);
    addAll(base, await filesOf(event.dataTransfer));
  });
  window.addEventListener("beforeunload", (event) => { if (running) event.preventDefault(); });
}
