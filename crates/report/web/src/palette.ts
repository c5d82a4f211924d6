// One colour per allocator, the same in every section.
import type { AllocatorRow } from "./data";
import { el } from "./dom";

/** Token of each allocator's colour: the system's is ink grey, ours copper, others by turn. */
export function colourTokens(rows: AllocatorRow[]): Map<string, string> {
  const tokens = new Map<string, string>();
  let turn = 0;
  for (const { name } of rows) {
    if (name === "system") tokens.set(name, "series-system");
    else if (name === "heapwright") tokens.set(name, "series-own");
    else tokens.set(name, `series-${(turn++ % 6) + 1}`);
  }
  return tokens;
}

/** The little mark that stands for an allocator. */
export const swatch = (token: string | undefined): HTMLElement =>
  el("span", { class: `swatch ${token ?? ""}`, "aria-hidden": "true" });

/** The system's row: the one called so, or the first, which the schema makes it. */
export const systemRow = (rows: AllocatorRow[]): AllocatorRow | undefined =>
  rows.find((row) => row.name === "system") ?? rows[0];

/** What a reader calls an allocator. */
export const allocatorName = (name: string): string =>
  name === "system" ? "the system’s allocator" : name;
