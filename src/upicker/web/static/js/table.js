// @ts-nocheck
/**
 * The list of micrographs with counts, mean scores and F1: sorted, searched, and drawn only where it is seen, so that
 * ten thousand of them cost no more than ten.
 *
 *   const table = new Table(element, {onOpen})     onOpen(id)
 *   table.use(micrographs, hasLabels)              [{id, name}…]
 *   table.count({counts, why, means?, f1s?})       answer of /api/picks/counts; sorted anew only where means are there
 *   table.current = id
 *   table.next(id, step)                           id of the next one as the table is sorted, or null
 */

import { h, later } from "./ui.js";

const ROW = 56; // css px, as in inspect.css
const SPARE = 6; // rows drawn beyond what is seen
const REST = 120; // ms that the list stands still before thumbnails are fetched
const PARALLEL = 2; // thumbnails at once: tiles come first
const KEPT = 500; // thumbnails
const LONG = 11; // characters that there is room for
const WHY = { empty: "no picks", few: "very few", many: "very many", unread: "not picked" };
const COLUMNS = [["name", "Name", 1], ["count", "Picks", -1], ["mean", "Score", -1], ["f1", "F1", 1]];
const natural = new Intl.Collator("en", { numeric: true });

export class Table {
  #onOpen;
  #items = []; // {id, name, count, mean, f1, why}
  #shown = []; // of them, in the order of the list
  #sort = { key: "name", way: 1 };
  #lines = new Map(); // id -> {element, parts…}
  #current = null;
  #short = (name) => name;
  #thumbnails;
  #parts;

