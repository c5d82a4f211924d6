// The sections that list call sites: all of them, temporaries, leaks.
import type { Report, Site } from "./data";
import { empty, figure, section } from "./dom";
import { bytes, count, percent } from "./format";
import {
  type SiteContext, adviceColumn, functionColumn, numberColumn, siteDetail, siteSearch, sizesColumn,
} from "./site_cells";
import { type Column, Table } from "./table";

const most = <T>(rows: T[], read: (row: T) => number): number =>
  rows.reduce((a, row) => Math.max(a, read(row)), 0) || 1;

const bytesColumn = (rows: Site[]): Column<Site> => {
  const top = most(rows, (s) => s.bytes);
  return numberColumn("bytes", "Bytes", (s) => s.bytes, bytes,
    { hint: "Requested bytes in all", share: (s) => s.bytes / top });
};
const countColumn = () => numberColumn("allocs", "Count", (s) => s.allocs, count, { hint: "Allocations" });
const lifetimeColumn = () => numberColumn("lifetime", "Lifetime", (s) => s.lifetime_median_bytes, bytes,
  { hint: "Median, in bytes the whole program allocates between birth and death" });
const peakColumn = (rows: Site[]): Column<Site> => {
  const top = most(rows, (s) => s.live_at_peak_bytes);
  return numberColumn("live_at_peak", "Live at peak", (s) => s.live_at_peak_bytes, bytes,
    { hint: "Requested bytes alive when the whole program’s live bytes peaked", share: (s) => s.live_at_peak_bytes / top });
};
const temporaryColumn = () => numberColumn("temporary", "Temporary", (s) => s.temporary_share, percent,
  { hint: "Share freed before the same thread allocated again" });

/** The section of all call sites. */
export function sitesSection(report: Report, context: SiteContext): HTMLElement {
  const rows = report.sites;
  const title = "Call sites";
  if (rows.length === 0) return section("sites", title, null, empty("No call site was recorded."));
  const columns: Column<Site>[] = [
    functionColumn(), bytesColumn(rows), countColumn(), sizesColumn(), lifetimeColumn(),
    numberColumn("threads", "Threads", (s) => s.threads, count, { hint: "Threads that allocate here" }),
    numberColumn("same_thread", "Same thread", (s) => s.same_thread_share, percent,
      { hint: "Share of the frees made by the thread that allocated" }),
    temporaryColumn(), peakColumn(rows), adviceColumn(),
  ];
  const table = new Table({
    id: "sites-table", caption: title, columns, rows, sorted: "bytes",
    search: (query) => siteSearch(context.frames, query),
    searchLabel: "Search functions, files, stacks",
    filter: { label: "Advice", of: (site) => site.recommend || "none" },
    detail: (site) => siteDetail(site, context),
  });
  const left = report.sites_total - rows.length;
  return section("sites", title,
    [`${count(report.sites_total).text} places that allocate. Open a row for its whole stack and the reasons behind the advice.`,
      left > 0 ? ` The ${count(left).text} smallest are left out of this page.` : ""],
    table.element);
}

/** Blocks that die at once. */
export function temporariesSection(report: Report, context: SiteContext): HTMLElement {
  const rows = report.temporaries;
  const title = "Temporaries";
  if (rows.length === 0) {
    return section("temporaries", title, null, empty("No site was seen to free its blocks at once."));
  }
  const short = (site: Site) => site.temporary_share * site.allocs;
  const top = most(rows, short);
  const table = new Table({
    id: "temporaries-table", caption: title, rows, sorted: null, pageRows: 10,
    columns: [functionColumn(),
      numberColumn("temporaries", "Temporaries", short, (n) => count(Math.round(n)),
        { hint: "Blocks freed before the same thread allocated again", share: (s) => short(s) / top }),
      temporaryColumn(), countColumn(), bytesColumn(rows), sizesColumn(), adviceColumn()],
    detail: (site) => siteDetail(site, context),
  });
  return section("temporaries", title,
    "Blocks freed before their thread allocated again: a buffer kept, or the stack, would do.", table.element);
}

/** Blocks never freed. */
export function leaksSection(report: Report, context: SiteContext): HTMLElement {
  const rows = report.leaks;
  const end = report.advice.recording.end_live_bytes;
  const title = "Leaks";
  if (rows.length === 0) return section("leaks", title, null, empty(end > 0
      ? `${bytes(end).text} were alive at the end, but no site is named for them.`
      : "Every recorded block was freed."));
  const top = most(rows, (s) => s.live_at_end_bytes);
  const total = end || rows.reduce((sum, s) => sum + s.live_at_end_bytes, 0) || 1;
  const table = new Table({
    id: "leaks-table", caption: title, rows, sorted: null, pageRows: 10,
    columns: [functionColumn(),
      numberColumn("live_at_end", "Live at end", (s) => s.live_at_end_bytes, bytes, { share: (s) => s.live_at_end_bytes / top }),
      numberColumn("share_at_end", "Of all", (s) => s.live_at_end_bytes / total, percent,
        { hint: "Share of all bytes alive at the end" }),
      numberColumn("blocks_at_end", "Blocks", (s) => s.live_at_end_blocks, count),
      numberColumn("kept", "Never freed", (s) => (s.allocs > 0 ? s.live_at_end_blocks / s.allocs : NaN), percent,
        { hint: "Share of this site’s blocks still alive at the end" }),
      sizesColumn(), peakColumn(rows)],
    detail: (site) => siteDetail(site, context),
  });
  return section("leaks", title,
    [figure(bytes(end)), " were alive at the end. Caches and tables meant to last count here too."], table.element);
}
