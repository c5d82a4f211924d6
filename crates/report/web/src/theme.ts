// Light, dark, or as the system has it; and light on paper.
import { button, svg } from "./dom";

type Theme = "auto" | "light" | "dark";
const KEY = "heapwright-theme";
const ORDER: Theme[] = ["auto", "light", "dark"];
const listeners: (() => void)[] = [];

/** Calls `redraw` whenever colours change: canvases hold theirs until told. */
export function onThemeChange(redraw: () => void): void {
  listeners.push(redraw);
}

const announce = () => listeners.forEach((redraw) => redraw());

function stored(): Theme {
  try {
    const value = localStorage.getItem(KEY);
    return value === "light" || value === "dark" ? value : "auto";
  } catch {
    return "auto"; // Some browsers refuse storage to files.
  }
}

function apply(theme: Theme): void {
  if (theme === "auto") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
  announce();
}

const ICONS: Record<Theme, string> = {
  auto: "M8 1.5a6.5 6.5 0 1 0 0 13a6.5 6.5 0 0 0 0-13Zm0 1.4v10.2a5.1 5.1 0 0 1 0-10.2Z",
  light: "M8 4.6a3.4 3.4 0 1 0 0 6.8a3.4 3.4 0 0 0 0-6.8ZM7.3.8h1.4v2H7.3zM7.3 13.2h1.4v2H7.3zM.8 7.3h2v1.4h-2zM13.2 7.3h2v1.4h-2zM2.4 3.4l1-1l1.4 1.4l-1 1zM11.2 12.2l1-1l1.4 1.4l-1 1zM12.6 2.4l1 1l-1.4 1.4l-1-1zM3.8 11.2l1 1l-1.4 1.4l-1-1z",
  dark: "M6.2 1.7A6.5 6.5 0 1 0 14.4 10A5.4 5.4 0 0 1 6.2 1.7Z",
};
const NAMES: Record<Theme, string> = { auto: "as the system", light: "light", dark: "dark" };

/** The button that goes round the three. */
export function themeButton(): HTMLElement {
  let theme = stored();
  const icon = svg("path", { d: "" });
  const element = button(svg("svg", { viewBox: "0 0 16 16", "aria-hidden": "true" }, icon), () => {
    theme = ORDER[(ORDER.indexOf(theme) + 1) % ORDER.length]!;
    try { localStorage.setItem(KEY, theme); } catch { /* As above; it lasts until reload. */ }
    show();
  }, { class: "theme", id: "theme" });
  const show = () => {
    icon.setAttribute("d", ICONS[theme]);
    element.title = `Colours: ${NAMES[theme]}`;
    element.setAttribute("aria-label", `Colours: ${NAMES[theme]}. Change`);
    apply(theme);
  };
  show();
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", announce);
  addEventListener("beforeprint", () => apply("light"));
  addEventListener("afterprint", () => apply(theme));
  return element;
}
