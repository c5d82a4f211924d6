// The flame graph with its controls: measure, direction, search, the way back.
import type { FlameColumns } from "../data";
import { button, choice, el, empty, replace, section } from "../dom";
import { type Figure, bytes, count, percent } from "../format";
import { type Measure, type Tree, bottomUp, matchedShare, ownValue, path, topDown } from "./tree";
import { FlameView } from "./view";

const MEASURES: [Measure, string][] = [
  ["bytes", "Bytes"], ["count", "Count"], ["peak", "Live at peak"], ["temporary", "Temporary"],
];
type Way = "down" | "up";

const show = (measure: Measure, n: number): Figure =>
  (measure === "bytes" || measure === "peak" ? bytes(n) : count(n, "blocks"));

export interface FlameSection { element: HTMLElement; search: (name: string) => void }

/** The section, and a way for others to search it. */
export function flameSection(columns: FlameColumns): FlameSection {
  const title = "Flame graph";
  if (columns.parent.length < 2) {
    return { element: section("flame", title, null, empty("No stacks were recorded, so there is no flame graph.")),
      search: () => undefined };
  }
  const graph = new FlameControls(columns);
  const lead = ["Width is the share of the measure; a box stands under its caller. Click one to give it the whole width.",
    columns.pruned_share > 0.0005 ? ` Boxes too small to see, ${percent(columns.pruned_share).text} of the bytes, are left out.` : ""];
  const element = section("flame", title, lead, graph.element);
  return { element, search: (name) => {
    graph.search(name);
    element.scrollIntoView();
  } };
}

class FlameControls {
  readonly element: HTMLElement;
  private measure: Measure = "bytes";
  private way: Way = "down";
  private tree: Tree;
  private focus = 0;
  private readonly trees = new Map<string, Tree>();
  private readonly view: FlameView;
  private readonly trail = el("nav", { class: "trail", "aria-label": "Callers of the box in focus" });
  private readonly spoken = el("p", { class: "unseen", role: "status" });
  private readonly matched = el("p", { class: "found", role: "status" });
  private readonly nothing = empty("Nothing was counted under this measure.");
  private readonly field = el("input", {
    type: "search", placeholder: "Highlight functions", "aria-label": "Highlight functions",
    spellcheck: "false", autocomplete: "off",
  });
  private readonly lower: string[];

  constructor(private readonly columns: FlameColumns) {
    this.lower = columns.names.map((name) => name.toLowerCase());
    this.tree = this.treeNow();
    this.view = new FlameView(this.tree, "everything", {
      focused: (node) => this.follow(node),
      described: (node, spoken) => this.describe(node, spoken),
    });
    this.field.addEventListener("input", () => this.highlight());
    this.element = el("div", { class: "flame" },
      el("div", { class: "toolbar" },
        choice<Measure>("Measure", MEASURES, this.measure, (value) => { this.measure = value; this.change(); }),
        choice<Way>("Direction", [["down", "Callers first"], ["up", "Allocating functions first"]], this.way,
          (value) => { this.way = value; this.change(); }),
        this.field, this.matched),
      el("p", { class: "unseen", id: "flame-help" },
        "Arrow keys move between boxes, Enter zooms in, Escape goes out one step, Home shows all."),
      this.trail, this.nothing, this.view.element, this.spoken);
    this.follow(0);
  }

  /** Highlights a function by name. */
  search(name: string): void {
    this.field.value = name;
    this.view.zoom(0);
    this.highlight();
  }

  private treeNow(): Tree {
    const key = `${this.measure} ${this.way}`;
    let tree = this.trees.get(key);
    if (!tree) {
      const down = this.trees.get(`${this.measure} down`) ?? topDown(this.columns, this.measure);
      tree = this.way === "down" ? down : bottomUp(down);
      this.trees.set(key, tree);
    }
    return tree;
  }

  private change(): void {
    this.tree = this.treeNow();
    this.view.show(this.tree);
    this.highlight();
  }

  private highlight(): void {
    const query = this.field.value.trim().toLowerCase();
    if (!query) {
      this.matched.textContent = "";
      this.view.mark(null);
      return;
    }
    const matches = Uint8Array.from(this.lower, (name) => (name.includes(query) ? 1 : 0));
    this.matched.textContent = `${percent(matchedShare(this.tree, matches)).text} matches`;
    this.view.mark(matches);
  }

  private nameOf(node: number): string {
    return node === 0 ? "everything" : this.tree.names[this.tree.name[node]!] || "unknown function";
  }

  /** The way from the root to the focus; long ones lose their middle. */
  private follow(node: number): void {
    this.focus = node;
    this.nothing.hidden = this.tree.value[0]! > 0;
    const nodes = path(this.tree, node);
    const kept = nodes.length > 6 ? [nodes[0]!, -1, ...nodes.slice(-4)] : nodes;
    const total = show(this.measure, this.tree.value[node]!);
    replace(this.trail, kept.map((n, i) =>
      el("span", { class: i === 0 || i >= kept.length - 2 ? "crumb" : "crumb middle" },
        i > 0 ? el("span", { class: "trail-gap", "aria-hidden": "true" }, "› ") : null,
        n === -1 ? el("span", { class: "trail-gap" }, `${nodes.length - 5} more`)
          : n === node ? el("span", { class: "trail-here", title: this.nameOf(n) }, this.nameOf(n))
          : button(this.nameOf(n), () => this.view.zoom(n), { class: "trail-step", title: this.nameOf(n) })),
    ), el("span", { class: "trail-sum figure", title: total.exact, "data-key": "flame.focus" }, total.text),
    node === 0 ? null : button("Reset", () => this.view.zoom(0), { class: "quiet", id: "flame-reset" }));
  }

  private describe(node: number | null, spoken: boolean): HTMLElement | null {
    if (node === null) return null;
    const { tree } = this;
    const value = tree.value[node]!;
    const shown = show(this.measure, value);
    const all = percent(value / (tree.value[0] || 1)).text;
    const within = this.focus !== 0 && node !== this.focus && path(tree, node).includes(this.focus);
    const zoomed = within ? `, ${percent(value / (tree.value[this.focus] || 1)).text} of the focus` : "";
    const own = ownValue(tree, node);
    if (spoken) {
      this.spoken.textContent = `${this.nameOf(node)}: ${shown.text}, ${all} of everything${zoomed}`;
    }
    return el("div", {}, el("p", { class: "tip-name" }, this.nameOf(node)),
      el("p", {}, el("strong", {}, shown.text), ` · ${all} of everything${zoomed}`),
      this.way === "down" ? el("p", { class: "tip-soft" }, `Allocated right here: ${show(this.measure, own).text}`) : null,
      el("p", { class: "tip-soft" }, shown.exact));
  }
}
