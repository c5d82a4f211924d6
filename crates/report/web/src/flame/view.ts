// The flame graph one touches: zoom, hover, keys, search. It draws; the section around it has
// the controls.
import { calm, el } from "../dom";
import { onThemeChange } from "../theme";
import { type Box, layout } from "./layout";
import { type Ink, ROW_PX, colourOf, ink, paint } from "./paint";
import type { Tree } from "./tree";

const ZOOM_MS = 180;
const HEIGHT_PX_MAX = 620;

export interface FlameEvents {
  /** The box in focus changed. */
  focused: (node: number) => void;
  /** What stands under the pointer or the keys; null when nothing does. */
  described: (node: number | null, spoken: boolean) => HTMLElement | null;
}

export class FlameView {
  readonly element = el("div", {
    class: "flame-scroll", id: "flame-graph", tabindex: 0, role: "application",
    "aria-roledescription": "flame graph", "aria-label": "Flame graph",
    "aria-describedby": "flame-help",
  });
  private readonly canvas = el("canvas", { "aria-hidden": "true" });
  private readonly spacer = el("div", { class: "flame-space" });
  private readonly tip = el("div", { class: "tip", hidden: true });
  private boxes: Box[] = [];
  private byRow: Box[][] = [];
  private focus = 0;
  private selected = 0;
  private hovered = -1;
  private matches: Uint8Array | null = null;
  private colours: Uint8Array;
  private look: Ink | null = null;
  private width = 0;
  private moving = 0;
  private waiting = false;

  constructor(private tree: Tree, private readonly rootName: string, private readonly events: FlameEvents) {
    this.colours = colourOf(tree.names, 6);
    this.spacer.append(this.canvas);
    this.element.append(this.spacer);
    document.body.append(this.tip);
    this.element.addEventListener("scroll", () => this.draw());
    this.canvas.addEventListener("pointermove", (event) => this.hover(event));
    this.canvas.addEventListener("pointerleave", () => this.leave());
    this.canvas.addEventListener("click", (event) => {
      const box = this.at(event);
      if (box) this.zoom(box.node);
    });
    this.element.addEventListener("keydown", (event) => this.key(event));
    this.element.addEventListener("focus", () => this.draw());
    this.element.addEventListener("blur", () => { this.leave(); });
    onThemeChange(() => { this.look = null; this.draw(); });
    new ResizeObserver(() => this.arrange()).observe(this.element);
  }

  /** Shows another tree, from its root. */
  show(tree: Tree): void {
    this.tree = tree;
    this.focus = this.selected = 0;
    this.hovered = -1;
    this.tip.hidden = true;
    this.arrange();
    this.events.focused(0);
  }

  /** Marks names; null ends the search. */
  mark(matches: Uint8Array | null): void {
    this.matches = matches;
    this.draw();
  }

  /** Gives a node the whole width. */
  zoom(node: number): void {
    if (node === this.focus && node === this.selected) return;
    const before = new Map(this.boxes.map((box) => [box.node, box]));
    const from = before.get(node);
    this.focus = this.selected = node;
    this.hovered = -1;
    this.tip.hidden = true;
    this.arrange();
    this.element.scrollTop = Math.min(this.element.scrollTop, Math.max(0, (this.focusRow() - 2) * ROW_PX));
    this.events.focused(node);
    this.events.described(node, true);
    if (from && !calm()) this.animate(before);
  }

  private focusRow(): number {
    return this.boxes.find((box) => box.node === this.focus)?.row ?? 0;
  }

  private arrange(): void {
    const width = this.element.clientWidth;
    if (width === 0) return;
    this.width = width;
    cancelAnimationFrame(this.moving);
    this.boxes = layout(this.tree, this.focus, width);
    this.byRow = [];
    for (const box of this.boxes) (this.byRow[box.row] ??= []).push(box);
    const height = Math.max(3, this.byRow.length) * ROW_PX;
    const shown = Math.min(HEIGHT_PX_MAX, height);
    this.element.style.blockSize = `${shown}px`;
    this.spacer.style.blockSize = `${height}px`;
    const scale = devicePixelRatio || 1;
    // Setting the size clears, and costs; only when it is another.
    const w = Math.round(this.element.clientWidth * scale);
    const h = Math.round(shown * scale);
    if (this.canvas.width !== w || this.canvas.height !== h) {
      this.canvas.width = w;
      this.canvas.height = h;
      this.canvas.style.inlineSize = `${this.element.clientWidth}px`;
      this.canvas.style.blockSize = `${shown}px`;
    }
    this.paintNow(this.boxes);
  }

