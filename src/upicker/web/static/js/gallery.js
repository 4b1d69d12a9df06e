/**
 * Particles as small boxes, hundreds at a glance; a click rejects one, a click with Shift all from the last one on.
 *
 *   const gallery = new Gallery(element, {nameOf, scored, onReject, onOpen})
 *       nameOf(id) -> a micrograph's name; onReject(cells, rejected): cells [{micrograph, index}…]; onOpen(cell)
 *   gallery.labelled = true                     offers false picks, too
 *   gallery.pixelSize = 1.2                     Angstrom per pixel, or null: unit of the low-pass
 *   gallery.show(threshold)                     fetches and shows what is chosen, if it is another than before
 *   gallery.mark(cells, rejected)               after a change made elsewhere, or undone
 *
 * Boxes come many in one image, those in sight first.
 */

import { explain, failure, get } from "./api.js";
import { figure } from "./histogram.js";
import { check, h, later, remember, segmented, slider } from "./ui.js";

const KINDS = [["borderline", "borderline"], ["lowest", "lowest"], ["highest", "highest"], ["random", "random"]];
const COUNTS = [100, 250, 500, 1000, 2000];
const PART = 50; // boxes of one image: two rows
const PARALLEL = 2;
const GAP = 3; // css px, as in inspect.css
const CUTOFFS_PX = [0, 3, 4, 6, 8, 11, 16, 22, 32]; // raw pixels; 0: none
/**
 * A pick by its micrograph and its place in the file.
 * @typedef {{micrograph: number, index: number}} CellName
 *
 * @typedef {CellName & {score: number, rejected: boolean}} Cell
 *
 * @typedef {ReturnType<typeof slider>} Slider
 *
 * @typedef {{kinds: HTMLElement, count: HTMLSelectElement, lowpass: Slider, size: Slider, invert: ReturnType<typeof check>,
 *   cells: HTMLElement, nothing: HTMLElement, status: HTMLElement, hint: HTMLElement, sheet: HTMLElement}} Parts
 *
 * @typedef {object} Hooks
 * @property {(id: number) => string} nameOf
 * @property {(score: number) => string} scored a score in words
 * @property {(cells: CellName[], rejected: boolean) => void} onReject
 * @property {(cell: Cell) => void} onOpen
 */

/** @type {Record<string, string>} */
const DESCRIPTIONS = {
  borderline: "just above and just below the threshold",
  lowest: "the lowest above the threshold, worst first",
  highest: "the highest, best first",
  random: "any above the threshold",
  false: "the highest false positives",
};

export class Gallery {
  #hooks;
  /** @type {Cell[]} */
  #cells = [];
  /** @type {HTMLButtonElement[]} */
  #elements = [];
  /** @type {{address?: string, state?: "loading" | "done"}[]} */
  #sheets = []; // one image for each PART cells
  #columns = 25; // boxes side by side in such an image
  /** @type {string | null} */
  #asked = null; // what is shown: kind, count and threshold
  /** @type {AbortController | null} */
  #request = null;
  /** @type {{at: number, rejected: boolean} | null} */
  #anchor = null; // where Shift-click begins
  #threshold = 0;
  /** @type {Parts} */
  #parts;
  #generation = 0;
  /** @type {number | null} */
  #pixelSize = null;
  /** @type {ReturnType<typeof segmented> | null} */
  #kinds = null;

