// A table that sorts on every column, searches, filters, opens rows and turns pages.
//
// Only one page of rows is in the document, so thousands cost nothing to show; sorting and
// searching work on the rows themselves. On a narrow page the style sheet turns rows into
// cards, for which each cell carries its column's name.
import { type Child, button, el } from "./dom";
import { count } from "./format";

export interface Column<T> {
  key: string;
  label: string;
  /** What the column means, on hover. */
  hint?: string;
  /** Sorted by this; texts sort upwards first, numbers downwards. */
  value: (row: T) => number | string | null;
  cell: (row: T) => Child;
  /** Share of the largest, drawn under the figure. */
  share?: (row: T) => number;
  text?: boolean;
  wide?: boolean;
}

export interface TableOptions<T> {
  id: string;
  caption: string;
  columns: Column<T>[];
  rows: T[];
  /** Column sorted at first; null keeps the order given. */
  sorted: string | null;
  pageRows?: number;
  /** From what was typed to the rows it means. */
  search?: (query: string) => (row: T) => boolean;
  searchLabel?: string;
  filter?: { label: string; of: (row: T) => string };
  detail?: (row: T) => Child;
  rowClass?: (row: T) => string;
  /** Few rows, read against each other: a narrow page scrolls them instead of making cards. */
  together?: boolean;
  /** A row that has only this to say after its first cell. */
  instead?: (row: T) => Child;
}

export class Table<T> {
  readonly element: HTMLElement;
  private shown: T[];
  private page = 0;
  private sortKey: string | null;
  private down = true;
  private query = "";
  private kind = "";
  private readonly open = new Set<T>();
  private readonly head = el("tr", { role: "row" });
  private readonly body = el("tbody", { role: "rowgroup" });
  private readonly pager = el("nav", { class: "pager" });
  private readonly found = el("p", { class: "found", role: "status" });
  private readonly sorter = el("select", { "aria-label": "Sort by" });
  private readonly pageRows: number;

  constructor(private readonly options: TableOptions<T>) {
    this.shown = options.rows;
    this.sortKey = options.sorted;
    this.pageRows = options.pageRows ?? 25;
    const table = el("table", { role: "table", id: options.id, "aria-label": options.caption },
      el("thead", { role: "rowgroup" }, this.head), this.body);
    this.element = el("div", { class: options.together ? "grid together" : "grid" }, this.toolbar(),
      el("div", { class: "scroll", role: "region", "aria-label": `${options.caption}, table`, tabindex: 0 }, table),
      this.pager);
    this.drawHead();
    this.update();
  }

  private toolbar(): HTMLElement | null {
    const { search, filter, rows, columns } = this.options;
    const bar = el("div", { class: "toolbar" });
    if (search) {
      const field = el("input", {
        type: "search", placeholder: this.options.searchLabel ?? "Search", spellcheck: "false",
        "aria-label": this.options.searchLabel ?? "Search", autocomplete: "off",
      });
      field.addEventListener("input", () => { this.query = field.value; this.restart(); });
      bar.append(field);
    }
    if (filter) {
      const counts = new Map<string, number>();
      for (const row of rows) counts.set(filter.of(row), (counts.get(filter.of(row)) ?? 0) + 1);
      if (counts.size > 1) {
        const group = el("div", { class: "chips", role: "group", "aria-label": filter.label });
        for (const [kind, n] of [...counts].sort((a, b) => b[1] - a[1])) {
          group.append(button([kind, el("span", { class: "chip-count" }, count(n).text)], (event) => {
            this.kind = this.kind === kind ? "" : kind;
            for (const chip of group.children) {
              chip.setAttribute("aria-pressed", String(this.kind !== "" && chip === event.currentTarget));
            }
            this.restart();
          }, { class: "chip", "aria-pressed": "false" }));
        }
        bar.append(group);
      }
    }
    if (!this.sortKey) this.sorter.append(el("option", { value: "" }, "as given"));
    for (const { key, label } of columns) this.sorter.append(el("option", { value: key }, label));
    this.sorter.addEventListener("change", () => {
      if (this.sorter.value) this.sortBy(this.sorter.value, true);
      else { this.sortKey = null; this.restart(); }
    });
    bar.append(el("label", { class: "sorter" }, "Sort by ", this.sorter), this.found);
    return bar;
  }

  private drawHead(): void {
    for (const column of this.options.columns) {
      const th = el("th", { scope: "col", role: "columnheader", class: this.cellClass(column),
        "data-key": column.key },
      button([el("span", {}, column.label), el("span", { class: "arrow", "aria-hidden": "true" })],
        () => this.sortBy(column.key), { title: column.hint }));
      this.head.append(th);
    }
  }

  private cellClass({ text, wide }: Column<T>): string {
    return [text ? "text" : "number", wide ? "wide" : ""].join(" ").trim();
  }

  /** Sorts by a column; the same again turns the order round. */
  private sortBy(key: string, fresh = false): void {
    const column = this.options.columns.find((c) => c.key === key)!;
    this.down = this.sortKey === key && !fresh ? !this.down : !column.text;
    this.sortKey = key;
    this.restart();
  }

  private restart(): void {
    this.page = 0;
    this.update();
  }

