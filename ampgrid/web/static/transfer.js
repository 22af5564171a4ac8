// One upload: first to the node, which keeps it encrypted, then from there to the peers.
import { TOKEN, element, sizeText } from "./page.js";

/** Milliseconds between two questions how far the node is. */
const LOOK = 700;

function handle() {
  return [...crypto.getRandomValues(new Uint8Array(12))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

export class Transfer {
  /** `again` takes a transfer that is to be tried once more. */
  constructor(base, file, path, again) {
    this.file = file;
    this.url = base + path.map(encodeURIComponent).join("/");
    this.again = again;
    this.replace = "false";
    this.cancelled = false;
    const name = path.join("/");
    this.bar = element("progress", { max: "1", value: "0", "aria-label": `Progress of ${name}` });
    this.tale = element("span", { class: "tale" }, `${sizeText(file.size)}, waiting`);
    this.cancelButton = element("button", { type: "button", "aria-label": `Cancel ${name}` }, "Cancel");
    this.cancelButton.addEventListener("click", () => this.cancel());
    this.replaceButton = element("button", { type: "button", "aria-label": `Replace ${name}`, hidden: "" }, "Replace");
    this.replaceButton.addEventListener("click", () => this.retry());
    const buttons = element("span", { class: "buttons" }, this.replaceButton, this.cancelButton);
    this.row = element("li", {}, element("span", { class: "what" }, name), buttons, this.bar, this.tale);
  }

  cancel() {
    this.cancelled = true;
    this.request?.abort();
    this.end("Cancelled");
  }

  retry() {
    this.replace = "only-files";
    this.row.classList.remove("failed", "ended");
    this.replaceButton.hidden = true;
    this.cancelButton.hidden = false;
    this.again(this);
  }

  end(words, failed = false) {
    clearInterval(this.timer);
    this.tale.textContent = words;
    this.bar.hidden = true;
    this.cancelButton.hidden = true;
    this.row.classList.add("ended");
    this.row.classList.toggle("failed", failed);
  }

  /** Upload; returns whether the file is there. */
  run() {
    if (this.cancelled) return Promise.resolve(false);
    this.bar.hidden = false;
    return new Promise((done) => {
      const request = this.request = new XMLHttpRequest();
      const operation = handle();
      request.open("PUT", `${this.url}?overwrite=${this.replace}&ophandle=${operation}`);
      request.setRequestHeader("X-Ampgrid-Token", TOKEN);
      request.setRequestHeader("Accept", "application/json");
      request.upload.addEventListener("progress", (event) => this.sent(event.loaded));
      request.upload.addEventListener("load", () => this.watch(operation));
      request.addEventListener("loadend", () => done(this.answered(request)));
      request.send(this.file);
    });
  }

  sent(bytes) {
    this.show(bytes, this.file.size, "to this node");
  }

  show(done, total, words) {
    this.bar.max = total || 1;
    this.bar.value = done;
    this.tale.textContent = `${sizeText(done)} of ${sizeText(total)} ${words}`;
  }

  /** All of it is at the node: ask how far it is with the peers. */
  watch(operation) {
    this.bar.removeAttribute("value");
    this.tale.textContent = "Going to the peers";
    this.timer = setInterval(async () => {
      try {
        const reply = await fetch(`/operations/${operation}?output=json`);
        if (!reply.ok) return;
        const told = await reply.json();
        if (told.state === "running" && told.total) this.show(told.done, told.total, `with the peers: ${told.phase}`);
      } catch {
        // The upload itself tells if the node is gone.
      }
    }, LOOK);
  }

  answered(request) {
    if (this.cancelled) return false;
    if (request.status >= 200 && request.status < 300) {
      this.end(`${sizeText(this.file.size)}, uploaded`);
      return true;
    }
    let words = "The node does not answer. Is it still running?";
    try {
      words = JSON.parse(request.responseText).error.message;
    } catch {
      if (request.status) words = `The node answered ${request.status}.`;
    }
    this.end(words, true);
    this.replaceButton.hidden = request.status !== 409;
    return false;
  }
}
