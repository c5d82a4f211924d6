// What was recorded, what recording cost, where, and how far to trust it.
import type { Advice, ProcessInfo, Report } from "./data";
import { type Child, el, empty, figure, section } from "./dom";
import { bytes, count, percent, processName, prose, seconds } from "./format";
import { Table } from "./table";

const fact = (name: string, ...value: Child[]): HTMLElement =>
  el("div", { class: "fact" }, el("dt", {}, name), el("dd", {}, value));

function overheadText({ overhead }: Advice): Child {
  const { native_s, recorded_s, method } = overhead;
  if (!(native_s > 0)) return "not known";
  const times = recorded_s / native_s;
  return [el("span", { class: "figure strong", title: `${times}`, "data-key": "overhead" }, `${times.toFixed(2)}×`),
    el("span", { class: "under" }, figure(seconds(native_s)), " bare, ", figure(seconds(recorded_s)),
      " recorded", method ? `; ${method}` : "")];
}

function exitText(status: number | null): string {
  if (status === null) return "not known";
  return status > 128 ? `${status} (signal ${status - 128})` : String(status);
}

function processes(rows: ProcessInfo[]): HTMLElement | null {
  if (rows.length === 0) return null;
  return el("div", {}, el("h3", {}, "Processes"),
    el("p", { class: "lead" }, rows.length === 1 ? "One process was recorded."
      : "Every process has its own stream; this report is about the one marked."),
    new Table<ProcessInfo>({
      id: "processes-table", caption: "Processes", rows, sorted: null, pageRows: 10, together: true,
      columns: [
        { key: "exe", label: "Executable", text: true, wide: true, value: (p) => processName(p),
          cell: (p) => el("span", { title: p.exe }, el("code", {}, processName(p) || "–"),
            p.chosen ? el("span", { class: "chosen" }, "this report") : null) },
        { key: "pid", label: "Process id", value: (p) => p.pid, cell: (p) => el("span", { class: "figure" }, String(p.pid)) },
        { key: "events", label: "Events", value: (p) => p.events, cell: (p) => figure(count(p.events)) },
        { key: "share", label: "Share", value: (p) => p.share, cell: (p) => figure(percent(p.share)) },
      ],
    }).element);
}

/** The section. */
export function recordingSection({ advice }: Report): HTMLElement {
  const { recording: r, machine: m } = advice;
  const perEvent = r.events > 0 ? r.bytes / r.events : NaN;
  const lost = r.dropped > 0 ? "fact-warn" : "";
  const torn = r.events > 0 && r.stacks_complete < 0.95 ? "fact-warn" : "";
  const cpu = [m.cpu, m.cpus > 0 ? `${m.cpus} logical CPUs` : ""].filter(Boolean).join(", ");
  const notes = el("div", { id: "notes" }, el("h3", {}, "Notes"),
    advice.notes.length > 0 ? el("ul", { class: "notes" }, advice.notes.map((note) => el("li", {}, prose(note))))
      : empty("There are none."));
  const dropped = fact("Events lost", figure(count(r.dropped), "recording.dropped"));
  if (lost) dropped.classList.add(lost);
  const stacks = fact("Complete stacks", figure(percent(r.stacks_complete), "recording.stacks_complete"));
  if (torn) stacks.classList.add(torn);
  return section("recording", "The recording itself", "What was seen, what seeing it cost, and where.",
    r.events === 0 ? empty("The recording holds no events.") : el("dl", { class: "figures" },
      fact("Overhead in CPU time", overheadText(advice)),
      fact("Events", figure(count(r.events), "recording.events")),
      fact("Allocations", figure(count(r.allocs), "recording.allocs")),
      fact("Allocated in all", figure(bytes(r.allocated_bytes), "recording.allocated_bytes")),
      fact("Live at the peak", figure(bytes(r.peak_live_bytes), "recording.peak_live_bytes")),
      fact("Live at the end", figure(bytes(r.end_live_bytes), "recording.end_live_bytes")),
      dropped, stacks,
      fact("Duration", figure(seconds(r.duration_s), "recording.duration_s")),
      fact("Threads", figure(count(r.threads), "recording.threads")),
      fact("File", figure(bytes(r.bytes), "recording.bytes"), Number.isFinite(perEvent)
        ? el("span", { class: "under" }, `${perEvent.toFixed(2)} bytes an event`) : null),
      fact("Exit status", exitText(advice.exit_status))),
    el("div", { class: "two" },
      notes,
      el("div", {}, el("h3", {}, "Command and machine"),
        el("pre", { class: "command", tabindex: 0, "aria-label": "Command" }, advice.command.length > 0 ? advice.command.join(" ") : "left out"),
        el("dl", { class: "facts" }, [["CPU", cpu], ["Memory", m.memory_bytes > 0 ? bytes(m.memory_bytes).text : ""],
          ["Kernel", [m.kernel, m.architecture].filter(Boolean).join(", ")], ["C library", m.libc],
          ["Heapwright", advice.heapwright_version]]
          .filter(([, value]) => value).map(([name, value]) => [el("dt", {}, name), el("dd", {}, value)])))),
    processes(advice.processes));
}
