// Parts of a page that keep themselves up to date: each <... id data-live="SECONDS"> is taken anew
// from the page that the node makes, while the window can be seen.
import { fetchPage, localTimes } from "./page.js";

function renew(page) {
  for (const old of document.querySelectorAll("[data-live][id]")) {
    const fresh = page.getElementById(old.id);
    if (!fresh) continue;
    localTimes(fresh);
    if (fresh.isEqualNode(old) || old.contains(document.activeElement)) continue;
    old.replaceWith(fresh);
  }
}

/** Renew all such parts, and call `renewed` each time. */
export function watchLive(renewed) {
  renewed();
  const next = () => {
    const part = document.querySelector("[data-live][id]");
    if (part) setTimeout(turn, Number(part.dataset.live) * 1000);
  };
  const turn = async () => {
    if (!document.hidden) {
      try {
        renew(await fetchPage(location.href));
        renewed();
      } catch {
        // The node may be starting again: what is shown stays until it answers.
      }
    }
    next();
  };
  next();
}