  /** Types a query as a reader would. */
  searchFor(query: string): void {
    const field = this.element.querySelector("input");
    if (field) field.value = query;
    this.query = query;
    this.restart();
  }

  private select(): void {
    const { rows, search, filter, columns } = this.options;
    const query = this.query.trim();
    const wanted = search && query ? search(query) : null;
    let shown = rows;
    if (wanted || this.kind) {
      shown = rows.filter((row) =>
        (!wanted || wanted(row)) && (!this.kind || filter!.of(row) === this.kind));
    }
    const column = columns.find((c) => c.key === this.sortKey);
    if (column) {
      const sign = this.down ? -1 : 1;
      const keyed = shown.map((row) => ({ row, value: column.value(row) }));
      keyed.sort(({ value: a }, { value: b }) => {
        const missing = Number(unknown(a)) - Number(unknown(b));
        if (missing !== 0 || unknown(a)) return missing;
        return sign * (typeof a === "string" || typeof b === "string"
          ? collator.compare(String(a), String(b)) : (a as number) - (b as number));
      });
      shown = keyed.map(({ row }) => row);
    }
    this.shown = shown;
  }

  private update(): void {
    this.select();
    for (const th of this.head.children) {
      const sorted = th.getAttribute("data-key") === this.sortKey;
      if (sorted) th.setAttribute("aria-sort", this.down ? "descending" : "ascending");
      else th.removeAttribute("aria-sort");
    }
    this.sorter.value = this.sortKey ?? "";
    this.drawRows();
    this.drawPager();
    const { rows } = this.options;
    this.found.textContent = this.shown.length === rows.length ? ""
      : `${count(this.shown.length).text} of ${count(rows.length).text}`;
  }

  private drawRows(): void {
    this.body.textContent = "";
    const from = this.page * this.pageRows;
    for (const row of this.shown.slice(from, from + this.pageRows)) this.drawRow(row);
    if (this.shown.length === 0) {
      this.body.append(el("tr", { role: "row", class: "nothing" }, el("td", { role: "cell",
        colspan: this.options.columns.length }, "Nothing matches.")));
    }
  }

  private drawRow(row: T): void {
    const { columns, detail, rowClass, instead } = this.options;
    const tr = el("tr", { role: "row", class: rowClass?.(row) });
    const other = instead?.(row);
    columns.forEach((column, i) => {
      if (other && i > 1) return;
      if (other && i === 1) {
        tr.append(el("td", { role: "cell", class: "text instead", colspan: columns.length - 1 }, other));
        return;
      }
      const attributes = { role: i === 0 ? "rowheader" : "cell", class: this.cellClass(column),
        "data-label": column.label };
      const td = i === 0 ? el("th", { ...attributes, scope: "row" }, column.cell(row))
        : el("td", attributes, column.cell(row));
      const share = column.share?.(row);
      if (share !== undefined && Number.isFinite(share)) {
        td.classList.add("shared");
        td.style.setProperty("--share", `${Math.max(0, Math.min(1, share)) * 100}%`);
      }
      tr.append(td);
    });
    this.body.append(tr);
    if (detail) this.makeOpenable(tr, row, detail);
  }

  private makeOpenable(tr: HTMLElement, row: T, detail: (row: T) => Child): void {
    tr.classList.add("openable");
    let below: HTMLElement | null = null;
    const toggle = button(null, () => flip(), { class: "opener", "aria-label": "Details" });
    tr.firstElementChild!.prepend(toggle);
    const show = (open: boolean) => {
      toggle.setAttribute("aria-expanded", String(open));
      tr.classList.toggle("is-open", open);
      if (!open) {
        below?.remove();
        below = null;
        return;
      }
      below = el("tr", { role: "row", class: "detail" },
        el("td", { role: "cell", colspan: this.options.columns.length }, detail(row)));
      tr.after(below);
    };
    const flip = () => {
      const open = !this.open.has(row);
      if (open) this.open.add(row);
      else this.open.delete(row);
      show(open);
    };
    tr.addEventListener("click", (event) => {
      const picked = getSelection()?.toString();
      if (!picked && !(event.target as Element).closest("button, a, input")) flip();
    });
    show(this.open.has(row));
  }

  private drawPager(): void {
    const pages = Math.ceil(this.shown.length / this.pageRows);
    this.pager.textContent = "";
    this.pager.hidden = pages < 2;
    if (pages < 2) return;
    this.pager.setAttribute("aria-label", `Pages of ${this.options.caption}`);
    const go = (label: string, page: number, off: boolean) => button(label, () => {
      this.page = page;
      this.update();
    }, { disabled: off, class: "quiet" });
    const from = this.page * this.pageRows;
    const to = Math.min(this.shown.length, from + this.pageRows);
    this.pager.append(go("First", 0, this.page === 0), go("Previous", this.page - 1, this.page === 0),
      el("span", { class: "figure" }, `${from + 1}–${to} of ${this.shown.length.toLocaleString("en")}`),
      go("Next", this.page + 1, this.page + 1 >= pages), go("Last", pages - 1, this.page + 1 >= pages));
  }
}

const collator = new Intl.Collator("en", { numeric: true });
const unknown = (v: number | string | null): boolean => v === null || (typeof v === "number" && Number.isNaN(v));