  /**
   * @param {HTMLElement} element
   * @param {Hooks} hooks
   */
  constructor(element, hooks) {
    this.#hooks = hooks;
    this.element = element;
    const reload = () => this.show(this.#threshold, true);
    this.#parts = {
      kinds: h("div"),
      count: h("select", { class: "input", "aria-label": "How many", onchange: kept("count", () => Number(this.#parts.count.value), reload) },
        COUNTS.map((count) => h("option", { value: count, selected: count === (remember("gallery count") ?? 500) }, String(count)))),
      lowpass: slider({ text: "Low-pass", min: 0, max: CUTOFFS_PX.length - 1, step: 1, value: remember("gallery lowpass") ?? 4, show: (value) => this.#cutoffText(value), input: later(kept("lowpass", () => this.#parts.lowpass.value, () => this.#redraw()), 200) }),
      size: slider({ text: "Size", min: 0, max: 128, step: 4, value: remember("gallery size") ?? 0, show: (value) => (value < 32 ? "fit" : `${value} px`), input: kept("size", () => this.#parts.size.value, () => this.#fit()) }),
      invert: check({ text: "Invert", value: remember("gallery invert") ?? false, change: kept("invert", () => this.#parts.invert.value, () => this.#invert()) }),
      cells: h("div", { class: "cells", role: "group", "aria-label": "Particles" }),
      nothing: h("div", { class: "nothing", hidden: true }),
      status: h("span", { class: "grow clip" }),
      hint: h("span", { class: "clip" }, "click rejects · Shift-click a range · Ctrl-click opens the micrograph"),
      sheet: h("div", { class: "sheet" }),
    };
    const part = this.#parts;
    this.#invert();
    part.sheet.append(part.cells, part.nothing);
    element.append(
      h("div", { class: "tools" }, part.kinds, h("label", { class: "count" }, part.count, h("span", { class: "muted" }, "particles")),
        part.lowpass.element, part.size.element, part.invert.element),
      part.sheet, h("div", { class: "status" }, part.status, part.hint));
    this.#offer(KINDS);
    part.sheet.addEventListener("scroll", () => this.#fetchMore(), { passive: true });
    part.cells.addEventListener("click", (event) => this.#click(event));
    part.cells.addEventListener("keydown", (event) => this.#press(event));
    for (const kind of ["pointerover", "focusin"]) part.cells.addEventListener(kind, (event) => this.#describe(this.#placeOf(event.target)));
    part.cells.addEventListener("pointerleave", () => this.#describe(null));
    new ResizeObserver(() => this.#fit()).observe(part.sheet);
  }

  #invert() {
    this.#parts.cells.classList.toggle("invert", this.#parts.invert.value);
  }

  /** @param {boolean} labelled */
  set labelled(labelled) {
    this.#offer(labelled ? [...KINDS, ["false", "false"]] : KINDS);
  }

  /** @param {number | null} size */
  set pixelSize(size) {
    this.#pixelSize = size;
    this.#parts.lowpass.rewrite(); // in its unit
  }

  get kind() {
    return this.#kinds?.value ?? "borderline";
  }

  /**
   * @param {number} threshold
   * @param {boolean} [again] even if nothing has changed
   */
  async show(threshold, again = false) {
    this.#threshold = threshold;
    const asked = `kind=${this.kind}&count=${this.#parts.count.value}&threshold=${threshold}`;
    if (asked === this.#asked && !again) return;
    this.#asked = asked;
    this.#request?.abort();
    const request = (this.#request = new AbortController());
    this.#parts.status.textContent = "Choosing…";
    try {
      const found = await get(`/api/gallery?${asked}`, request);
      if (this.#request === request) this.#use(found);
    } catch (error) {
      if (failure(error).name === "AbortError") return;
      this.#asked = null;
      this.#use({ cells: [] });
      this.#parts.nothing.textContent = explain(error);
    }
  }

  /**
   * @param {CellName[]} cells
   * @param {boolean} rejected
   */
  mark(cells, rejected) {
    const changed = new Set(cells.map(({ micrograph, index }) => `${micrograph}.${index}`));
    this.#cells.forEach((cell, at) => {
      if (changed.has(`${cell.micrograph}.${cell.index}`)) cell.rejected = rejected;
      this.#write(at);
    });
    this.#describe(null);
  }

  focus() {
    (this.#elements[0] ?? this.#parts.sheet).focus({ preventScroll: true });
  }

  /** @param {string[][]} kinds */
  #offer(kinds) {
    const value = this.#kinds?.value ?? remember("gallery kind") ?? "borderline";
    this.#kinds = segmented({
      text: "Which particles", name: "gallery-kind", options: kinds, value: kinds.some(([kind]) => kind === value) ? value : "borderline",
      change: (kind) => {
        remember("gallery kind", kind);
        this.show(this.#threshold);
      },
    });
    this.#parts.kinds.replaceChildren(this.#kinds.element);
  }

  /** @param {{cells: Cell[], columns?: number, cell_px?: number}} response */
  #use({ cells, columns = 25 }) {
    const part = this.#parts;
    this.#cells = cells;
    this.#columns = columns;
    this.#anchor = null;
    this.#elements = cells.map((_, at) => h("button", { class: "cell", type: "button", tabindex: at ? "-1" : "0", "data-at": at }));
    /** @type {HTMLElement[]} */
    const nodes = [...this.#elements];
    if (this.kind === "borderline") this.#divide(nodes);
    part.cells.replaceChildren(...nodes);
    part.nothing.hidden = cells.length > 0;
    part.nothing.textContent = cells.length ? "" : this.kind === "false" ? "No false positives above this threshold." : "There are no picks above this threshold.";
    cells.forEach((_, at) => this.#write(at));
    part.sheet.scrollTop = 0;
    this.#describe(null);
    this.#fit();
    this.#redraw();
  }

  /**
   * Writes a line between those above the threshold and those below it.
   * @param {HTMLElement[]} nodes
   */
  #divide(nodes) {
    const above = this.#cells.filter(({ score }) => score >= this.#threshold).length;
    /** @param {string} text */
    const edge = (text) => h("div", { class: "edge" }, text);
    if (above < this.#cells.length) nodes.splice(above, 0, edge(`below ${figure(this.#threshold)}: not kept`));
    if (above) nodes.unshift(edge(`above ${figure(this.#threshold)}: kept`));
  }

  /** Makes the boxes as large as all of them fit, but not too small to be seen. */
  #fit() {
    const { sheet, cells, size } = this.#parts;
    const [width, height] = [sheet.clientWidth - 24, sheet.clientHeight - 16 - (this.kind === "borderline" ? 60 : 0)];
    if (width <= 0) return;
    let side = size.value;
    if (side < 32) {
      side = 96;
      const rows = () => Math.ceil(this.#cells.length / Math.max(1, Math.floor((width + GAP) / (side + GAP))));
      while (side > 40 && rows() * (side + GAP) > height) side -= 1;
    }
    cells.style.setProperty("--cell", `${side}px`);
    this.#fetchMore();
  }

  #redraw() {
    this.#generation += 1;
    for (const { address } of this.#sheets) if (address) URL.revokeObjectURL(address);
    this.#sheets = Array.from({ length: Math.ceil(this.#cells.length / PART) }, () => ({}));
    for (const element of this.#elements) element.style.backgroundImage = "";
    this.#fetchMore();
  }

  #fetchMore() {
    const { sheet } = this.#parts;
    if (!sheet.clientHeight) return; // not shown
    const [top, bottom] = [sheet.scrollTop - sheet.clientHeight / 2, sheet.scrollTop + 1.5 * sheet.clientHeight];
    for (let number = 0; number < this.#sheets.length; number++) {
      if (this.#sheets.filter((part) => part.state === "loading").length >= PARALLEL) return;
      if (this.#sheets[number].state) continue;
      const [first, last] = [this.#elements[number * PART], this.#elements[Math.min((number + 1) * PART, this.#cells.length) - 1]];
      if (last.offsetTop + last.offsetHeight >= top && first.offsetTop <= bottom) this.#fetch(number);
    }
  }

  /** @param {number} number */
  async #fetch(number) {
    const generation = this.#generation;
    const part = this.#sheets[number];
    part.state = "loading";
    const cells = this.#cells.slice(number * PART, (number + 1) * PART);
    const names = cells.map(({ micrograph, index }) => `${micrograph}.${index}`).join(",");
    try {
      const response = await fetch(`/api/gallery/sheet?cells=${names}${this.#lowpass()}`, { credentials: "same-origin" });
      if (!response.ok) throw new Error(`status ${response.status}`);
      const address = URL.createObjectURL(await response.blob());
      if (generation !== this.#generation) return void URL.revokeObjectURL(address);
      part.address = address;
      part.state = "done";
      this.#place(number, cells.length);
    } catch {
      if (generation !== this.#generation) return;
      setTimeout(() => {
        part.state = undefined;
        if (generation === this.#generation) this.#fetchMore();
      }, 3000);
    }
    this.#fetchMore();
  }

  /**
   * @param {number} number
   * @param {number} count
   */
  #place(number, count) {
    const columns = this.#columns;
    const rows = Math.ceil(count / columns);
    for (let place = 0; place < count; place++) {
      const { style } = this.#elements[number * PART + place];
      const [row, column] = [Math.floor(place / columns), place % columns];
      style.backgroundImage = `url("${this.#sheets[number].address}")`;
      style.backgroundSize = `${columns * 100}% ${rows * 100}%`;
      style.backgroundPosition = `${(100 * column) / (columns - 1)}% ${rows > 1 ? (100 * row) / (rows - 1) : 0}%`;
    }
  }

  #lowpass() {
    const px = CUTOFFS_PX[this.#parts.lowpass.value];
    if (!px) return "";
    return `&lowpass=${this.#pixelSize ? `${Math.round(px * this.#pixelSize)}A` : `${px}px`}`;
  }

  /** @param {number} step */
  #cutoffText(step) {
    const px = CUTOFFS_PX[step];
    if (!px) return "off";
    return this.#pixelSize ? `${Math.round(px * this.#pixelSize)} Å` : `${px} px`;
  }

  /** @param {number} at */
  #write(at) {
    const cell = this.#cells[at];
    const element = this.#elements[at];
    element.classList.toggle("rejected", cell.rejected);
    element.classList.toggle("under", cell.score < this.#threshold);
    element.setAttribute("aria-pressed", String(cell.rejected));
    element.setAttribute("aria-label", `${this.#hooks.nameOf(cell.micrograph)}, ${this.#hooks.scored(cell.score)}${cell.rejected ? ", rejected" : ""}`);
  }

  /** @param {number | null} at */
  #describe(at) {
    const cell = at === null ? null : this.#cells[at];
    const gone = this.#cells.filter(({ rejected }) => rejected).length;
    const all = `${this.#cells.length} particles: ${DESCRIPTIONS[this.kind]}${gone ? ` · ${gone} of them rejected` : ""}`;
    this.#parts.status.textContent = cell ? `${this.#hooks.nameOf(cell.micrograph)} · ${this.#hooks.scored(cell.score)}${cell.rejected ? " · rejected" : ""}` : this.#cells.length ? all : "";
  }

  /** @param {EventTarget | null} target */
  #placeOf(target) {
    const cell = target instanceof Element ? target.closest(".cell") : null;
    return cell instanceof HTMLElement ? Number(cell.dataset.at) : null;
  }

  /** @param {Pick<MouseEvent, "target" | "shiftKey"> & Partial<MouseEvent>} event */
  #click(event) {
    const at = this.#placeOf(event.target);
    if (at === null) return;
    if (event.ctrlKey || event.metaKey) return void this.#hooks.onOpen(this.#cells[at]);
    if (event.shiftKey && this.#anchor) {
      const [first, last] = [Math.min(at, this.#anchor.at), Math.max(at, this.#anchor.at)];
      this.#reject(this.#cells.slice(first, last + 1), this.#anchor.rejected);
      return;
    }
    this.#anchor = { at, rejected: !this.#cells[at].rejected };
    this.#reject([this.#cells[at]], this.#anchor.rejected);
  }

  /**
   * @param {Cell[]} cells
   * @param {boolean} rejected
   */
  #reject(cells, rejected) {
    const changed = cells.filter((cell) => cell.rejected !== rejected).map(({ micrograph, index }) => ({ micrograph, index }));
    if (changed.length) this.#hooks.onReject(changed, rejected);
  }

  /** @param {KeyboardEvent} event */
  #press(event) {
    const at = this.#placeOf(event.target);
    if (at === null || event.altKey) return;
    if (event.key === "x" || event.key === "X") {
      event.preventDefault();
      return void this.#click({ target: event.target, shiftKey: event.shiftKey });
    }
    if (event.key === "o" || event.key === "O") return void this.#hooks.onOpen(this.#cells[at]);
    const wide = Math.max(1, this.#elements.findIndex((element) => element.offsetTop > this.#elements[0].offsetTop));
    /** @type {Record<string, number>} */
    const steps = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: wide, ArrowUp: -wide, Home: -at, End: this.#cells.length };
    const step = steps[event.key];
    if (step === undefined || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    event.stopPropagation();
    const next = Math.min(Math.max(at + step, 0), this.#cells.length - 1);
    this.#elements[at].tabIndex = -1;
    this.#elements[next].tabIndex = 0;
    this.#elements[next].focus();
  }
}

/**
 * A listener that keeps a setting of the gallery in this browser, and then does what follows from it.
 * @param {string} name
 * @param {() => unknown} value
 * @param {() => void} then
 */
function kept(name, value, then) {
  return () => {
    remember(`gallery ${name}`, value());
    then();
  };
}
