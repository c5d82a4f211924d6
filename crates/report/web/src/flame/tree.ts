// The flame graph's tree: values per measure, children in order, and the tree turned over.
//
// Columns instead of objects: 50,000 nodes are a few typed arrays.
import type { FlameColumns } from "../data";

export type Measure = "bytes" | "count" | "peak" | "temporary";

/** A tree with one value a node (inclusive); node 0 is the root, parents come first. */
export interface Tree {
  names: string[];
  name: Uint32Array;
  parent: Uint32Array;
  value: Float64Array;
  /** Children of `n`: `order[start[n] .. start[n + 1]]`, largest first. */
  start: Uint32Array;
  order: Uint32Array;
}

function linked(names: string[], name: Uint32Array, parent: Uint32Array, value: Float64Array): Tree {
  const n = value.length;
  const start = new Uint32Array(n + 1);
  for (let i = 1; i < n; i++) start[parent[i]! + 1]!++;
  for (let i = 0; i < n; i++) start[i + 1]! += start[i]!;
  const next = start.slice();
  const order = new Uint32Array(Math.max(0, n - 1));
  for (let i = 1; i < n; i++) order[next[parent[i]!]!++] = i;
  for (let i = 0; i < n; i++) {
    const from = start[i]!;
    const to = start[i + 1]!;
    if (to - from > 1) order.subarray(from, to).sort((a, b) => value[b]! - value[a]! || a - b);
  }
  return { names, name, parent, value, start, order };
}

/** The tree as recorded, callers above callees. */
export function topDown(columns: FlameColumns, measure: Measure): Tree {
  return linked(columns.names, Uint32Array.from(columns.name), Uint32Array.from(columns.parent),
    Float64Array.from(columns[measure]));
}

/** A node's value without its children's. */
export function ownValue(tree: Tree, node: number): number {
  let own = tree.value[node]!;
  for (let i = tree.start[node]!; i < tree.start[node + 1]!; i++) own -= tree.value[tree.order[i]!]!;
  return Math.max(0, own);
}

/** Share of the whole below which a leaf is not worth a path of its own when turned over. */
const TURNED_SHARE_MIN = 1e-6;
const TURNED_NODES_MAX = 400_000;

/** Callees above callers: each function that allocates, then who called it. */
export function bottomUp(tree: Tree): Tree {
  const total = tree.value[0] ?? 0;
  const names = tree.names.length;
  const name = [tree.name[0] ?? 0];
  const parent = [0];
  const value = [0];
  const child = new Map<number, number>();
  for (let leaf = 1; leaf < tree.value.length; leaf++) {
    const own = ownValue(tree, leaf);
    value[0]! += own; // The whole stays the whole, whatever is left out of it.
    if (own <= total * TURNED_SHARE_MIN) continue;
    let at = 0;
    for (let frame = leaf; frame !== 0; frame = tree.parent[frame]!) {
      const key = at * names + tree.name[frame]!;
      let next = child.get(key);
      if (next === undefined) {
        if (value.length >= TURNED_NODES_MAX) break;
        next = value.length;
        name.push(tree.name[frame]!);
        parent.push(at);
        value.push(0);
        child.set(key, next);
      }
      value[next]! += own;
      at = next;
    }
  }
  return linked(tree.names, Uint32Array.from(name), Uint32Array.from(parent), Float64Array.from(value));
}

/** From the root to `node`. */
export function path(tree: Tree, node: number): number[] {
  const nodes = [node];
  while (nodes[0] !== 0) nodes.unshift(tree.parent[nodes[0]!]!);
  return nodes;
}

/** Share of the root's value in nodes that match, each block counted once. */
export function matchedShare(tree: Tree, matches: Uint8Array): number {
  const inside = new Uint8Array(tree.value.length);
  let sum = 0;
  for (let i = 0; i < tree.value.length; i++) {
    const above = i > 0 && inside[tree.parent[i]!] === 1;
    const own = matches[tree.name[i]!] === 1;
    inside[i] = above || own ? 1 : 0;
    if (own && !above) sum += tree.value[i]!;
  }
  return tree.value[0]! > 0 ? sum / tree.value[0]! : 0;
}
