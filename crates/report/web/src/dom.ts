// Elements from data. Everything a recording holds is untrusted: it becomes text nodes and
// attribute values here and nowhere else, never markup.
import type { Figure } from "./format";

export type Child = Node | string | number | null | undefined | false | Child[];
type Attributes = Record<string, string | number | boolean | null | undefined>;

function append(parent: Node, child: Child): void {
  if (child === null || child === undefined || child === false) return;
  if (Array.isArray(child)) child.forEach((c) => append(parent, c));
  else parent.appendChild(child instanceof Node ? child : document.createTextNode(String(child)));
}

function fill<E extends Element>(element: E, attributes: Attributes, children: Child[]): E {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    element.setAttribute(name, value === true ? "" : String(value));
  }
  append(element, children);
  return element;
}

/** An HTML element. */
export function el<K extends keyof HTMLElementTagNameMap>(
  tag: K, attributes: Attributes = {}, ...children: Child[]
): HTMLElementTagNameMap[K] {
  return fill(document.createElement(tag), attributes, children);
}

/** An SVG element. */
export function svg(tag: string, attributes: Attributes = {}, ...children: Child[]): SVGElement {
  return fill(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);
}

/** A figure, its exact value on hover and for tests in `data-exact`. */
export function figure({ text, exact }: Figure, key?: string): HTMLElement {
  return el("span", { class: "figure", title: exact, "data-key": key }, text);
}

/** Replaces the children. */
export function replace(parent: Element, ...children: Child[]): void {
  parent.textContent = "";
  append(parent, children);
}

/** A button; `label` is its accessible name where the content is a picture. */
export function button(content: Child, act: (event: MouseEvent) => void, attributes: Attributes = {}) {
  const element = el("button", { type: "button", ...attributes }, content);
  element.addEventListener("click", act);
  return element;
}

/** A row of buttons of which one is pressed. */
export function choice<T extends string>(
  label: string, options: [T, string][], chosen: T, choose: (value: T) => void,
): HTMLElement {
  const group = el("div", { class: "choice", role: "group", "aria-label": label });
  for (const [value, name] of options) {
    group.append(button(name, () => {
      for (const other of group.children) {
        other.setAttribute("aria-pressed", String(other.getAttribute("data-value") === value));
      }
      choose(value);
    }, { "aria-pressed": String(value === chosen), "data-value": value }));
  }
  return group;
}

/** A section of the page with its heading and one sentence that says how to read it. */
export function section(id: string, title: string, lead: Child, ...children: Child[]): HTMLElement {
  return el("section", { id, "aria-labelledby": `${id}-title` },
    el("header", { class: "section-head" },
      el("h2", { id: `${id}-title` }, title),
      lead ? el("p", { class: "lead" }, lead) : null),
    children);
}

/** The sentence of a section that has nothing to show. */
export const empty = (sentence: string): HTMLElement => el("p", { class: "empty" }, sentence);

/** The value of a design token, as the theme in force has it. */
export const token = (name: string): string =>
  getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();

/** Whether the reader asked for less motion. */
export const calm = (): boolean => matchMedia("(prefers-reduced-motion: reduce)").matches;
