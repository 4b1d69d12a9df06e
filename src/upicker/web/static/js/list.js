/**
 * The list of micrographs: state, name and number of labels of each, to be searched and filtered.
 *
 *   const list = new List(element, {onOpen})      onOpen(id)
 *   list.use(micrographs)                         response of GET /api/micrographs
 *   list.current = id
 *   list.note(id, {labels, coverage, bad})        what has changed on this page
 *   list.suggest(ids)                             marks those to be labelled next
 *   list.next(id, step, unlabelled)               id of the next one in the list as it is filtered; null: there is none
 */

import { sharedStart } from "./names.js";
import { h } from "./ui.js";

/** @type {Record<string, string>} */
const STATES = { bad: "bad", complete: "completely labelled", partial: "partially labelled", regions: "labelled inside regions", begun: "labelled, coverage not set", unset: "not labelled" };
/** @type {Record<string, (state: string) => boolean>} */
const FITS = { all: () => true, todo: (state) => state === "unset", bad: (state) => state === "bad", done: (state) => state !== "unset" && state !== "bad" };
const FILTERS = [["all", "all micrographs"], ["todo", "not labelled yet"], ["done", "labelled"], ["bad", "bad"]];

/** @typedef {{item: MicrographItem, line: HTMLLIElement, element: HTMLButtonElement, mark: HTMLSpanElement, count: HTMLSpanElement}} Row */

export class List {
  /** @type {Map<number, Row>} by id */
  #rows = new Map();
  /** @type {number | null} */
  #current = null;
  /** @type {number | null} */
  #shared = null; // how many characters at the start all names have in common
  #onOpen;
  #parts;

  /**
   * @param {HTMLElement} element
   * @param {{onOpen: (id: number) => void}} hooks
   */
  constructor(element, { onOpen }) {
    this.#onOpen = onOpen;
    const refilter = () => this.#filter();
    this.#parts = {
      search: h("input", { class: "input", type: "search", placeholder: "Search", "aria-label": "Search micrographs", oninput: refilter }),
      filter: h("select", { class: "input", "aria-label": "Which micrographs", onchange: refilter }, FILTERS.map(([value, text]) => h("option", { value }, text))),
      list: h("ol", { class: "list", onkeydown: (/** @type {KeyboardEvent} */ event) => this.#arrows(event) }),
      total: h("div", { class: "total" }),
    };
    const part = this.#parts;
    element.append(h("div", { class: "filters" }, part.search, part.filter), part.list, part.total);
  }

  /** @param {MicrographItem[]} micrographs */
  use(micrographs) {
    this.#shared ??= sharedStart(micrographs.map(({ name }) => name));
    for (const micrograph of micrographs) {
      const row = this.#rows.get(micrograph.id) ?? this.#add(micrograph);
      row.item = micrograph;
      this.#write(row);
    }
    this.#filter();
  }

  /**
   * @param {number} id
   * @param {Partial<MicrographItem>} change
   */
  note(id, change) {
    const row = this.#rows.get(id);
    if (!row) return;
    Object.assign(row.item, change);
    this.#write(row);
    this.#count();
  }

  get micrographs() {
    return [...this.#rows.values()].map((row) => row.item);
  }

  get current() {
    return this.#current;
  }

  set current(id) {
    if (this.#current !== null) this.#rows.get(this.#current)?.element.removeAttribute("aria-current");
    this.#current = id;
    const element = id === null ? null : this.#rows.get(id)?.element;
    element?.setAttribute("aria-current", "true");
    element?.scrollIntoView({ block: "nearest" });
  }

  /** @param {number[]} ids */
  suggest(ids) {
    const wanted = new Set(ids);
    for (const { item, element } of this.#rows.values()) {
      element.classList.toggle("suggested", wanted.has(item.id));
      element.title = wanted.has(item.id) ? `${item.name} (suggested: the model is unsure here)` : item.name;
    }
  }

  /**
   * @param {number | null} id
   * @param {number} step
   * @param {boolean} [unlabelled]
   * @returns {number | null}
   */
  next(id, step, unlabelled = false) {
    const rows = [...this.#rows.values()].filter((row) => !row.line.hidden || row.item.id === id);
    const here = rows.findIndex((row) => row.item.id === id);
    if (!unlabelled) return rows[here + step]?.item.id ?? null;
    const after = [...rows.slice(here + 1), ...rows.slice(0, here)];
    return after.find((row) => stateOf(row.item) === "unset")?.item.id ?? null;
  }

  /**
   * @param {MicrographItem} item
   * @returns {Row}
   */
  #add(item) {
    const mark = h("span", { class: "mark", role: "img" });
    const count = h("span", { class: "number" });
    const open = () => this.#onOpen(item.id);
    const element = h("button", { class: "item", type: "button", title: item.name, onclick: open }, mark, h("span", { class: "clip grow" }, this.#shared ? `…${item.name.slice(this.#shared)}` : item.name), count);
    const row = { item, element, mark, count, line: h("li", {}, element) };
    this.#rows.set(item.id, row);
    this.#parts.list.append(row.line);
    return row;
  }

  /** @param {Row} row */
  #write({ item, mark, count }) {
    const state = stateOf(item);
    mark.className = `mark ${state}`;
    mark.setAttribute("aria-label", STATES[state]);
    mark.title = STATES[state];
    count.textContent = item.labels ? String(item.labels) : "";
  }

  #filter() {
    const words = this.#parts.search.value.trim().toLowerCase();
    const which = this.#parts.filter.value;
    for (const { item, line } of this.#rows.values()) {
      line.hidden = !(item.name.toLowerCase().includes(words) && (FITS[which](stateOf(item)) || item.id === this.#current));
    }
    this.#count();
  }

  #count() {
    const items = this.micrographs;
    const labelled = items.filter((item) => item.labels > 0);
    const particles = labelled.reduce((sum, item) => sum + item.labels, 0);
    const shown = [...this.#rows.values()].filter(({ line }) => !line.hidden).length;
    const part = shown < items.length ? `${shown} of ${items.length} shown. ` : "";
    this.#parts.total.textContent = `${part}${particles} particle${particles === 1 ? "" : "s"} in ${labelled.length} of ${items.length} micrograph${items.length === 1 ? "" : "s"}`;
  }

  /** @param {KeyboardEvent} event */
  #arrows(event) {
    if (event.key !== "ArrowDown" && event.key !== "ArrowUp") return;
    event.preventDefault();
    event.stopPropagation();
    const rows = [...this.#rows.values()].filter(({ line }) => !line.hidden);
    const here = rows.findIndex(({ line }) => line.contains(/** @type {Node} */ (event.target)));
    rows[here + (event.key === "ArrowDown" ? 1 : -1)]?.element.focus();
  }
}

/** @param {MicrographItem} item */
function stateOf(item) {
  if (item.bad) return "bad";
  if (item.coverage !== "unset") return item.coverage;
  return item.labels > 0 ? "begun" : "unset";
}
