// Sizes and lifetimes of all blocks, as bars over powers of two.
import type { HistogramBar, Report } from "./data";
import { choice, el, empty, section } from "./dom";
import { bytes, count, percent } from "./format";

type By = "count" | "bytes";

function bars(title: string, words: string, all: HistogramBar[], by: By): HTMLElement {
  const used = all.filter((bar) => bar.count > 0 || bar.bytes > 0);
  if (used.length === 0) return el("figure", { class: "histogram" },
    el("figcaption", {}, el("h3", {}, title)), empty("Nothing was counted."));
  const first = all.indexOf(used[0]!);
  const shown = all.slice(first, all.indexOf(used[used.length - 1]!) + 1);
  const top = Math.max(...shown.map((bar) => bar[by])) || 1;
  const total = shown.reduce((sum, bar) => sum + bar[by], 0) || 1;
  const every = Math.ceil(shown.length / 7);
  const modal = shown.reduce((a, b) => (b[by] > a[by] ? b : a));
  const summary = `${title}: most ${by === "count" ? "blocks" : "bytes"} (${percent(modal[by] / total).text}) `
    + `from ${bytes(modal.low, true).text} to ${bytes(modal.high, true).text}.`;
  return el("figure", { class: "histogram" },
    el("figcaption", {}, el("h3", {}, title), el("p", { class: "lead" }, words)),
    el("div", { class: "columns", role: "img", "aria-label": summary }, shown.map((bar, i) => {
      const column = el("span", { class: "column-bar" });
      column.style.blockSize = `${(bar[by] / top) * 100}%`;
      const range = `${bytes(bar.low, true).text} to below ${bytes(bar.high, true).text}`;
      return el("div", { class: "column", title: `${range}\n${count(bar.count).exact} blocks\n${bytes(bar.bytes).text}\n${percent(bar[by] / total).text} of the ${by === "count" ? "blocks" : "bytes"}` },
        el("span", { class: "column-track" }, column),
        el("span", { class: "column-mark" }, i % every === 0 ? bytes(bar.low, true).text : ""));
    })),
    el("p", { class: "histogram-sum" }, summary.slice(title.length + 2).replace(/^m/, "M")));
}

/** The section. */
export function histogramsSection(report: Report): HTMLElement {
  const { size_histogram: sizes, lifetime_histogram: lives } = report;
  const title = "Sizes and lifetimes";
  if (sizes.length === 0 && lives.length === 0) {
    return section("histograms", title, null, empty("No sizes or lifetimes were counted."));
  }
  const holder = el("div", { class: "histograms" });
  const draw = (by: By) => {
    holder.textContent = "";
    holder.append(bars("Request sizes", "Bytes asked for.", sizes, by),
      bars("Lifetimes", "Bytes the program allocates between a block’s birth and death.", lives, by));
  };
  draw("count");
  return section("histograms", title, "Every block of the program.",
    el("div", { class: "toolbar" }, choice<By>("Bars show", [["count", "Blocks"], ["bytes", "Bytes"]], "count", draw)), holder);
}
