// The answer, in plain words: which allocator, what it gains, how sure that is.
import type { Advice, AllocatorRow } from "./data";
import { type Child, el, figure } from "./dom";
import { type Figure, count, kib, nanoseconds, prose, ratio, ratioWords, seconds } from "./format";
import { allocatorName, systemRow } from "./palette";

const CONFIRMED: Record<string, string> = {
  run: "confirmed by running the program itself",
  replay: "measured by replaying the recording",
  second_recording: "confirmed on a second recording",
};

const measured = (rows: AllocatorRow[]) => rows.filter((row) => !row.failure);

/** Two bars on one scale: the system's, and the other. */
function bars(system: [string, number, Figure], other: [string, number, Figure]): HTMLElement {
  const most = Math.max(system[1], other[1]) || 1;
  const bar = (kind: string, [name, value, shown]: [string, number, Figure]) => {
    const fill = el("span", { class: `bar ${kind}` });
    fill.style.inlineSize = `${Math.max(0.5, (value / most) * 100)}%`;
    return el("div", { class: "bar-row" },
      el("span", { class: "bar-name" }, name), el("span", { class: "bar-track" }, fill),
      figure(shown));
  };
  return el("div", { class: "bars" }, bar("of-system", system), bar("of-other", other));
}

function tile(title: string, value: Child, words: Child, picture: Child): HTMLElement {
  return el("div", { class: "tile" },
    el("h2", {}, title), el("p", { class: "tile-value" }, value),
    el("p", { class: "tile-words" }, words), picture);
}

interface Basis { words: string; ratio: number; picture: () => HTMLElement }

/** The pair of figures a ratio of the verdict was made of: the run's or the replay's. */
function basis(wanted: number, options: (Basis | null)[]): Basis | null {
  const fit = (option: Basis) => Math.abs(option.ratio - wanted);
  return options.filter((o): o is Basis => o !== null && Number.isFinite(o.ratio))
    .reduce<Basis | null>((a, b) => (a === null || fit(b) < fit(a) ? b : a), null);
}

function option(
  words: string, system: AllocatorRow, row: AllocatorRow, show: (n: number) => Figure,
  base: number | undefined, own: number | undefined, ratioGiven?: number,
): Basis | null {
  if (base === undefined || own === undefined || !(base > 0)) return null;
  return { words, ratio: ratioGiven ?? own / base,
    picture: () => bars([system.name, base, show(base)], [row.name, own, show(own)]) };
}

const timeOptions = (system: AllocatorRow, row: AllocatorRow) => [
  option("CPU time", system, row, seconds, system.run?.cpu_s, row.run?.cpu_s, row.run?.time_ratio),
  option("time in the allocator", system, row, nanoseconds, system.ns_per_op, row.ns_per_op, row.time_ratio),
];
const memoryOptions = (system: AllocatorRow, row: AllocatorRow) => [
  option("at the program’s peak", system, row, kib, system.run?.peak_rss_kb, row.run?.peak_rss_kb, row.run?.peak_rss_ratio),
  option("at the peak of the replay", system, row, kib, system.peak_rss_kb, row.peak_rss_kb),
];

function sureTile(advice: Advice): HTMLElement {
  const { confidence, repeats, confirmed_by } = advice.verdict;
  const level = ["low", "medium", "high"].indexOf(confidence) + 1;
  const word = confidence ? confidence[0]!.toUpperCase() + confidence.slice(1) : "Not said";
  const how = [
    repeats > 0 ? `${count(repeats).text} ${repeats === 1 ? "repeat" : "repeats"}` : "",
    CONFIRMED[confirmed_by] ?? confirmed_by,
  ].filter(Boolean).join(", ");
  const meter = el("div", { class: "meter", "aria-hidden": "true" },
    [1, 2, 3].map((step) => el("span", { class: step <= level ? "on" : "" })));
  return tile("How sure", el("span", { "data-key": "verdict.confidence" }, word), how, meter);
}

function changeTiles(advice: Advice): HTMLElement[] {
  const { verdict } = advice;
  const system = systemRow(advice.allocators);
  const row = advice.allocators.find((r) => r.name === verdict.allocator);
  const time = system && row ? basis(verdict.time_ratio, timeOptions(system, row)) : null;
  const memory = system && row ? basis(verdict.peak_rss_ratio, memoryOptions(system, row)) : null;
  return [
    tile("Time", figure(ratio(verdict.time_ratio), "verdict.time_ratio"),
      ratioWords(verdict.time_ratio, time?.words ?? "time"), time?.picture()),
    tile("Peak resident memory", figure(ratio(verdict.peak_rss_ratio), "verdict.peak_rss_ratio"),
      ratioWords(verdict.peak_rss_ratio, memory?.words ?? "at the peak"), memory?.picture()),
  ];
}

/**
 * Where no change is worth while: the best that was tried, to show how little it is. Runs of the
 * program itself count where there are any: what replay saves may vanish in the program's own work.
 */
function stayTiles(advice: Advice): HTMLElement[] {
  const system = systemRow(advice.allocators);
  if (!system || system.failure) return [];
  const all = measured(advice.allocators).filter((row) => row !== system);
  const byRun = system.run !== null && all.some((row) => row.run);
  const others = byRun ? all.filter((row) => row.run) : all;
  if (others.length === 0) return [];
  const which = byRun ? 0 : 1;
  const best = (title: string, options: (row: AllocatorRow) => (Basis | null)[]) => {
    const [row, found] = others.map((r) => [r, options(r)[which] ?? null] as const)
      .reduce((a, b) => ((b[1]?.ratio ?? Infinity) < (a[1]?.ratio ?? Infinity) ? b : a));
    return found ? tile(title, figure(ratio(found.ratio)),
      [row.name, ": ", ratioWords(found.ratio, found.words)], found.picture()) : null;
  };
  return [
    best("Fastest of the others", (row) => timeOptions(system, row)),
    best("Leanest of the others", (row) => memoryOptions(system, row)),
  ].filter((t): t is HTMLElement => t !== null);
}

function headline(advice: Advice): string {
  const { verdict } = advice;
  if (advice.allocators.length === 0) return "No allocator was measured.";
  if (verdict.change) return `Use ${allocatorName(verdict.allocator)}.`;
  return "No difference worth a change.";
}

/** The section. */
export function verdictSection(advice: Advice): HTMLElement {
  const { verdict, notes } = advice;
  const nothing = advice.allocators.length === 0;
  const reason = verdict.reason || (nothing
    ? "The recording was not replayed, so this report shows where the memory goes and gives no verdict."
    : "");
  return el("section", { id: "verdict", "aria-labelledby": "verdict-title" },
    el("p", { class: "eyebrow" }, "Verdict"),
    el("h1", { id: "verdict-title", "data-key": "verdict.allocator", "data-allocator": verdict.allocator },
      headline(advice)),
    !verdict.change && !nothing && verdict.allocator
      ? el("p", { class: "stay" }, `Stay with ${allocatorName(verdict.allocator)}.`) : null,
    reason ? el("p", { class: "reason" }, prose(reason)) : null,
    nothing ? null : el("div", { class: "tiles" },
      verdict.change ? changeTiles(advice) : stayTiles(advice), sureTile(advice)),
    notes.length > 0
      ? el("p", { class: "caveat" }, el("a", { href: "#notes" },
          notes.length === 1 ? "One note" : `${notes.length} notes`), " on how far to trust these figures.")
      : null);
}
