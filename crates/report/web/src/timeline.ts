// Live against resident bytes over time: one line an allocator, the live bytes as ground.
import uPlot from "uplot";
import type { Report } from "./data";
import { button, choice, el, empty, section, token } from "./dom";
import { type Figure, bytes, count, percent, seconds } from "./format";
import { colourTokens, swatch } from "./palette";
import { onThemeChange } from "./theme";

type Axis = "time_s" | "events";
type Measure = "resident" | "external" | "internal" | "held";
interface Line { name: string; token: string; x: Record<Axis, number[]>; y: number[] }

/** Powers of two, so that the marks of a byte axis are round. */
const BINARY_STEPS = Array.from({ length: 50 }, (_, i) => 2 ** i);
const LIVE = "live";

/** The series of a measure; resident memory stands on the live bytes. */
function lines(report: Report, measure: Measure): Line[] {
  const { allocators, recording, fragmentation } = report.advice;
  if (measure === "held") {
    const points = fragmentation?.series ?? [];
    const x = { time_s: points.map((p) => p.time_s), events: points.map((p) => p.events) };
    return [
      { name: "free beside live blocks", token: "series-own", x, y: points.map((p) => p.pinned_bytes) },
      { name: "without live blocks", token: "series-system", x, y: points.map((p) => p.empty_bytes) },
      { name: "largest free piece", token: "series-1", x, y: points.map((p) => p.largest_free_bytes) },
    ];
  }
  const tokens = colourTokens(allocators);
  const all = allocators.filter((row) => row.timeline.length > 0).map((row) => ({
    name: row.name, token: tokens.get(row.name)!,
    x: { time_s: row.timeline.map((p) => p.time_s), events: row.timeline.map((p) => p.events) },
    y: row.timeline.map((p) => (measure === "resident" ? p.rss_kb * 1024 : p[measure as "external" | "internal"])),
  }));
  if (measure !== "resident" || recording.timeline.length === 0) return all;
  const points = recording.timeline;
  return [{
    name: LIVE, token: "series-live",
    x: { time_s: points.map((p) => p.time_s), events: points.map((p) => p.events) },
    y: points.map((p) => p.live_bytes),
  }, ...all];
}

/** Reads a line at every x of the union, straight between its points, nothing outside them. */
function sample(x: number[], y: number[], grid: Float64Array): (number | null)[] {
  let right = 0;
  return Array.from(grid, (at) => {
    while (right < x.length && x[right]! < at) right++;
    if (right === x.length || (right === 0 && x[0]! > at)) return null;
    if (x[right] === at || right === 0) return y[right]!;
    const left = right - 1;
    const part = (at - x[left]!) / (x[right]! - x[left]! || 1);
    return y[left]! + part * (y[right]! - y[left]!);
  });
}

function aligned(series: Line[], axis: Axis): uPlot.AlignedData {
  const grid = Float64Array.from(new Set(series.flatMap((line) => line.x[axis]))).sort();
  return [Array.from(grid), ...series.map((line) => sample(line.x[axis], line.y, grid))];
}

const showX = (axis: Axis, x: number): Figure => (axis === "time_s" ? seconds(x) : count(x, "events"));
const isBytes = (measure: Measure): boolean => measure === "resident" || measure === "held";
const showY = (measure: Measure, y: number | null | undefined): Figure =>
  (isBytes(measure) ? bytes(y === null || y === undefined ? y : Math.round(y)) : percent(y));

/** The section. */
export function timelineSection(report: Report): HTMLElement {
  const title = "Live against resident memory";
  const lead = "What the program held, and what each allocator kept from the system to hold it.";
  if (lines(report, "resident").length === 0) {
    return section("timeline", title, null, empty("No series was recorded, so there is nothing to draw."));
  }
  const chart = new Timeline(report);
  return section("timeline", title, lead, chart.element);
}

