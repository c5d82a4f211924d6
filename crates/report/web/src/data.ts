// The report's data as the Rust side writes it (`page.rs`): `advice.json` with its strings,
// stack frames and call sites each written once and referred to by index.

export interface Machine {
  cpu: string; cpus: number; memory_bytes: number; kernel: string; libc: string;
  architecture: string;
}
export interface ProcessInfo {
  pid: number; exe: string; name: string; events: number; share: number; chosen: boolean;
}
export interface LivePoint { time_s: number; events: number; live_bytes: number }
export interface RecordingInfo {
  events: number; bytes: number; threads: number; dropped: number; stacks_complete: number;
  duration_s: number; peak_live_bytes: number; end_live_bytes: number; allocs: number;
  allocated_bytes: number; timeline: LivePoint[];
}
export interface AllocatorPoint {
  events: number; time_s: number; rss_kb: number; live_kb: number; internal: number;
  external: number;
}
export interface RunFigures {
  cpu_s: number; wall_s: number; spread: number; peak_rss_kb: number; time_ratio: number;
  peak_rss_ratio: number; repeats: number; same_output: boolean;
}
export interface AllocatorRow {
  name: string; version: string; origin: string; failure: string; ns_per_op: number;
  spread: number; time_ratio: number; peak_rss_kb: number; mean_rss_kb: number;
  end_rss_kb: number; page_faults: number; internal_fragmentation: number;
  external_fragmentation: number; largest_free_bytes: number | null;
  timeline: AllocatorPoint[]; run: RunFigures | null;
}
export interface Verdict {
  change: boolean; allocator: string; reason: string; time_ratio: number;
  peak_rss_ratio: number; confidence: string; repeats: number; confirmed_by: string;
}
export interface Advice {
  schema: number; heapwright_version: string; machine: Machine; command: string[];
  exit_status: number | null;
  overhead: { method: string; native_s: number; recorded_s: number };
  processes: ProcessInfo[]; recording: RecordingInfo; allocators: AllocatorRow[];
  verdict: Verdict; fragmentation: Fragmentation | null; notes: string[];
}
export interface FragmentationClass {
  class_bytes: number; blocks: number; live_bytes: number; pinned_bytes: number;
  internal: number; external: number; largest_free_bytes: number;
}
export interface FragmentationPoint {
  events: number; time_s: number; resident_bytes: number; pinned_bytes: number;
  empty_bytes: number; internal: number; external: number; largest_free_bytes: number;
  classes: FragmentationClass[];
}
/** What resident memory was for at a moment; the parts add up to `resident_bytes`. */
export interface Fragmentation {
  allocator: string; moment: string; events: number; time_s: number; resident_bytes: number;
  requested_bytes: number; slack_bytes: number; pinned_bytes: number; empty_bytes: number;
  mapped_bytes: number; stack_bytes: number; earlier_bytes: number; internal: number;
  external: number; largest_free_bytes: number; classes: FragmentationClass[];
  series: FragmentationPoint[];
}
export interface Predicted {
  time_ratio: number; peak_ratio: number; worst_case_held_bytes: number;
}
/** A call site. `stack` holds indices into [`Report.frames`], innermost first. */
export interface Site {
  id: number; function: string; file: string; line: number; stack: number[]; allocs: number;
  bytes: number; sizes: { min: number; median: number; max: number; distinct: number };
  threads: number; same_thread_share: number; live_at_peak_bytes: number;
  live_at_end_bytes: number; live_at_end_blocks: number; lifetime_median_bytes: number;
  temporary_share: number; lifo_share: number; batch_share: number; realloc_share: number;
  kind: string; recommend: string; why: string; proof: string; predicted: Predicted | null;
}
export interface Frame {
  module: string; build_id: string; offset: string; function: string; file: string;
  line: number;
}
export interface Blame {
  site: Site; live_bytes: number; pinned_bytes: number; releasable_bytes: number;
}
export interface FlameColumns {
  names: string[]; parent: number[]; name: number[]; bytes: number[]; count: number[];
  peak: number[]; temporary: number[]; pruned_share: number;
}
export interface HistogramBar { low: number; high: number; count: number; bytes: number }

/** Everything the page shows. */
export interface Report {
  advice: Advice; frames: Frame[]; sites: Site[]; sites_total: number; leaks: Site[];
  temporaries: Site[]; blame: Blame[]; flame: FlameColumns; size_histogram: HistogramBar[];
  lifetime_histogram: HistogramBar[];
}

interface Wire {
  advice: Advice; strings: string[];
  frames: {
    module: number[]; build_id: number[]; offset: string[]; function: number[];
    file: number[]; line: number[];
  };
  sites: (Omit<Site, "function" | "file" | "why" | "kind" | "recommend" | "proof"> & {
    function: number; file: number; why: number; kind: number; recommend: number; proof: number;
  })[];
  listed: number; sites_total: number; leaks: number[]; temporaries: number[];
  blame: (Omit<Blame, "site"> & { site: number })[];
  flame: FlameColumns; size_histogram: HistogramBar[]; lifetime_histogram: HistogramBar[];
}

/** Puts strings and frames back in their places. */
export function unpack(json: string): Report {
  const wire = JSON.parse(json) as Wire;
  const text = (index: number) => wire.strings[index] ?? "";
  const { frames: f } = wire;
  const frames = f.line.map((line, i) => ({
    module: text(f.module[i]!), build_id: text(f.build_id[i]!), offset: f.offset[i]!,
    function: text(f.function[i]!), file: text(f.file[i]!), line,
  }));
  const pool: Site[] = wire.sites.map((site) => ({
    ...site, function: text(site.function), file: text(site.file), why: text(site.why),
    kind: text(site.kind), recommend: text(site.recommend), proof: text(site.proof),
  }));
  const pick = (indices: number[]) => indices.map((i) => pool[i]!);
  return {
    advice: wire.advice, frames, sites: pool.slice(0, wire.listed),
    sites_total: wire.sites_total, leaks: pick(wire.leaks),
    temporaries: pick(wire.temporaries),
    blame: wire.blame.map((b) => ({ ...b, site: pool[b.site]! })),
    flame: wire.flame, size_histogram: wire.size_histogram,
    lifetime_histogram: wire.lifetime_histogram,
  };
}
