// Unpacks the data and draws the report, top to bottom in the order a reader asks.
import { allocatorsSection } from "./allocators";
import { blameSection } from "./blame";
import { unpack } from "./data";
import { el } from "./dom";
import { flameSection } from "./flame/section";
import { histogramsSection } from "./histogram";
import { inflate } from "./inflate";
import { masthead, subject } from "./masthead";
import { recordingSection } from "./recording";
import type { SiteContext } from "./site_cells";
import { leaksSection, sitesSection, temporariesSection } from "./sites";
import { timelineSection } from "./timeline";
import { verdictSection } from "./verdict";

async function draw(page: HTMLElement): Promise<void> {
  const holder = document.getElementById("report-data")!;
  const report = unpack(await inflate(holder.textContent ?? ""));
  holder.textContent = "";
  const { advice } = report;
  const flame = flameSection(report.flame);
  const context: SiteContext = { frames: report.frames, showInFlame: flame.search };
  const name = subject(advice);
  document.title = name ? `${name.slice(0, 80)} – Heapwright` : "Heapwright report";
  const sections = [
    verdictSection(advice), timelineSection(report), allocatorsSection(report),
    sitesSection(report, context), flame.element, histogramsSection(report),
    temporariesSection(report, context), leaksSection(report, context),
    blameSection(report, context), recordingSection(report),
  ].filter((s): s is HTMLElement => s !== null);
  page.append(
    el("a", { class: "skip", href: "#verdict" }, "Skip to the verdict"),
    masthead(advice, sections), el("main", {}, sections),
    el("footer", { class: "colophon" },
      `${["Heapwright", advice.heapwright_version].filter(Boolean).join(" ")}. This file holds everything it shows and asks the network for nothing.`));
  if (location.hash.length > 1) document.getElementById(location.hash.slice(1))?.scrollIntoView();
}

const page = document.getElementById("page")!;
draw(page).then(
  // The load time, for the tests and the curious.
  () => { document.documentElement.dataset.ready = String(Math.round(performance.now())); },
  (error: unknown) => {
    page.append(el("p", { class: "noscript", role: "alert" },
      `This report's data could not be read (${String(error)}). The file may be cut short; `
      + "write it again with heapwright report."));
    document.documentElement.dataset.failed = "true";
    console.error(error);
  },
);
