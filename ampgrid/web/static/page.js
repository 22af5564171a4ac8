// Asking the node, and putting what it answers into the page that is shown.

export const TOKEN = document.querySelector('meta[name="ampgrid-token"]')?.content ?? "";

/** Make an element. Texts are always texts: nothing that is stored is ever read as HTML. */
export function element(tag, attributes = {}, ...inner) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...inner);
  return made;
}

/** Tell something in passing, aloud to a screen reader too. */
export function say(text) {
  const place = document.getElementById("said");
  place.textContent = text;
  clearTimeout(say.timer);
  say.timer = setTimeout(() => { place.textContent = ""; }, 5000);
}

/** Ask for a page of this gateway; an error has the node's own words as its message. */
export async function fetchPage(url, options = {}) {
  let reply;
  try {
    reply = await fetch(url, { ...options, headers: { Accept: "text/html", "X-Ampgrid-Token": TOKEN } });
  } catch {
    throw new Error("The node does not answer. Is it still running?");
  }
  const page = new DOMParser().parseFromString(await reply.text(), "text/html");
  if (!reply.ok) {
    throw new Error(page.getElementById("message")?.textContent ?? `The node answered ${reply.status}.`);
  }
  return page;
}

/** Put the listing of another copy of this page in the place of the one that is shown. */
export function showListing(page) {
  const fresh = page.getElementById("listing");
  const old = document.getElementById("listing");
  if (!fresh || !old) return;
  localTimes(fresh);
  old.replaceChildren(...fresh.childNodes);
}

export async function refreshListing() {
  showListing(await fetchPage(location.href));
}

/** Show moments in local time. */
export function localTimes(part) {
  for (const time of part.querySelectorAll("time[datetime]")) {
    const moment = new Date(time.dateTime);
    if (Number.isNaN(moment.getTime())) continue;
    time.textContent = moment.toLocaleString(undefined, { dateStyle: "medium", timeStyle: "short" });
    time.title = time.dateTime;
  }
}

/** 1500000 → "1.5 MB", as the node writes sizes. */
export function sizeText(bytes) {
  if (bytes < 1000) return `${Math.round(bytes)} B`;
  const power = Math.min(6, Math.floor(Math.log10(bytes + 0.5) / 3));
  return `${(bytes / 1000 ** power).toFixed(1).replace(/\.0$/, "")} ${"KMGTPE"[power - 1]}B`;
}
