// @ts-nocheck
/**
 * The list of micrographs: state, name and number of labels of each, to be searched and filtered.
 *
 *   const list = new List(element, {onOpen})      onOpen(id)
 *   list.use(micrographs)                         answer of GET /api/micrographs
 *   list.current = id
 *   list.note(id, {labels, coverage, bad})        what has changed on this page
 *   list.suggest(ids)                             marks those to be labelled next
 *   list.next(id, step, unlabelled)               id of the next one in the list as it is filtered; null: there is none
 */

import { h } from "./ui.js";

const STATES = { bad: "bad", complete: "completely labelled", partial: "labelled in part", regions: "labelled inside regions", begun: "labelled, coverage not said", unset: "not labelled" };
const FILTERS = [["all", "all micrographs"], ["todo", "not labelled yet"], ["done", "labelled"], ["bad", "bad ones"]];

export class List {
  #rows = new Map(); // id -> {item, element, mark, count}
  #current = null;
  #shared = null; // how many characters at the start all names have in common
  #onOpen;
  #parts;

  constructor(element, { onOpen }) {
    this.#onOpen = onOpen;
    const refilter = () => this.#filter();
    const part = (this.#parts = {
      search: h("input", { class: "input", type: "search", placeholder: "Search", "aria-label": "Search micrographs", oninput: refilter }),
      filter: h("select", { class: "input", "aria-label": "Which micrographs", onchange: refilter }, FILTERS.map(([value, text]) => h("option", { value }, text))),
      list: h("ol", { class: "list", onkeydown: (event) => this.#arrows(event) }),
      total: h("div", { class: "total" }),
    });
    element.append(h("div", { class: "filters" }, part.search, part.filter), part.list, part.total);
  }

  use(micrographs) {
    this.#shared ??= sharedStart(micrographs.map(({ name }) => name));
    for (const micrograph of micrographs) {
      if (this.#rows.has(micrograph.id)) this.#rows.get(micrograph.id).item = micrograph;
      else this.#add(micrograph);
      this.#write(micrograph.id);
    }
    this.#filter();
  }

  note(id, change) {
    const row = this.#rows.get(id);
    Object.assign(row.item, change);
    this.#write(id);
    this.#count();
  }

  get micrographs() {
    return [...this.#rows.values()].map((row) => row.item);
  }

  get current() {
    return this.#current;
  }

  set current(id) {
    this.#rows.get(this.#current)?.element.removeAttribute("aria-current");
    this.#current = id;
    const { element } = this.#rows.get(id);
    element.setAttribute("aria-current", "true");
    element.scrollIntoView({ block: "nearest" });
  }

  suggest(ids) {
    const wanted = new Set(ids);
    for (const { item, element } of this.#rows.values()) {
      element.classList.toggle("suggested", wanted.has(item.id));
      element.title = wanted.has(item.id) ? `${item.name} (suggested: the model is unsure here)` : item.name;
    }
  }

  next(id, step, unlabelled = false) {
    const rows = [...this.#rows.values()].filter((row) => !row.element.parentNode.hidden || row.item.id === id);
    const here = rows.findIndex((row) => row.item.id === id);
    if (!unlabelled) return rows[here + step]?.item.id ?? null;
    const after = [...rows.slice(here + 1), ...rows.slice(0, here)];
    return after.find((row) => stateOf(row.item) === "unset")?.item.id ?? null;
  }

  #add(item) {
    const mark = h("span", { class: "mark", role: "img" });
    const count = h("span", { class: "number" });
    const open = () => this.#onOpen(item.id);
    const element = h("button", { class: "item", type: "button", title: item.name, onclick: open }, mark, h("span", { class: "clip grow" }, this.#shared ? `…${item.name.slice(this.#shared)}` : item.name), count);
    this.#rows.set(item.id, { item, element, mark, count });
    this.#parts.list.append(h("li", {}, element));
  }

  #write(id) {
    const { item, mark, count } = this.#rows.get(id);
    const state = stateOf(item);
    mark.className = `mark ${state}`;
    mark.setAttribute("aria-label", STATES[state]);
    mark.title = STATES[state];
    count.textContent = item.labels || "";
  }

  #filter() {
    const words = this.#parts.search.value.trim().toLowerCase();
    const which = this.#parts.filter.value;
    const fits = { all: () => true, todo: (state) => state === "unset", bad: (state) => state === "bad", done: (state) => state !== "unset" && state !== "bad" }[which];
    for (const { item, element } of this.#rows.values()) {
      element.parentNode.hidden = !(item.name.toLowerCase().includes(words) && (fits(stateOf(item)) || item.id === this.#current));
    }
    this.#count();
  }

  #count() {
    const items = this.micrographs;
    const labelled = items.filter((item) => item.labels > 0);
    const particles = labelled.reduce((sum, item) => sum + item.labels, 0);
    const shown = [...this.#parts.list.children].filter((row) => !row.hidden).length;
    const part = shown < items.length ? `${shown} of ${items.length} shown. ` : "";
    this.#parts.total.textContent = `${part}${particles} particle${particles === 1 ? "" : "s"} in ${labelled.length} of ${items.length} micrograph${items.length === 1 ? "" : "s"}`;
  }

  #arrows(event) {
    if (event.key !== "ArrowDown" && event.key !== "ArrowUp") return;
    event.preventDefault();
    event.stopPropagation();
    const rows = [...this.#parts.list.children].filter((row) => !row.hidden);
    const here = rows.indexOf(event.target.closest("li"));
    rows[here + (event.key === "ArrowDown" ? 1 : -1)]?.firstChild.focus();
  }
}

/** Long names that differ at their ends only are cut at their start, behind a sign that separates. */
function sharedStart(names) {
  const LONG = 22;
  if (names.length < 2 || names.every((name) => name.length <= LONG)) return 0;
  let end = 0;
  while (names.every((name) => name[end] !== undefined && name[end] === names[0][end])) end++;
  while (end > 0 && !/[-_. ]/.test(names[0][end - 1])) end--;
  return end;
}

function stateOf(item) {
  if (item.bad) return "bad";
  if (item.coverage !== "unset") return item.coverage;
  return item.labels > 0 ? "begun" : "unset";
}
