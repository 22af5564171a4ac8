// The menu of a row closes when something else is chosen, or by Escape. What opens near the end of
// the page is scrolled to, so that all of it can be seen.

function closeMenus(but = null) {
  for (const menu of document.querySelectorAll("details.menu[open]")) {
    if (menu !== but) menu.removeAttribute("open");
  }
}

export function watchMenus() {
  // This event does not bubble.
  document.addEventListener("toggle", (event) => {
    const opened = event.target;
    if (opened.open && opened.matches("details.menu, details.menu details")) {
      opened.closest(".menu").querySelector("div").scrollIntoView({ block: "nearest" });
    }
  }, true);
  document.addEventListener("click", (event) => {
    const inside = event.target.closest?.("details.menu");
    const chosen = event.target.closest?.("details.menu button");
    closeMenus(chosen ? null : inside);
  });
  document.addEventListener("keydown", (event) => {
    if (event.key !== "Escape") return;
    const open = document.querySelector("details.menu[open]");
    closeMenus();
    open?.querySelector("summary").focus();
  });
}