  constructor(element, { onOpen }) {
    this.#onOpen = onOpen;
    const heads = Object.fromEntries(COLUMNS.map(([key, text]) => [key, h("button", {
      type: "button", class: key === "name" ? "" : "number", onclick: () => this.#sortBy(key), title: `Sort by ${text.toLowerCase()}`,
    }, text)]));
    const part = (this.#parts = {
      heads,
      search: h("input", { class: "input", type: "search", placeholder: "Search", "aria-label": "Search micrographs", oninput: () => this.#arrange() }),
      filter: h("select", { class: "input", "aria-label": "Which micrographs", onchange: () => this.#arrange() },
        h("option", { value: "all" }, "all"), h("option", { value: "marked" }, "outliers")),
      space: h("div"),
      none: h("div", { class: "none", hidden: true }, "No micrograph fits."),
      total: h("div", { class: "total" }),
    });
    part.rows = h("div", { class: "rows", role: "listbox", tabindex: "0", "aria-label": "Micrographs" }, part.none, part.space);
    part.root = h("div", { class: "picked" }, h("div", { class: "filters" }, part.search, part.filter),
      h("div", { class: "head" }, h("span"), ...COLUMNS.map(([key]) => heads[key])), part.rows, part.total);
    element.append(part.root);
    this.#thumbnails = new Thumbnails((id) => this.#lines.get(id) && this.#write(id));
    const settle = later(() => this.#fetch(), REST);
    const moved = () => {
      this.#draw();
      settle();
    };
    part.rows.addEventListener("scroll", moved, { passive: true });
    part.rows.addEventListener("keydown", (event) => this.#press(event));
    new ResizeObserver(moved).observe(part.rows);
  }

  use(micrographs, hasLabels) {
    this.#items = micrographs.map(({ id, name }) => ({ id, name, count: null, mean: null, f1: null, why: null }));
    this.#parts.root.classList.toggle("plain", !hasLabels);
    this.#parts.heads.f1.hidden = !hasLabels;
    this.hasLabels = hasLabels;
    this.#short = shortener(micrographs.map(({ name }) => name));
    this.#arrange();
  }

  count({ counts, why, means, f1s }) {
    for (const item of this.#items) {
      item.count = counts[item.id];
      item.why = item.count === null ? "unread" : why[item.id] ?? null;
      if (means) [item.mean, item.f1] = [means[item.id], f1s[item.id]];
    }
    this.#parts.filter.options[1].textContent = `outliers (${Object.keys(why).length})`;
    if (means) this.#arrange();
    else for (const id of this.#lines.keys()) this.#write(id);
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

  next(id, step) {
    const at = this.#shown.findIndex((item) => item.id === id);
    return this.#shown[at < 0 ? 0 : at + step]?.id ?? null;
  }

  #sortBy(key) {
    const first = COLUMNS.find(([each]) => each === key)[2];
    this.#sort = { key, way: this.#sort.key === key ? -this.#sort.way : first };
    this.#parts.rows.scrollTop = 0;
    this.#arrange();
  }

  #arrange() {
    const { key, way } = this.#sort;
    const { heads, search, filter, rows, space, none, total } = this.#parts;
    const text = search.value.trim().toLowerCase();
    const isIn = (item) => (!text || item.name.toLowerCase().includes(text)) && (filter.value === "all" || (item.why && item.why !== "unread"));
    const compare = (a, b) => {
      if (key === "name") return way * natural.compare(a.name, b.name);
      if (a[key] === null || b[key] === null) return (a[key] === null) - (b[key] === null) || a.id - b.id; // those without come last
      return way * (a[key] - b[key]) || a.id - b.id;
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
    rows.setAttribute("aria-setsize", this.#shown.length);
    this.#draw();
    this.#fetch();
  }

  /** Elements are moved to where they are needed; none is made while one scrolls on. */
  #draw() {
    const { rows } = this.#parts;
    const first = Math.max(0, Math.floor(rows.scrollTop / ROW) - SPARE);
    const seen = this.#shown.slice(first, Math.ceil((rows.scrollTop + rows.clientHeight) / ROW) + SPARE);
    const wanted = new Set(seen.map((item) => item.id));
    const free = [...this.#lines].filter(([id]) => !wanted.has(id));
    seen.forEach((item, index) => {
      if (!this.#lines.has(item.id)) {
        const [id, line] = free.pop() ?? [null, this.#make()];
        if (id !== null) this.#lines.delete(id);
        this.#lines.set(item.id, line);
      }
      const { element } = this.#lines.get(item.id);
      element.style.top = `${(first + index) * ROW}px`;
      element.setAttribute("aria-posinset", first + index + 1);
      element.setAttribute("aria-selected", String(item.id === this.#current));
      element.dataset.id = item.id;
      this.#write(item.id, item);
    });
    for (const [id, { element }] of free) {
      element.remove();
      this.#lines.delete(id);
    }
    const active = this.#lines.get(this.#current)?.element;
    if (active) rows.setAttribute("aria-activedescendant", active.id);
    else rows.removeAttribute("aria-activedescendant");
  }

  #make() {
    const part = { image: h("img", { alt: "" }), name: h("div", { class: "named" }), why: h("div", { class: "why" }), count: h("span", { class: "number" }), mean: h("span", { class: "number muted" }), f1: h("span", { class: "number muted" }) };
    part.element = h("div", { class: "line", role: "option", id: `line${this.#lines.size}-${Math.random().toString(36).slice(2)}`, onclick: (event) => this.#onOpen(Number(event.currentTarget.dataset.id)) },
      part.image, h("div", { class: "names" }, part.name, part.why), part.count, part.mean, part.f1);
    this.#parts.space.append(part.element);
    return part;
  }

  #write(id, item = this.#items[id]) {
    const line = this.#lines.get(id);
    line.name.textContent = this.#short(item.name);
    line.name.title = item.name;
    line.why.textContent = item.why ? `${{ many: "▲", few: "▼" }[item.why] ?? "∅"} ${WHY[item.why]}` : "";
    line.why.hidden = !item.why;
    line.count.textContent = item.count === null ? "–" : item.count.toLocaleString("en");
    line.mean.textContent = item.mean === null ? "" : item.mean.toFixed(2);
    line.f1.textContent = item.f1 === null ? "" : item.f1.toFixed(2);
    line.f1.hidden = !this.hasLabels;
    const source = this.#thumbnails.get(id);
    if (!source) line.image.removeAttribute("src");
    else if (line.image.getAttribute("src") !== source) line.image.src = source;
  }

  #fetch() {
    const { rows } = this.#parts;
    const first = Math.floor(rows.scrollTop / ROW);
    this.#thumbnails.want(this.#shown.slice(first, Math.ceil((rows.scrollTop + rows.clientHeight) / ROW) + 1).map((item) => item.id));
  }

  #press(event) {
    if (event.ctrlKey || event.altKey || event.metaKey || event.shiftKey) return;
    const page = Math.max(1, Math.floor(this.#parts.rows.clientHeight / ROW) - 1);
    const step = { ArrowDown: 1, ArrowUp: -1, PageDown: page, PageUp: -page, Home: -this.#shown.length, End: this.#shown.length }[event.key];
    if (!step || !this.#shown.length) return;
    event.preventDefault();
    event.stopPropagation();
    const at = this.#shown.findIndex((item) => item.id === this.#current);
    this.#onOpen(this.#shown[Math.min(Math.max(at + step, 0), this.#shown.length - 1)].id);
  }
}

/** Return a function that leaves out what long names have in common at both ends, up to the next - _ . or space. */
function shortener(names) {
  const [first] = names;
  if (names.length < 2 || names.every((name) => name.length <= LONG)) return (name) => name;
  const shared = (at) => names.every((name) => at < name.length && name.at(at) === first.at(at));
  const sharedEnd = (at) => names.every((name) => at <= name.length && name.at(-at) === first.at(-at));
  let [start, end] = [0, 0];
  while (shared(start)) start++;
  while (start && !/[-_. ]/.test(first[start - 1])) start--;
  while (sharedEnd(end + 1) && names.every((name) => name.length > start + end + 1)) end++;
  while (end && !/[-_. ]/.test(first.at(-end))) end--;
  return (name) => `${start > 2 ? "…" : name.slice(0, start)}${name.slice(start, name.length - end)}${end > 2 ? "…" : name.slice(name.length - end)}`;
}

/** Fetches small pictures, few at a time and only those that are wanted now; keeps the last ones. */
class Thumbnails {
  #kept = new Map(); // id -> object address, or null where there is none
  #loading = new Map(); // id -> AbortController
  #wanted = [];
  #changed;

  constructor(changed) {
    this.#changed = changed;
  }

  get(id) {
    return this.#kept.get(id) ?? null;
  }

  want(ids) {
    this.#wanted = ids.filter((id) => !this.#kept.has(id));
    const wanted = new Set(this.#wanted);
    for (const [id, controller] of this.#loading) if (!wanted.has(id)) controller.abort();
    this.#more();
  }

  #more() {
    for (const id of this.#wanted) {
      if (this.#loading.size >= PARALLEL) return;
      if (!this.#kept.has(id) && !this.#loading.has(id)) this.#fetch(id);
    }
  }

  async #fetch(id) {
    const controller = new AbortController();
    this.#loading.set(id, controller);
    try {
      const response = await fetch(`/api/micrographs/${id}/thumbnail`, { signal: controller.signal, credentials: "same-origin" });
      this.#keep(id, response.ok ? URL.createObjectURL(await response.blob()) : null);
      this.#changed(id);
    } catch {
      // Not wanted any more, or the server is away: it is asked for again when the list moves.
    } finally {
      this.#loading.delete(id);
      if (!controller.signal.aborted) this.#wanted = this.#wanted.filter((each) => each !== id);
      this.#more();
    }
  }

  #keep(id, address) {
    this.#kept.set(id, address);
    if (this.#kept.size <= KEPT) return;
    const [oldest, old] = this.#kept.entries().next().value;
    if (old) URL.revokeObjectURL(old);
    this.#kept.delete(oldest);
  }
}