  private draw(): void {
    if (this.waiting || this.width === 0) return;
    this.waiting = true;
    requestAnimationFrame(() => {
      this.waiting = false;
      this.paintNow(this.boxes);
    });
  }

  private paintNow(boxes: Box[]): void {
    const pen = this.canvas.getContext("2d");
    if (!pen) return;
    this.look ??= ink();
    const scale = devicePixelRatio || 1;
    pen.setTransform(scale, 0, 0, scale, 0, 0);
    paint(pen, {
      tree: this.tree, boxes, focus: this.focus, selected: this.selected, hovered: this.hovered,
      matches: this.matches, colours: this.colours, rootName: this.rootName,
      focusRow: this.focusRow(), hasKeys: this.element.matches(":focus-visible"),
    }, this.look, this.canvas.width / scale, this.canvas.height / scale, this.element.scrollTop);
  }

  /** Moves each box from where it was; those that are new start where their focus was. */
  private animate(before: Map<number, Box>): void {
    const started = performance.now();
    const origin = before.get(this.focus)!;
    const from = this.boxes.map((box) => before.get(box.node)
      ?? { ...box, left: origin.left + box.left * origin.width, width: box.width * origin.width });
    const step = (now: number) => {
      const t = Math.min(1, Math.max(0, (now - started) / ZOOM_MS));
      const part = 1 - (1 - t) ** 3;
      this.paintNow(t === 1 ? this.boxes : this.boxes.map((box, i) => ({
        ...box, left: from[i]!.left + (box.left - from[i]!.left) * part,
        width: from[i]!.width + (box.width - from[i]!.width) * part,
      })));
      if (t < 1) this.moving = requestAnimationFrame(step);
    };
    this.moving = requestAnimationFrame(step);
  }

  private at(event: PointerEvent | MouseEvent): Box | null {
    const frame = this.canvas.getBoundingClientRect();
    const row = Math.floor((event.clientY - frame.top + this.element.scrollTop) / ROW_PX);
    const x = (event.clientX - frame.left) / this.width;
    return this.byRow[row]?.find((box) => x >= box.left && x < box.left + box.width) ?? null;
  }

  private hover(event: PointerEvent): void {
    const box = this.at(event);
    this.canvas.style.cursor = box ? "pointer" : "default";
    const node = box ? box.node : -1;
    if (node !== this.hovered) {
      this.hovered = node;
      const words = box ? this.events.described(node, false) : null;
      this.tip.hidden = !words;
      if (words) this.tip.replaceChildren(words);
      this.draw();
    }
    if (!this.tip.hidden) this.place(event.clientX, event.clientY);
  }

  private leave(): void {
    this.hovered = -1;
    this.tip.hidden = true;
    this.draw();
  }

  /** Beside the point, inside the window. */
  private place(x: number, y: number): void {
    const { offsetWidth: w, offsetHeight: h } = this.tip;
    const left = Math.max(8, Math.min(x + 14, innerWidth - w - 8));
    const top = y + 20 + h > innerHeight ? y - h - 12 : y + 20;
    this.tip.style.transform = `translate(${Math.round(left)}px, ${Math.round(Math.max(8, top))}px)`;
  }

  private key(event: KeyboardEvent): void {
    const box = this.boxes.find((b) => b.node === this.selected) ?? this.boxes[0];
    if (!box) return;
    const row = this.byRow[box.row] ?? [];
    const at = row.indexOf(box);
    const next: Record<string, Box | undefined> = {
      ArrowLeft: row[at - 1], ArrowRight: row[at + 1],
      ArrowUp: this.boxes.find((b) => b.node === this.tree.parent[box.node]),
      ArrowDown: this.byRow[box.row + 1]?.find((b) => this.tree.parent[b.node] === box.node),
    };
    if (event.key in next) {
      event.preventDefault();
      const to = next[event.key];
      if (!to) return;
      this.selected = to.node;
      this.events.described(to.node, true);
      const y = to.row * ROW_PX;
      const { scrollTop, clientHeight } = this.element;
      if (y < scrollTop) this.element.scrollTop = y;
      else if (y + ROW_PX > scrollTop + clientHeight) this.element.scrollTop = y + ROW_PX - clientHeight;
      this.draw();
    } else if (event.key === "Enter" || event.key === " ") {
      event.preventDefault();
      this.zoom(this.selected);
    } else if (event.key === "Escape") {
      this.zoom(this.tree.parent[this.focus] ?? 0);
    } else if (event.key === "Home") {
      event.preventDefault();
      this.zoom(0);
    }
  }
}
