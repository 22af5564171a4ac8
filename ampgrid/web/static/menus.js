// The menu of a row closes when something else is chosen, or by Escape.

function closeMenus(but = null) {
  for (const menu of document.querySelectorAll("details.menu[open]")) {
    if (menu !== but) menu.removeAttribute("open");
  }
}

export function watchMenus() {
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
