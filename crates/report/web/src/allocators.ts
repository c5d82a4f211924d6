// The allocators side by side: replayed, and running the program itself where that was done.
import type { AllocatorRow, Report } from "./data";
import { type Child, el, empty, figure, section } from "./dom";
import { type Figure, bytes, count, kib, nanoseconds, percent, ratio, seconds } from "./format";
import { colourTokens, swatch, systemRow } from "./palette";
import { type Column, Table } from "./table";

type Read = (row: AllocatorRow) => number | null;

/** The best of a column stands out, unless all are alike. */
function bestOf(rows: AllocatorRow[], read: Read): number {
  const values = rows.filter((row) => !row.failure).map(read)
    .filter((v): v is number => v !== null && Number.isFinite(v));
  return values.length > 1 && new Set(values).size > 1 ? Math.min(...values) : NaN;
}

function measured(
  rows: AllocatorRow[], key: string, label: string, read: Read, show: (n: number | null) => Figure,
  extra: { hint?: string; plain?: boolean; beside?: (row: AllocatorRow) => Child } = {},
): Column<AllocatorRow> {
  const best = extra.plain ? NaN : bestOf(rows, read);
  return {
    key, label, ...(extra.hint ? { hint: extra.hint } : {}), value: read,
    cell: (row) => {
      const value = read(row);
      const shown = figure(show(value), `${row.name}.${key}`);
      if (value === best) shown.classList.add("best");
      return [shown, extra.beside?.(row)];
    },
  };
}

function nameColumn(rows: AllocatorRow[], chosen: string): Column<AllocatorRow> {
  const tokens = colourTokens(rows);
  return {
    key: "name", label: "Allocator", text: true, wide: true, value: (row) => row.name,
    cell: (row) => el("div", { class: "allocator" }, swatch(tokens.get(row.name)),
      el("div", {}, el("span", { class: "allocator-name" }, row.name,
        row.name === chosen ? el("span", { class: "chosen" }, "verdict") : null),
      el("span", { class: "under", title: row.origin },
        [row.version, row.origin && !row.origin.includes("/") ? row.origin : ""].filter(Boolean).join(" · ")))),
  };
}

/** ± half the spread, which is (max − min) / median. */
const spread = (share: number): Child => (share > 0
  ? el("span", { class: "under", title: `(max − min) / median = ${share}` }, `±\u00a0${percent(share / 2).text}`) : null);

function replayTable(rows: AllocatorRow[], chosen: string): HTMLElement {
  const base = systemRow(rows);
  const peakRatio: Read = (row) =>
    (base && base.peak_rss_kb > 0 && !base.failure ? row.peak_rss_kb / base.peak_rss_kb : null);
  const columns: Column<AllocatorRow>[] = [
    nameColumn(rows, chosen),
    measured(rows, "ns_per_op", "Time / op", (row) => row.ns_per_op, nanoseconds,
      { hint: "Median nanoseconds an operation, the null run taken off", beside: (row) => spread(row.spread) }),
    measured(rows, "time_ratio", "Time ratio", (row) => row.time_ratio, ratio, { hint: "Time over the system’s" }),
    measured(rows, "peak_rss_kb", "Peak", (row) => row.peak_rss_kb, kib, { hint: "Highest growth of resident memory" }),
    measured(rows, "peak_ratio", "Peak ratio", peakRatio, ratio, { hint: "Peak over the system’s" }),
    measured(rows, "mean_rss_kb", "Mean", (row) => row.mean_rss_kb, kib, { hint: "Mean resident growth over the events" }),
    measured(rows, "end_rss_kb", "End", (row) => row.end_rss_kb, kib, { hint: "Resident growth at the end" }),
    measured(rows, "page_faults", "Page faults", (row) => row.page_faults, count),
    measured(rows, "internal_fragmentation", "Internal", (row) => row.internal_fragmentation, percent,
      { hint: "Internal fragmentation: 1 − requested / usable, at the live peak" }),
    measured(rows, "external_fragmentation", "External", (row) => row.external_fragmentation, percent,
      { hint: "External fragmentation: 1 − usable / resident, at the live peak" }),
  ];
  if (rows.some((row) => row.largest_free_bytes !== null)) {
    columns.push(measured(rows, "largest_free_bytes", "Largest free", (row) => row.largest_free_bytes, bytes,
      { plain: true, hint: "Largest free piece, where the allocator can tell" }));
  }
  return new Table({
    id: "allocators-table", caption: "Allocators", columns, rows, sorted: null, pageRows: 100, together: true,
    rowClass: (row) => (row.failure ? "failed" : row.name === chosen ? "is-chosen" : ""),
    instead: (row) => (row.failure ? [el("strong", {}, "No figures: "), row.failure] : null),
  }).element;
}

function runTable(all: AllocatorRow[], chosen: string): HTMLElement {
  const rows = all.filter((row) => row.run);
  const columns: Column<AllocatorRow>[] = [
    nameColumn(all, chosen),
    measured(rows, "run.cpu_s", "CPU time", (row) => row.run!.cpu_s, seconds, { beside: (row) => spread(row.run!.spread) }),
    measured(rows, "run.time_ratio", "CPU ratio", (row) => row.run!.time_ratio, ratio,
      { hint: "CPU over the system’s, median of the pairs" }),
    measured(rows, "run.wall_s", "Wall time", (row) => row.run!.wall_s, seconds),
    measured(rows, "run.peak_rss_kb", "Peak resident", (row) => row.run!.peak_rss_kb, kib),
    measured(rows, "run.peak_rss_ratio", "Peak ratio", (row) => row.run!.peak_rss_ratio, ratio,
      { hint: "Peak over the system’s, median of the pairs" }),
    measured(rows, "run.repeats", "Runs", (row) => row.run!.repeats, count, { plain: true }),
    { key: "run.same_output", label: "Output", value: (row) => Number(row.run!.same_output),
      cell: (row) => (row.run!.same_output ? "same" : el("strong", { class: "warn" }, "differs")) },
  ];
  return new Table({ id: "runs-table", caption: "The program itself", columns, rows, sorted: null, pageRows: 100, together: true,
    rowClass: (row) => (row.name === chosen ? "is-chosen" : "") }).element;
}

/** The section. */
export function allocatorsSection({ advice }: Report): HTMLElement {
  const rows = advice.allocators;
  if (rows.length === 0) {
    return section("allocators", "Allocators", null, empty("The recording was not replayed on any allocator."));
  }
  const chosen = advice.verdict.allocator;
  return section("allocators", "Allocators",
    "The recording replayed on each in a fresh process, with the program’s own threads. Ratios are to the system’s; below 1 is better.",
    replayTable(rows, chosen),
    rows.some((row) => row.run) ? [
      el("h3", {}, "The program itself"),
      el("p", { class: "lead" }, "The command run under each allocator by turns; medians."),
      runTable(rows, chosen)] : null);
}
