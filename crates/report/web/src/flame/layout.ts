// Which boxes of a flame graph are to be drawn, and where, for one focus and one width.
import { type Tree, path } from "./tree";

/** A box in units of rows and of the width, 0 to 1. */
export interface Box { node: number; row: number; left: number; width: number }

/** Boxes narrower than this many pixels are left out, with all that stands on them. */
const BOX_PX_MIN = 0.6;

/** Boxes with `focus` over the whole width and its callers above it, rows in order. */
export function layout(tree: Tree, focus: number, widthPx: number): Box[] {
  if (tree.value.length === 0) return [];
  const above = path(tree, focus);
  const boxes: Box[] = above.map((node, row) => ({ node, row, left: 0, width: 1 }));
  const whole = tree.value[focus]!;
  if (!(whole > 0)) return boxes;
  // Breadth first: `boxes` is its own queue, starting at the focus.
  for (let i = above.length - 1; i < boxes.length; i++) {
    const { node, row, left, width } = boxes[i]!;
    let at = left;
    for (let c = tree.start[node]!; c < tree.start[node + 1]!; c++) {
      const kid = tree.order[c]!;
      const share = tree.value[kid]! / whole;
      if (share * widthPx < BOX_PX_MIN) break; // The rest are no wider.
      // Columns that do not add up must not run out of their parent.
      const room = Math.min(share, left + width - at);
      if (room <= 0) break;
      boxes.push({ node: kid, row: row + 1, left: at, width: room });
      at += room;
    }
  }
  return boxes;
}