class Timeline {
  readonly element: HTMLElement;
  private readonly stage = el("div", {
    class: "chart-stage", id: "chart", tabindex: 0, role: "application",
    "aria-roledescription": "line chart", "aria-describedby": "chart-help",
  });
  private readonly legend = el("div", { class: "legend" });
  private readonly spoken = el("p", { class: "unseen", role: "status" });
  private readonly back = button("Show all", () => this.build(), { class: "quiet", hidden: true });
  private axis: Axis = "time_s";
  private measure: Measure = "resident";
  private series: Line[] = [];
  private readonly hidden = new Set<string>();
  private values: HTMLElement[] = [];
  private where = el("p", { class: "legend-where" });
  private plot: uPlot | null = null;

  constructor(private readonly report: Report) {
    const anyTime = report.advice.recording.timeline.some((p) => p.time_s > 0)
      || report.advice.allocators.some((row) => row.timeline.some((p) => p.time_s > 0));
    if (!anyTime) this.axis = "events";
    this.element = el("div", { class: "chart" },
      el("div", { class: "toolbar" },
        choice<Measure>("Measure", [["resident", "Memory"], ["external", "External fragmentation"],
          ["internal", "Internal"], ...this.held()], this.measure, (value) => { this.measure = value; this.build(); }),
        choice<Axis>("Horizontal axis", [["time_s", "Time"], ["events", "Events"]], this.axis,
          (value) => { this.axis = value; this.build(); }),
        this.back),
      el("p", { class: "unseen", id: "chart-help" },
        "Left and right arrows move the cursor; Home and End go to the ends; drag across to zoom, ",
        "double-click to show all."),
      el("div", { class: "chart-body" }, this.stage, this.legend), this.spoken);
    this.stage.addEventListener("keydown", (event) => this.key(event));
    this.stage.addEventListener("blur", () => this.plot?.setCursor({ left: -10, top: -10 }));
    onThemeChange(() => this.plot && this.build());
    let width = 0;
    new ResizeObserver(() => {
      if (this.stage.clientWidth === width) return;
      width = this.stage.clientWidth;
      if (this.plot) this.plot.setSize(this.size());
      else this.build();
    }).observe(this.stage);
  }

  /** Free memory over time is known of one allocator, where stock was taken. */
  private held(): [Measure, string][] {
    const points = this.report.advice.fragmentation?.series.length ?? 0;
    return points > 1 ? [["held", "Free memory"]] : [];
  }

  private size() {
    const width = Math.max(200, this.stage.clientWidth);
    return { width, height: Math.round(Math.min(460, Math.max(240, width * 0.4))) };
  }

  private build(): void {
    if (this.stage.clientWidth === 0) return;
    this.plot?.destroy();
    this.back.hidden = true;
    this.series = lines(this.report, this.measure);
    this.drawLegend();
    const data = aligned(this.series, this.axis);
    const ink = token("ink-soft");
    const rule = token("rule");
    const font = `12px ${token("sans")}`;
    const axisStyle = { stroke: ink, font, grid: { stroke: rule, width: 1 }, ticks: { show: false } };
    const narrow = this.stage.clientWidth < 480;
    this.plot = new uPlot({
      ...this.size(),
      padding: [12, 8, 0, 0],
      legend: { show: false },
      scales: {
        x: { time: false },
        y: { range: (_, __, max) => [0, isBytes(this.measure) ? max * 1.06 || 1 : Math.min(1, max * 1.1 || 1)] },
      },
      axes: [
        { ...axisStyle, grid: { show: false }, space: narrow ? 64 : 90, gap: 6, size: 34,
          values: (_, marks) => marks.map((x) => this.mark(x)) },
        { ...axisStyle, size: narrow ? 56 : 66, gap: 6, space: 44,
          ...(isBytes(this.measure) ? { incrs: BINARY_STEPS } : {}),
          values: (_, marks) => marks.map((y) => (isBytes(this.measure) ? bytes(y, true).text
            : `${Math.round(y * 1000) / 10}\u00a0%`)) },
      ],
      cursor: {
        drag: { x: true, y: false, dist: 8 },
        points: { size: 7, width: 1.5, fill: () => token("paper"), stroke: (_, i) => this.colour(i) },
      },
      series: [{}, ...this.series.map((line) => this.style(line))],
      hooks: {
        setCursor: [(plot) => this.read(plot.cursor.idx)],
        setScale: [(plot, key) => {
          if (key !== "x" || !plot.data[0]) return;
          const xs = plot.data[0];
          const { min, max } = plot.scales.x!;
          this.back.hidden = min === xs[0] && max === xs[xs.length - 1];
        }],
      },
    }, data, this.stage);
    this.stage.setAttribute("aria-label", this.summary());
    this.read(null);
  }

