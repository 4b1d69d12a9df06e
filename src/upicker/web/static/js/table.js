/**
 * The list of micrographs with counts, mean scores, F1 and what upicker triage says: sorted, searched, and drawn only
 * where it is seen, so that ten thousand of them cost no more than ten.
 *
 *   const table = new Table(element, {onOpen})     onOpen(id)
 *   table.use(micrographs, hasLabels)              [{id, name, triage}…]
 *   table.count({counts, why, means?, f1s?})       response of /api/picks/counts; sorted anew only where means are there
 *   table.current = id
 *   table.next(id, step)                           id of the next one as the table is sorted, or null
 */

import { shortener } from "./names.js";
import { Thumbnails } from "./thumbnails.js";
import { h, later } from "./ui.js";

const ROW = 56; // css px, as in inspect.css
const SPARE = 6; // rows drawn beyond what is seen
const REST = 120; // ms that the list stands still before thumbnails are fetched
/**
 * A row of the table; null: not known, or not there.
 * @typedef {{id: number, name: string, count: number | null, mean: number | null, f1: number | null, why: string | null, triage: MicrographItem["triage"], usable: number | null}} Item
 *
 * @typedef {"name" | "count" | "mean" | "f1" | "usable"} Column
 *
 * The elements of a row.
 * @typedef {{element: HTMLElement, image: HTMLImageElement, name: HTMLElement, why: HTMLElement, count: HTMLElement, mean: HTMLElement, f1: HTMLElement, usable: HTMLElement}} Line
 */

/** @type {Record<string, string>} */
const WHY = { empty: "no picks", few: "very few", many: "very many", unread: "not picked" };
/** @type {[Column, string, number][]} */
const COLUMNS = [["name", "Name", 1], ["count", "Picks", -1], ["mean", "Score", -1], ["f1", "F1", 1], ["usable", "Usable", 1]];
/** @type {Record<string, string>} */
const SIGNS = { many: "▲", few: "▼" };
const natural = new Intl.Collator("en", { numeric: true });

export class Table {
  #onOpen;
  /** @type {Item[]} */
  #items = [];
  /** @type {Item[]} */
  #shown = []; // of them, in the order of the list
  /** @type {{key: Column, way: number}} */
  #sort = { key: "name", way: 1 };
  /** @type {Map<number, Line>} by id */
  #lines = new Map();
  /** @type {number | null} */
  #current = null;
  /** @type {(name: string) => string} */
  #short = (name) => name;
  hasLabels = false;
  hasTriage = false;
  #thumbnails;
  #parts;

