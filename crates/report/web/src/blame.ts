// What resident memory is for, and whose live blocks hold what is free of it.
import type { Blame, Fragmentation, FragmentationClass, Report } from "./data";
import { type Child, el, figure, section } from "./dom";
import { bytes, count, percent, seconds } from "./format";
import { allocatorName, swatch } from "./palette";
import { type SiteContext, functionColumn, siteDetail } from "./site_cells";
import { type Column, Table } from "./table";

interface Part { key: keyof Fragmentation; name: string; hint: string; token: string }

/** The parts of the resident bytes, from what the program asked for outwards. */
const PARTS: Part[] = [
  { key: "requested_bytes", name: "requested", hint: "What the program asked for and has written", token: "series-2" },
  { key: "slack_bytes", name: "slack", hint: "Usable beyond the requested bytes", token: "series-4" },
  { key: "pinned_bytes", name: "free beside live blocks", hint: "Free bytes on OS pages where blocks are alive: what the call sites below hold", token: "series-own" },
  { key: "empty_bytes", name: "without live blocks", hint: "OS pages where no block is alive: free, or the allocator’s bookkeeping", token: "series-live" },
  { key: "mapped_bytes", name: "mapped by the program", hint: "Memory that the program mapped itself", token: "series-1" },
  { key: "stack_bytes", name: "stacks", hint: "Stacks of the replay’s threads", token: "series-3" },
];

const bytesOf = (found: Fragmentation, part: Part): number => found[part.key] as number;

/** One bar of all parts, and what each is. */
function partsBar(found: Fragmentation): HTMLElement {
  const shown = PARTS.filter((part) => bytesOf(found, part) > 0);
  const whole = shown.reduce((sum, part) => sum + bytesOf(found, part), 0) || 1;
  const bar = el("div", { class: "parts", role: "img",
    "aria-label": shown.map((part) => `${part.name} ${bytes(bytesOf(found, part)).text}`).join(", ") });
  for (const part of shown) {
    const piece = el("span", { class: `part ${part.token}`, title: `${part.name}: ${bytes(bytesOf(found, part)).text}` });
    piece.style.flexGrow = String(bytesOf(found, part) / whole);
    bar.append(piece);
  }
  return el("div", { class: "parts-figure" }, bar,
    el("dl", { class: "figures" }, shown.map((part) => el("div", { class: "fact", title: part.hint },
      el("dt", {}, swatch(part.token), " ", part.name),
      el("dd", {}, figure(bytes(bytesOf(found, part)), `fragmentation.${part.key}`),
        el("span", { class: "under" }, figure(percent(bytesOf(found, part) / whole))))))));
}

function classTable(rows: FragmentationClass[]): HTMLElement | null {
  if (rows.length === 0) return null;
  const top = rows.reduce((a, row) => Math.max(a, row.pinned_bytes), 0) || 1;
  const table = new Table<FragmentationClass>({
    id: "classes-table", caption: "By size", rows, sorted: null, pageRows: 12, together: true,
    columns: [
      { key: "class", label: "Blocks up to", value: (c) => c.class_bytes, cell: (c) => figure(bytes(c.class_bytes, true)) },
      { key: "blocks", label: "Live blocks", value: (c) => c.blocks, cell: (c) => figure(count(c.blocks)) },
      { key: "live", label: "Live", hint: "Their usable bytes", value: (c) => c.live_bytes, cell: (c) => figure(bytes(c.live_bytes)) },
      { key: "pinned", label: "Pins", hint: "Their share of the free bytes on their OS pages", value: (c) => c.pinned_bytes,
        cell: (c) => figure(bytes(c.pinned_bytes)), share: (c) => c.pinned_bytes / top },
      { key: "internal", label: "Internal", hint: "1 − requested / usable", value: (c) => c.internal, cell: (c) => figure(percent(c.internal)) },
      { key: "external", label: "External", hint: "Pinned / (live + pinned)", value: (c) => c.external, cell: (c) => figure(percent(c.external)) },
      { key: "largest", label: "Largest free", hint: "Largest free piece beside such a block", value: (c) => c.largest_free_bytes,
        cell: (c) => figure(bytes(c.largest_free_bytes)) },
    ],
  });
  return el("div", {}, el("h3", {}, "By size of block"), table.element);
}

function sitesTable(rows: Blame[], context: SiteContext): HTMLElement | null {
  if (rows.length === 0) return null;
  const top = rows.reduce((a, b) => Math.max(a, b.pinned_bytes), 0) || 1;
  const own = functionColumn();
  const number = (key: keyof Omit<Blame, "site">, label: string, hint: string, share?: (b: Blame) => number): Column<Blame> => ({
    key, label, hint, value: (b) => b[key], cell: (b) => figure(bytes(b[key]), `blame.${b.site.id}.${key}`), ...(share ? { share } : {}),
  });
  const table = new Table<Blame>({
    id: "blame-table", caption: "Fragmentation blame", rows, sorted: null, pageRows: 10,
    columns: [
      { key: own.key, label: own.label, text: true, wide: true, value: (b) => own.value(b.site),
        cell: (b) => own.cell(b.site) },
      number("pinned_bytes", "Pins", "Free bytes on OS pages its blocks keep, shared out by live bytes", (b) => b.pinned_bytes / top),
      number("live_bytes", "Live", "Its own live bytes"),
      number("releasable_bytes", "Would release", "The OS pages where nobody else is alive: what could go back if this site alone died"),
      { key: "ratio", label: "Pins per live byte", value: (b) => (b.live_bytes > 0 ? b.pinned_bytes / b.live_bytes : NaN),
        cell: (b) => el("span", { class: "figure" }, b.live_bytes > 0 ? (b.pinned_bytes / b.live_bytes).toFixed(1) : "–") },
    ],
    detail: (b) => siteDetail(b.site, context),
  });
  return el("div", {}, el("h3", {}, "Who holds it"), table.element);
}

function momentText(found: Fragmentation): Child {
  switch (found.moment) {
    case "worst": return "when most was retained";
    case "peak": return "when most requested bytes were alive";
    case "end": return "at the end";
    default: return ["after ", figure(seconds(found.time_s))];
  }
}

/** The section; nothing at all when nothing is known. */
export function blameSection(report: Report, context: SiteContext): HTMLElement | null {
  const found = report.advice.fragmentation;
  if (!found && report.blame.length === 0) return null;
  const lead: Child = found
    ? ["What ", figure(bytes(found.resident_bytes), "fragmentation.resident_bytes"), " of resident memory were for under ",
      allocatorName(found.allocator), ", ", momentText(found), "; and the sites whose live blocks keep free memory from going back. ",
      "The largest free piece was ", figure(bytes(found.largest_free_bytes), "fragmentation.largest_free_bytes"), "."]
    : "Memory that is free and yet cannot be given back, by the sites whose live blocks hold it.";
  return section("blame", "Fragmentation", lead, found ? partsBar(found) : null,
    sitesTable(report.blame, context), found ? classTable(found.classes) : null);
}