  private mark(x: number): string {
    if (this.axis === "events") return count(x).text.replace(/\.0+(?=\u00a0)/, "").replace(/(\.\d*[1-9])0+(?=\u00a0)/, "$1");
    if (x === 0) return "0\u00a0s";
    return x >= 600 ? `${Math.round(x / 6) / 10}\u00a0min` : x < 1 ? `${Number((x * 1000).toPrecision(4))}\u00a0ms`
      : `${Number(x.toPrecision(4))}\u00a0s`;
  }

  private colour(index: number): string {
    return token(this.series[index - 1]?.token ?? "ink");
  }

  private style(line: Line): uPlot.Series {
    const shared = { label: line.name, show: !this.hidden.has(line.name), spanGaps: true, points: { show: false } };
    if (line.name === LIVE && line.token === "series-live") {
      return { ...shared, stroke: token("series-live"), width: 1.25, fill: token("series-live-fill") };
    }
    const heavy = line.token === "series-own" || line.name === this.report.advice.verdict.allocator;
    return { ...shared, stroke: token(line.token), width: heavy ? 2.25 : 1.5 };
  }

  /** The legend names the lines, switches them, and reads them out under the cursor. */
  private drawLegend(): void {
    this.values = [];
    this.legend.textContent = "";
    this.legend.append(this.where);
    this.series.forEach((line, i) => {
      const value = el("span", { class: "legend-value figure" });
      this.values.push(value);
      const item = button([swatch(line.token), el("span", { class: "legend-name" },
        line.token === "series-live" ? "live, requested" : line.name), value], () => {
        const show = this.hidden.has(line.name);
        if (show) this.hidden.delete(line.name);
        else this.hidden.add(line.name);
        item.setAttribute("aria-pressed", String(show));
        this.plot?.setSeries(i + 1, { show });
      }, { class: "legend-item", "aria-pressed": String(!this.hidden.has(line.name)),
        title: "Show or hide this line" });
      this.legend.append(item);
    });
  }

  /** Values at a point, or each line's highest when the cursor is elsewhere. */
  private read(index: number | null | undefined): void {
    const data = this.plot?.data;
    const at = index === null || index === undefined ? null : data?.[0]?.[index];
    this.where.textContent = at === null || at === undefined
      ? "Highest" : `At ${showX(this.axis, at).text}${this.axis === "events" ? " events" : ""}`;
    this.series.forEach((line, i) => {
      const y = at === null || at === undefined
        ? line.y.reduce((a, b) => Math.max(a, b), 0) : data?.[i + 1]?.[index!];
      const shown = showY(this.measure, y);
      this.values[i]!.textContent = shown.text;
      this.values[i]!.title = shown.exact;
    });
  }

  private key(event: KeyboardEvent): void {
    const { plot } = this;
    const xs = plot?.data[0];
    if (!plot || !xs || xs.length === 0) return;
    const now = plot.cursor.idx ?? -1;
    const step = Math.max(1, Math.round(xs.length / (event.shiftKey ? 20 : 100)));
    const to = event.key === "ArrowRight" ? now + step : event.key === "ArrowLeft" ? now - step
      : event.key === "Home" ? 0 : event.key === "End" ? xs.length - 1 : null;
    if (to === null) return;
    event.preventDefault();
    const index = Math.min(xs.length - 1, Math.max(0, to));
    plot.setCursor({ left: plot.valToPos(xs[index]!, "x"), top: plot.over.clientHeight / 2 });
    this.spoken.textContent = `${this.where.textContent}: ` + this.series
      .map((line, i) => `${line.name} ${this.values[i]!.textContent}`).join(", ");
  }

  private summary(): string {
    const highest = this.series.map((line) =>
      `${line.name} ${showY(this.measure, line.y.reduce((a, b) => Math.max(a, b), 0)).text}`);
    return `Chart. Highest values: ${highest.join(", ")}.`;
  }
}
