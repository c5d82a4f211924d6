// The strip at the top: whose report this is, the way to each section, colours.
import type { Advice } from "./data";
import { el, svg } from "./dom";
import { fileName, processName } from "./format";
import { themeButton } from "./theme";

const SHORT: Record<string, string> = {
  verdict: "Verdict", timeline: "Memory", allocators: "Allocators", sites: "Call sites",
  flame: "Flame graph", histograms: "Sizes", temporaries: "Temporaries", leaks: "Leaks",
  blame: "Fragmentation", recording: "Recording",
};

/** What the report is about, short: the program's name and its first words. */
export function subject({ command, processes }: Advice): string {
  const [program, ...words] = command;
  if (program) return [fileName(program), ...words].join(" ");
  const chosen = processes.find((p) => p.chosen);
  return chosen ? processName(chosen) : "";
}

/** The strip; marks the section being read. */
export function masthead(advice: Advice, sections: HTMLElement[]): HTMLElement {
  const links = new Map(sections.map((s) => [s.id, el("a", { href: `#${s.id}` }, SHORT[s.id] ?? s.id)]));
  const list = el("nav", { class: "ways", "aria-label": "Sections" }, [...links.values()]);
  const seen = new Set<string>();
  const watch = new IntersectionObserver((entries) => {
    for (const { target, isIntersecting } of entries) {
      if (isIntersecting) seen.add(target.id);
      else seen.delete(target.id);
    }
    const current = (scrollY < 80 ? sections[0] : sections.find((s) => seen.has(s.id)))?.id;
    for (const [id, link] of links) {
      if (id !== current) link.removeAttribute("aria-current");
      else if (!link.hasAttribute("aria-current")) {
        link.setAttribute("aria-current", "true");
        // Only the strip scrolls; scrollIntoView would take the page along.
        list.scrollLeft = link.offsetLeft - list.clientWidth / 2 + link.offsetWidth / 2;
      }
    }
  }, { rootMargin: "-20% 0px -60% 0px" });
  sections.forEach((s) => watch.observe(s));
  const name = subject(advice);
  return el("header", { class: "masthead" },
    el("a", { class: "mark", href: "#verdict", "aria-label": "Heapwright report" },
      svg("svg", { viewBox: "0 0 20 20", "aria-hidden": "true" },
        svg("path", { class: "mark-a", d: "M2 3h7v4H2zM11 3h7v4h-7z" }),
        svg("path", { class: "mark-b", d: "M2 8.5h11v4H2z" }),
        svg("path", { class: "mark-a", d: "M2 14h4v4H2zM8 14h10v4H8z" }),
        svg("path", { class: "mark-c", d: "M15 8.5h3v4h-3z" })), "heapwright"),
    list, themeButton(), name ? el("code", { class: "subject", title: advice.command.join(" ") }, name) : null);
}
