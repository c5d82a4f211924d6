// What a call site looks like: its cells, its open row, and how it is searched.
import type { Frame, Site } from "./data";
import { type Child, button, el, figure } from "./dom";
import { byteRange, bytes, count, percent, place, prose, ratio } from "./format";
import type { Column } from "./table";

export interface SiteContext {
  frames: Frame[];
  /** Shows a function in the flame graph. */
  showInFlame: (name: string) => void;
}

const pathOf = (file: string, line: number): string => (file ? (line > 0 ? `${file}:${line}` : file) : "");

/** A name that may break after its separators, so that long ones wrap where a reader would. */
export function breakable(name: string): Child[] {
  return name.split(/(?<=::|[/<,_.(])/).flatMap((part, i) => (i === 0 ? [part] : [el("wbr"), part]));
}

export const functionColumn = (): Column<Site> => ({
  key: "function", label: "Call site", text: true, wide: true,
  value: (site) => site.function || pathOf(site.file, site.line),
  cell: (site) => el("div", { class: "site" },
    el("code", { class: "site-name", title: site.function },
      site.function ? breakable(site.function) : "unknown function"),
    el("span", { class: "under", title: pathOf(site.file, site.line) }, place(site.file, site.line))),
});

export function numberColumn(
  key: string, label: string, read: (site: Site) => number, show: (n: number) => ReturnType<typeof bytes>,
  extra: Partial<Column<Site>> = {},
): Column<Site> {
  return { key, label, value: read, cell: (site) => figure(show(read(site)), `site.${site.id}.${key}`), ...extra };
}

export const sizesColumn = (): Column<Site> => ({
  key: "sizes", label: "Size", hint: "Median request, and the range", value: (site) => site.sizes.median,
  cell: ({ sizes }) => [figure(bytes(sizes.median, true)), sizes.min === sizes.max ? null
    : el("span", { class: "under", title: `${sizes.min} to ${sizes.max} bytes` },
        byteRange(sizes.min, sizes.max))],
});

export const adviceColumn = (): Column<Site> => ({
  key: "recommend", label: "Advice", text: true, hint: "The kind of allocator that fits this site",
  value: (site) => site.recommend,
  cell: (site) => el("div", { class: "advice" }, kindBadge(site.recommend), proof(site)),
});

export const kindBadge = (kind: string): HTMLElement =>
  el("span", { class: `kind kind-${kind.replace(/\W/g, "")}` }, kind || "none");

/** What the replay of the candidate showed, in two or three words. */
const PROOFS: Record<string, string> = {
  no_gain: "no gain measured", loss: "a region was worse", not_measured: "not measured",
  not_upheld: "not upheld",
};

function proof({ predicted, proof }: Site): Child {
  if (!predicted) return proof in PROOFS ? el("span", { class: "under" }, PROOFS[proof]) : null;
  return [el("span", { class: "under" }, figure(ratio(predicted.time_ratio)), " time"),
    el("span", { class: "under" }, figure(ratio(predicted.peak_ratio)), " peak")];
}

const fact = (name: string, value: Child): Child => [el("dt", {}, name), el("dd", {}, value)];

function sizesText({ sizes }: Site): Child {
  if (sizes.min === sizes.max) return [figure(bytes(sizes.min)), " each"];
  const different = sizes.distinct > 64 ? "more than 64" : String(sizes.distinct);
  return [figure(bytes(sizes.min)), " to ", figure(bytes(sizes.max)), `, ${different} different`];
}

/** The open row: why, the figures no column has, and the whole stack. */
export function siteDetail(site: Site, context: SiteContext): HTMLElement {
  const { predicted } = site;
  return el("div", { class: "site-detail" },
    el("div", { class: "site-facts" },
      site.why ? el("p", { class: "why" }, kindBadge(site.recommend), ": ", prose(site.why)) : null,
      el("dl", { class: "facts" },
        site.proof ? fact("Proof", predicted ? [
          "time ", figure(ratio(predicted.time_ratio)), ", peak ", figure(ratio(predicted.peak_ratio)),
          "; one long-lived block could hold ", figure(bytes(predicted.worst_case_held_bytes))]
          : (PROOFS[site.proof] ?? site.proof)) : null,
        fact("Allocated by", site.kind || "–"),
        fact("Sizes", sizesText(site)),
        fact("Never freed", [figure(bytes(site.live_at_end_bytes)), " in ", figure(count(site.live_at_end_blocks, "blocks")), " blocks"]),
        fact("Threads", [figure(count(site.threads, "threads")), ", ", figure(percent(site.same_thread_share)), " of the frees by the one that allocated"]),
        fact("Temporary", figure(percent(site.temporary_share))),
        fact("Last in, first out", figure(percent(site.lifo_share))),
        fact("Die together", figure(percent(site.batch_share))),
        fact("Reallocated", figure(percent(site.realloc_share)))),
      site.function ? button("Find in the flame graph", () => context.showInFlame(site.function), { class: "quiet" }) : null),
    stackList(site, context.frames));
}

function stackList(site: Site, frames: Frame[]): HTMLElement {
  if (site.stack.length === 0) return el("p", { class: "empty" }, "No stack was recorded here.");
  return el("ol", { class: "stack", "aria-label": "Call stack, innermost first" }, site.stack.map((index) => {
    const frame = frames[index];
    if (!frame) return null;
    const module = frame.module ? `${frame.module}+0x${frame.offset}` : `0x${frame.offset}`;
    return el("li", {},
      el("code", {}, frame.function ? breakable(frame.function) : module),
      el("span", { class: "under", title: [pathOf(frame.file, frame.line), frame.build_id && `build ${frame.build_id}`].filter(Boolean).join("\n") },
        [place(frame.file, frame.line), frame.function ? module : ""].filter(Boolean).join(" · ")));
  }));
}

/** Every word must stand in the site, in one of its frames, its kind, or its advice. */
export function siteSearch(frames: Frame[], query: string): (site: Site) => boolean {
  const words = query.toLowerCase().split(/\s+/).filter(Boolean);
  // A frame is read once a word, however many stacks it is in.
  const hits = words.map((word) => frames.map((frame) =>
    `${frame.function}\n${frame.file}:${frame.line}\n${frame.module}`.toLowerCase().includes(word)));
  return (site) => {
    const own = `${site.function}\n${site.file}:${site.line}\n${site.kind}\n${site.recommend}\n${site.why}`.toLowerCase();
    return words.every((word, w) => own.includes(word) || site.stack.some((frame) => hits[w]![frame]));
  };
}
