// Drawing boxes on a canvas.
import { token } from "../dom";
import type { Box } from "./layout";
import type { Tree } from "./tree";

export const ROW_PX = 21;
const TEXT_PX_MIN = 34;

/** Colours and fonts of the theme in force, read once a drawing. */
export interface Ink {
  font: string; text: string; paper: string; fills: string[]; dim: string; dimText: string;
  match: string; matchText: string; ring: string; root: string;
}

export function ink(): Ink {
  return {
    font: `12px ${token("sans")}`, text: token("flame-text"), paper: token("paper"),
    fills: [1, 2, 3, 4, 5, 6].map((i) => token(`flame-${i}`)), dim: token("flame-dim"),
    dimText: token("ink-soft"), match: token("flame-match"), matchText: token("flame-match-text"),
    ring: token("focus"), root: token("flame-root"),
  };
}

/** Functions of one crate, class or library share a colour. */
function family(name: string): string {
  const cut = name.search(/::|<|\(|\./);
  return cut > 0 ? name.slice(0, cut) : name;
}

/** For each name the number of its colour. */
export function colourOf(names: string[], fills: number): Uint8Array {
  return Uint8Array.from(names, (name) => {
    let hash = 2166136261;
    for (const c of family(name)) hash = Math.imul(hash ^ c.codePointAt(0)!, 16777619);
    return (hash >>> 8) % fills;
  });
}

/** The longest beginning of a name that fits, in a font where letters average `unit` wide. */
function fitted(pen: CanvasRenderingContext2D, name: string, room: number, unit: number): string {
  if (name.length * unit < room * 0.8 || pen.measureText(name.slice(0, 400)).width <= room) return name;
  let keep = Math.min(name.length, Math.floor(room / unit));
  while (keep > 0 && pen.measureText(`${name.slice(0, keep)}…`).width > room) keep--;
  return keep > 1 ? `${name.slice(0, keep)}…` : "";
}

export interface Scene {
  tree: Tree; boxes: Box[]; focus: number; selected: number; hovered: number;
  /** Per name, whether the search means it; null without a search. */
  matches: Uint8Array | null;
  colours: Uint8Array; rootName: string; focusRow: number; hasKeys: boolean;
}

/** Draws the rows that show between `top` and `top + height`. */
export function paint(
  pen: CanvasRenderingContext2D, scene: Scene, look: Ink, width: number, height: number, top: number,
): void {
  pen.clearRect(0, 0, width, height);
  pen.font = look.font;
  pen.textBaseline = "middle";
  const unit = pen.measureText("abcdefghijklmnopqrstuvwxyz_:").width / 28;
  let ring: Box | null = null;
  for (const box of scene.boxes) {
    const y = box.row * ROW_PX - top;
    if (y + ROW_PX < 0) continue;
    if (y > height) break; // Rows are in order.
    const x = box.left * width;
    const w = box.width * width;
    const name = box.node === 0 ? scene.rootName : scene.tree.names[scene.tree.name[box.node]!] ?? "";
    const hit = scene.matches !== null && box.node !== 0 && scene.matches[scene.tree.name[box.node]!] === 1;
    const faint = scene.matches !== null ? !hit : false;
    const gap = w > 3 ? 1 : 0;
    pen.globalAlpha = box.row < scene.focusRow ? 0.62 : 1;
    pen.fillStyle = box.node === 0 ? look.root : hit ? look.match : faint ? look.dim
      : look.fills[scene.colours[scene.tree.name[box.node]!]!]!;
    pen.fillRect(x, y, w - gap, ROW_PX - 1);
    if (box.node === scene.hovered) {
      pen.globalAlpha = 0.14;
      pen.fillStyle = look.text;
      pen.fillRect(x, y, w - gap, ROW_PX - 1);
      pen.globalAlpha = 1;
    }
    if (w >= TEXT_PX_MIN) {
      const shown = fitted(pen, name, w - 10, unit);
      pen.fillStyle = hit ? look.matchText : faint && box.node !== 0 ? look.dimText : look.text;
      if (shown) pen.fillText(shown, x + 5, y + ROW_PX / 2);
    }
    pen.globalAlpha = 1;
    if (box.node === scene.selected && scene.hasKeys) ring = box;
  }
  if (ring) {
    pen.strokeStyle = look.ring;
    pen.lineWidth = 2;
    pen.strokeRect(ring.left * width + 1, ring.row * ROW_PX - top + 1,
      Math.max(3, ring.width * width - 3), ROW_PX - 3);
  }
}
