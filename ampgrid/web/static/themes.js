// The switch between the system's theme, light and dark.
const ORDER = ["system", "light", "dark"];

function remember(theme) {
  try {
    if (theme === "system") localStorage.removeItem("theme");
    else localStorage.setItem("theme", theme);
  } catch {
    // It holds for this page alone.
  }
}

export function watchTheme() {
  const button = document.getElementById("theme");
  const root = document.documentElement;
  const show = () => { button.firstElementChild.textContent = root.dataset.theme ?? "system"; };
  show();
  button.addEventListener("click", () => {
    const now = ORDER.indexOf(root.dataset.theme ?? "system");
    const next = ORDER[(now + 1) % ORDER.length];
    if (next === "system") delete root.dataset.theme;
    else root.dataset.theme = next;
    remember(next);
    show();
  });
}
