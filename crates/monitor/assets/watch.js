// Draws what /look.json says, twice a second. Everything from outside goes in as text.
"use strict";
const KEPT = 240;
const MAP_COLUMNS = 160;
const byId = (id) => document.getElementById(id);
const select = byId("process");
let series = [];
let shown = "";

const size = (bytes) => {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let value = bytes;
  let unit = 0;
  while (Math.abs(value) >= 1024 && unit + 1 < units.length) { value /= 1024; unit += 1; }
  return `${unit === 0 ? Math.round(value) : value.toFixed(1)} ${units[unit]}`;
};

const element = (name, text, attributes = {}) => {
  const made = document.createElement(name);
  if (text !== undefined) made.textContent = text;
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
};

const drawn = (name, attributes) => {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
};

const rows = (id, cells) => {
  const lines = cells.map((line) => {
    const row = element("tr");
    row.append(...line.map((cell) => (cell instanceof Node ? cell : element("td", cell))));
    return row;
  });
  byId(id).querySelector("tbody").replaceChildren(...lines);
};

const figure = (key, name, text, exact) => {
  const box = element("div", undefined, { class: "fact" });
  const value = element("dd", text, { "data-key": key, title: String(exact) });
  box.append(element("dt", name), value);
  return box;
};

const curve = () => {
  const picture = byId("curve");
  const width = KEPT - 1;
  const most = Math.max(1, ...series.map((look) => look.resident));
  picture.setAttribute("viewBox", `0 0 ${width} 100`);
  const offset = KEPT - series.length;
  const points = (key) =>
    series.map((look, index) => `${index + offset},${(99 - (look[key] / most) * 96).toFixed(2)}`);
  const live = points("live");
  const area = [`${offset},100`, ...live, `${width},100`];
  picture.replaceChildren(
    drawn("polygon", { class: "live", points: area.join(" ") }),
    drawn("polyline", { class: "resident", points: points("resident").join(" ") }),
  );
};

const map = (cells) => {
  const picture = byId("map");
  const columns = Math.min(MAP_COLUMNS, Math.max(1, cells.length));
  const step = Math.max(1, Math.ceil(cells.length / (columns * 40)));
  const squares = [];
  let place = 0;
  for (let index = 0; index < cells.length; index += step, place += 1) {
    const cell = cells[index];
    const kind = cell === "#" ? "large" : cell === "_" ? "free" : cell === "." ? "back" : "small";
    const attributes = { class: kind, x: place % columns, y: Math.floor(place / columns), width: 0.9, height: 0.9 };
    if (kind === "small") attributes["fill-opacity"] = 0.15 + (0.85 * Number(cell)) / 9;
    squares.push(drawn("rect", attributes));
  }
  picture.setAttribute("viewBox", `0 0 ${columns} ${Math.max(1, Math.ceil(place / columns))}`);
  picture.replaceChildren(...squares);
};

const draw = (look) => {
  byId("now").textContent = `${look.name}: ${size(look.live)} live in ${size(look.resident)}`;
  byId("reading").textContent = look.reading;
  byId("age").textContent = look.age_s > 2 ? `idle for ${look.age_s.toFixed(0)} s` : `process ${look.pid}`;
  const list = [
    figure("live", "live", size(look.live), look.live),
    figure("resident", "resident", size(look.resident), look.resident),
    figure("resident_over_live", "the allocator's, over live", look.resident_over_live.toFixed(2), look.resident_over_live),
    figure("retained", "retained", size(look.retained), look.retained),
    figure("fragmentation", "external fragmentation", `${(look.external_fragmentation * 100).toFixed(0)} %`, look.external_fragmentation),
    figure("largest_free", "largest free", size(look.largest_free), look.largest_free),
    figure("rate", "allocates", `${size(look.rates.allocated_bytes)}/s`, look.rates.allocated_bytes),
    figure("purged", "given back", size(look.purged), look.purged),
    figure("merged_pages", "pages merged", String(look.merged_pages), look.merged_pages),
    figure("threads", "threads", String(look.threads), look.threads),
  ];
  if (look.headroom !== null) list.push(figure("headroom", "under the limit", size(look.headroom), look.headroom));
  byId("figures").replaceChildren(...list);
  const parts = Object.entries(look.residence).filter(([name]) => name !== "total");
  rows("parts", parts.map(([name, bytes]) => {
    const share = bytes / Math.max(1, look.resident);
    const bar = element("td");
    bar.append(element("meter", undefined, { value: share, min: 0, max: 1 }));
    return [name.replaceAll("_", " "), size(bytes), `${(share * 100).toFixed(1)} %`, bar];
  }));
  rows("classes", look.classes.slice(0, 24).map((one) => [String(one.slot_bytes), size(one.span_bytes), size(one.used_bytes), size(one.free_bytes)]));
  rows("heaps", look.heaps.slice(0, 24).map((one) => [one.name !== "" ? one.name : one.kind === "shared" ? "of no thread" : `${one.kind} ${one.number.toString(16)}`, size(one.span_bytes), size(one.used_bytes + one.large_bytes)]));
  series.push({ live: look.live, resident: look.resident });
  series = series.slice(-KEPT);
  curve();
  map(look.map);
  document.documentElement.dataset.looks = String(Number(document.documentElement.dataset.looks ?? 0) + 1);
};

const list = async () => {
  const answer = await fetch("/processes.json");
  const processes = await answer.json();
  const known = [...select.options].map((option) => option.value).join();
  if (known !== processes.map((one) => String(one.pid)).join()) {
    const before = select.value;
    select.replaceChildren(...processes.map((one) => element("option", `${one.name} (${one.pid})`, { value: one.pid })));
    if (processes.some((one) => String(one.pid) === before)) select.value = before;
  }
  return processes.length;
};

const turn = async () => {
  try {
    if ((await list()) === 0) {
      byId("now").textContent = "No process is watched";
      byId("reading").textContent = "Start one with: heapwright run --watch -- CMD";
      return;
    }
    if (shown !== select.value) { shown = select.value; series = []; }
    const answer = await fetch(`/look.json?process=${encodeURIComponent(shown)}`);
    if (answer.ok) draw(await answer.json());
    else byId("reading").textContent = await answer.text();
  } catch {
    byId("reading").textContent = "heapwright serve has ended";
  } finally {
    setTimeout(turn, 500);
  }
};
turn();