  /**
   * @param {HTMLElement} element
   * @param {{onOpen: (id: number) => void}} hooks
   */
  constructor(element, { onOpen }) {
    this.#onOpen = onOpen;
    /** @type {Record<string, HTMLButtonElement>} */
    const heads = Object.fromEntries(COLUMNS.map(([key, text]) => [key, h("button", {
      type: "button", class: key === "name" ? "" : "number", onclick: () => this.#sortBy(key), title: `Sort by ${text.toLowerCase()}`,
    }, text)]));
    this.#parts = {
      heads,
      search: h("input", { class: "input", type: "search", placeholder: "Search", "aria-label": "Search micrographs", oninput: () => this.#arrange() }),
      filter: h("select", { class: "input", "aria-label": "Which micrographs", onchange: () => this.#arrange() },
        h("option", { value: "all" }, "all"), h("option", { value: "marked" }, "outliers")),
      space: h("div"),
      none: h("div", { class: "none", hidden: true }, "No micrograph matches."),
      total: h("div", { class: "total" }),
      rows: h("div", { class: "rows", role: "listbox", tabindex: "0", "aria-label": "Micrographs" }),
      root: h("div", { class: "picked" }),
    };
    const part = this.#parts;
    part.rows.append(part.none, part.space);
    part.root.append(h("div", { class: "filters" }, part.search, part.filter),
      h("div", { class: "head" }, h("span"), ...COLUMNS.map(([key]) => heads[key])), part.rows, part.total);
    element.append(part.root);
    this.#thumbnails = new Thumbnails((id) => this.#rewrite(id));
    const settle = later(() => this.#fetch(), REST);
    const moved = () => {
      this.#draw();
      settle();
    };
    part.rows.addEventListener("scroll", moved, { passive: true });
    part.rows.addEventListener("keydown", (event) => this.#press(event));
    new ResizeObserver(moved).observe(part.rows);
  }

  /**
   * @param {MicrographItem[]} micrographs
   * @param {boolean} hasLabels
   */
  use(micrographs, hasLabels) {
    const known = new Map(this.#items.map((item) => [item.id, item]));
    const unknown = { count: null, mean: null, f1: null, why: null };
    this.#items = micrographs.map(({ id, name, triage }) => ({ ...unknown, ...known.get(id), id, name, triage, usable: triage?.score ?? null }));
    this.hasLabels = hasLabels;
    this.hasTriage = micrographs.some(({ triage }) => triage);
    const { root, heads, filter } = this.#parts;
    root.classList.toggle("plain", !hasLabels);
    root.classList.toggle("triaged", this.hasTriage);
    heads.f1.hidden = !hasLabels;
    heads.usable.hidden = !this.hasTriage;
    const kinds = new Map();
    for (const { triage } of micrographs) if (triage) kinds.set(triage.kind, (kinds.get(triage.kind) ?? 0) + 1);
    const chosen = filter.value;
    filter.replaceChildren(...[...filter.options].slice(0, 2),
      ...[...kinds].sort((a, b) => b[1] - a[1]).map(([kind, count]) => h("option", { value: `triage:${kind}` }, `${kind} (${count.toLocaleString("en")})`)));
    if ([...filter.options].some(({ value }) => value === chosen)) filter.value = chosen;
    this.#short = shortener(micrographs.map(({ name }) => name));
    this.#arrange();
  }

  /** @param {PickCounts} response */
  count({ counts, why, means, f1s }) {
    for (const item of this.#items) {
      item.count = counts[item.id];
      item.why = item.count === null ? "unread" : why[item.id] ?? null;
      if (means && f1s) [item.mean, item.f1] = [means[item.id], f1s[item.id]];
    }
    this.#parts.filter.options[1].textContent = `outliers (${Object.keys(why).length})`;
    if (means) this.#arrange();
    else for (const id of this.#lines.keys()) this.#rewrite(id);
  }

  get current() {
    return this.#current;
  }

  set current(id) {
    this.#current = id;
    this.reveal();
  }

  /** Scrolls to the current one. */
  reveal() {
    const at = this.#shown.findIndex((item) => item.id === this.#current);
    const { rows } = this.#parts;
    const [top, bottom] = [at * ROW, (at + 1) * ROW];
    if (at >= 0 && top < rows.scrollTop) rows.scrollTop = top;
    else if (at >= 0 && bottom > rows.scrollTop + rows.clientHeight) rows.scrollTop = bottom - rows.clientHeight;
    this.#draw();
  }

  /**
   * @param {number | null} id
   * @param {number} step
   * @returns {number | null}
   */
  next(id, step) {
    const at = this.#shown.findIndex((item) => item.id === id);
    return this.#shown[at < 0 ? 0 : at + step]?.id ?? null;
  }

  /** @param {Column} key */
  #sortBy(key) {
    const first = COLUMNS.find(([each]) => each === key)?.[2] ?? 1;
    this.#sort = { key, way: this.#sort.key === key ? -this.#sort.way : first };
    this.#parts.rows.scrollTop = 0;
    this.#arrange();
  }

  #arrange() {
    const { key, way } = this.#sort;
    const { heads, search, rows, space, none, total } = this.#parts;
    const text = search.value.trim().toLowerCase();
    /** @param {Item} item */
    const isIn = (item) => (!text || item.name.toLowerCase().includes(text)) && this.#isWanted(item);
    /** @type {(a: Item, b: Item) => number} */
    const compare = (a, b) => {
      if (key === "name") return way * natural.compare(a.name, b.name);
      const [one, other] = [a[key], b[key]];
      if (one === null || other === null) return Number(one === null) - Number(other === null) || a.id - b.id; // those without come last
      return way * (one - other) || a.id - b.id;
    };
    this.#shown = this.#items.filter(isIn).sort(compare);
    for (const [each, head] of Object.entries(heads)) {
      if (each === key) head.dataset.order = way > 0 ? "up" : "down";
      else delete head.dataset.order;
    }
    none.hidden = this.#shown.length > 0;
    space.style.height = `${this.#shown.length * ROW}px`;
    const all = this.#items.length;
    total.textContent = this.#shown.length === all ? `${all.toLocaleString("en")} micrographs` : `${this.#shown.length.toLocaleString("en")} of ${all.toLocaleString("en")} micrographs`;
    rows.setAttribute("aria-setsize", String(this.#shown.length));
    this.#draw();
    this.#fetch();
  }

  /**
   * Tells whether a micrograph is of the chosen kind.
   * @param {Item} item
   */
  #isWanted({ why, triage }) {
    const { value } = this.#parts.filter;
    if (value === "all") return true;
    return value === "marked" ? Boolean(why) && why !== "unread" : `triage:${triage?.kind}` === value;
  }

  /** Elements are moved to where they are needed; none is made while one scrolls on. */
  #draw() {
    const { rows } = this.#parts;
    const first = Math.max(0, Math.floor(rows.scrollTop / ROW) - SPARE);
    const seen = this.#shown.slice(first, Math.ceil((rows.scrollTop + rows.clientHeight) / ROW) + SPARE);
    const wanted = new Set(seen.map((item) => item.id));
    const free = [...this.#lines].filter(([id]) => !wanted.has(id));
    seen.forEach((item, index) => {
      let line = this.#lines.get(item.id);
      if (!line) {
        const [id, unused] = free.pop() ?? [null, this.#make()];
        if (id !== null) this.#lines.delete(id);
        this.#lines.set(item.id, unused);
        line = unused;
      }
      const { element } = line;
      element.style.top = `${(first + index) * ROW}px`;
      element.setAttribute("aria-posinset", String(first + index + 1));
      element.setAttribute("aria-selected", String(item.id === this.#current));
      element.dataset.id = String(item.id);
      this.#write(line, item);
    });
    for (const [id, { element }] of free) {
      element.remove();
      this.#lines.delete(id);
    }
    const active = this.#current === null ? undefined : this.#lines.get(this.#current)?.element;
    if (active) rows.setAttribute("aria-activedescendant", active.id);
    else rows.removeAttribute("aria-activedescendant");
  }

  /** @returns {Line} */
  #make() {
    const element = h("div", { class: "line", role: "option", id: `line${this.#lines.size}-${Math.random().toString(36).slice(2)}` });
    const part = { element, image: h("img", { alt: "" }), name: h("div", { class: "named" }), why: h("div", { class: "why" }), count: h("span", { class: "number" }), mean: h("span", { class: "number muted" }), f1: h("span", { class: "number muted" }), usable: h("span", { class: "number muted" }) };
    element.addEventListener("click", () => this.#onOpen(Number(element.dataset.id)));
    element.append(part.image, h("div", { class: "names" }, part.name, part.why), part.count, part.mean, part.f1, part.usable);
    this.#parts.space.append(element);
    return part;
  }

  /**
   * Writes a micrograph's row anew, if it has one.
   * @param {number} id
   */
  #rewrite(id) {
    const line = this.#lines.get(id);
    if (line) this.#write(line, this.#items[id]);
  }

  /**
   * @param {Line} line
   * @param {Item} item
   */
  #write(line, item) {
    line.name.textContent = this.#short(item.name);
    line.name.title = item.name;
    const kind = item.triage && item.triage.kind !== "usable" ? [item.triage.kind] : [];
    line.why.textContent = [...(item.why ? [`${SIGNS[item.why] ?? "∅"} ${WHY[item.why]}`] : []), ...kind].join(" · ");
    line.why.hidden = !line.why.textContent;
    line.why.title = line.usable.title = item.triage?.reason ?? "";
    line.count.textContent = item.count === null ? "–" : item.count.toLocaleString("en");
    line.mean.textContent = item.mean === null ? "" : item.mean.toFixed(2);
    line.f1.textContent = item.f1 === null ? "" : item.f1.toFixed(2);
    line.f1.hidden = !this.hasLabels;
    line.usable.textContent = item.usable === null ? "" : item.usable.toFixed(2);
    line.usable.hidden = !this.hasTriage;
    const source = this.#thumbnails.get(item.id);
    if (!source) line.image.removeAttribute("src");
    else if (line.image.getAttribute("src") !== source) line.image.src = source;
  }

  #fetch() {
    const { rows } = this.#parts;
    const first = Math.floor(rows.scrollTop / ROW);
    this.#thumbnails.want(this.#shown.slice(first, Math.ceil((rows.scrollTop + rows.clientHeight) / ROW) + 1).map((item) => item.id));
  }

  /** @param {KeyboardEvent} event */
  #press(event) {
    if (event.ctrlKey || event.altKey || event.metaKey || event.shiftKey) return;
    const page = Math.max(1, Math.floor(this.#parts.rows.clientHeight / ROW) - 1);
    /** @type {Record<string, number>} */
    const steps = { ArrowDown: 1, ArrowUp: -1, PageDown: page, PageUp: -page, Home: -this.#shown.length, End: this.#shown.length };
    const step = steps[event.key];
    if (!step || !this.#shown.length) return;
    event.preventDefault();
    event.stopPropagation();
    const at = this.#shown.findIndex((item) => item.id === this.#current);
    this.#onOpen(this.#shown[Math.min(Math.max(at + step, 0), this.#shown.length - 1)].id);
  }
}
