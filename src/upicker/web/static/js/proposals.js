/**
 * Particles that a filter or a model proposes for one micrograph, and the panel that asks for them.
 *
 *   const proposals = new Proposals(response)    response of POST …/proposals, by falling score
 *   proposals.list                               [{index, x, y, score}], raw px
 *   proposals.threshold                          get/set
 *   proposals.visible                            above the threshold, neither rejected nor labelled
 *   proposals.chosen                             Set of indices that are selected
 *   proposals.hideLabelled(points, radius)       call when labels changed
 *   proposals.nearest(point, reach), proposals.reject(index, value), proposals.choose(keep, test)
 *
 *   const panel = new ProposalPanel(editor, {onSource})
 *   panel.shift(1 | -1): more or fewer; panel.following: the source after this one
 *   panel.element, panel.source ("none" | "alog" | "model"), panel.show(), panel.state(text, busy)
 */

import { h, segmented, slider } from "./ui.js";

const SAME = 0.8; // of a radius: a proposal this near a label is the labelled particle

/**
 * One proposal: its place in the list, by falling score; raw pixels.
 * @typedef {{index: number, x: number, y: number, score: number}} Proposal
 *
 * Response of POST /api/micrographs/{id}/proposals; said: of the diameter, if it was estimated for them.
 * @typedef {{particles: [number, number, number][], threshold: number | null, diameter_px: number | null, said: string}} ProposalResponse
 */

export class Proposals {
  #threshold = 0;
  /** @type {Set<number>} */
  #rejected = new Set();
  /** @type {Set<number>} */
  #labelled = new Set();
  /** @type {Proposal[] | null} */
  #visible = null;
  /** @type {string | null} */
  source = null; // who proposes them: "alog" or "model"

  /** @param {ProposalResponse} response */
  constructor({ particles, threshold }) {
    /** @type {Proposal[]} */
    this.list = particles.map(([x, y, score], index) => ({ index, x, y, score }));
    /** @type {Set<number>} */
    this.chosen = new Set();
    this.#threshold = threshold ?? 0;
  }

  get threshold() {
    return this.#threshold;
  }

  set threshold(value) {
    this.#threshold = value;
    this.#visible = null;
  }

  get above() {
    return this.list.filter(({ score }) => score >= this.#threshold).length;
  }

  get visible() {
    this.#visible ??= this.list.filter(({ index, score }) => score >= this.#threshold && !this.#rejected.has(index) && !this.#labelled.has(index));
    return this.#visible;
  }

  /**
   * Labels by cells as wide as the reach, so that only neighbours are compared.
   * @param {Iterable<Point>} points
   * @param {number} radius
   */
  hideLabelled(points, radius) {
    const reach = SAME * radius;
    /** @type {Map<string, Point[]>} */
    const cells = new Map();
    /** @type {(x: number, y: number) => string} */
    const cell = (x, y) => `${Math.floor(x / reach)} ${Math.floor(y / reach)}`;
    for (const point of points) {
      for (const dx of [-reach, 0, reach]) {
        for (const dy of [-reach, 0, reach]) {
          const address = cell(point.x + dx, point.y + dy);
          const others = cells.get(address);
          if (others) others.push(point);
          else cells.set(address, [point]);
        }
      }
    }
    /** @param {Point} one */
    const isNear = (one) => cells.get(cell(one.x, one.y))?.some((point) => Math.hypot(point.x - one.x, point.y - one.y) < reach);
    this.#labelled = new Set(this.list.filter(isNear).map(({ index }) => index));
    this.#visible = null;
  }

  /**
   * @param {number} index
   * @param {boolean} value
   */
  reject(index, value) {
    if (value) this.#rejected.add(index);
    else this.#rejected.delete(index);
    this.chosen.delete(index);
    this.#visible = null;
  }

  /**
   * @param {Point} point
   * @param {number} reach
   * @returns {number | null}
   */
  nearest(point, reach) {
    let best = null;
    let least = reach;
    for (const { index, x, y } of this.visible) {
      const distance = Math.hypot(x - point.x, y - point.y);
      if (distance < least) [best, least] = [index, distance];
    }
    return best;
  }

  /**
   * @param {boolean} keep
   * @param {(proposal: Proposal) => boolean} test
   */
  choose(keep, test) {
    if (!keep) this.chosen.clear();
    for (const each of this.visible) if (test(each)) this.chosen.add(each.index);
  }
}

export class ProposalPanel {
  #editor;
  #parts;
  #sources;
  /** @type {number[]} */
  #steps = []; // scores that the slider can stop at, by falling score

  /**
   * @param {import("./editor.js").Editor} editor
   * @param {{onSource: (source: string) => void}} hooks
   */
  constructor(editor, { onSource }) {
    this.#editor = editor;
    const options = [["none", "none"], ["alog", "automatic"], ["model", "model"]];
    this.#sources = options.map(([name]) => name);
    this.#parts = {
      source: segmented({ text: "Start from proposals of", name: "proposals", value: "none", options, change: (source) => onSource(source) }),
      threshold: slider({
        text: "Fewer … more", kind: "proposal", step: 1, show: () => this.#text(),
        input: (rank) => this.#set(rank),
      }),
      accept: h("button", { class: "button primary grow", type: "button", onclick: () => this.accept() }),
      state: h("p", { class: "muted", role: "status" }),
      more: h("div", { class: "stack" }),
    };
    const part = this.#parts;
    this.touched = false;
    part.more.append(part.threshold.element, h("div", { class: "row" }, part.accept, h("span", { class: "key" }, "Enter")));
    this.element = h("div", { class: "stack" }, part.source.element, part.state, part.more);
    this.show();
  }

  get source() { return this.#parts.source.value ?? "none"; }

  set source(value) { this.#parts.source.value = value; }

  get following() {
    const names = this.#sources;
    return names[(names.indexOf(this.source) + 1) % names.length];
  }

  /** @param {number} direction */
  shift(direction) {
    const { proposals } = this.#editor;
    if (!proposals) return;
    const step = Math.max(1, Math.round(proposals.above * 0.05));
    this.#set(this.#parts.threshold.value + direction * step);
  }

  accept() {
    const { proposals } = this.#editor;
    if (!proposals) return;
    const chosen = [...proposals.chosen];
    this.#editor.accept(chosen.length ? chosen : proposals.visible.map(({ index }) => index));
    proposals.chosen.clear();
  }

  /**
   * @param {string} text
   * @param {boolean} [busy]
   */
  state(text, busy = false) {
    this.#parts.state.replaceChildren(...(busy ? [h("span", { class: "row" }, h("span", { class: "spinner" }), text)] : [text]));
    this.#parts.state.hidden = !text;
  }

  /**
   * Fit the slider to the proposals of the micrograph that is shown.
   * @param {Proposals | null} proposals
   */
  use(proposals) {
    this.#steps = proposals ? [Infinity, ...new Set(proposals.list.map(({ score }) => score))] : [];
    if (proposals) this.#parts.threshold.bounds(0, this.#steps.length - 1);
    this.show();
  }

  show() {
    const { proposals } = this.#editor;
    const part = this.#parts;
    part.more.hidden = !proposals;
    if (!proposals) return;
    part.threshold.value = this.#steps.findLastIndex((score) => score >= proposals.threshold);
    const chosen = proposals.chosen.size;
    const count = chosen || proposals.visible.length;
    part.accept.textContent = chosen ? `Accept ${count} selected` : `Accept ${count}`;
    part.accept.disabled = count === 0;
  }

  /** @param {number} rank */
  #set(rank) {
    const last = this.#steps.length - 1;
    const { proposals } = this.#editor;
    if (!proposals) return;
    proposals.threshold = this.#steps[Math.min(Math.max(rank, 0), last)];
    this.touched = true;
    this.#editor.changed();
  }

  #text() {
    const { proposals } = this.#editor;
    if (!proposals) return "";
    const score = Number.isFinite(proposals.threshold) ? ` above ${Number(proposals.threshold.toPrecision(3))}` : "";
    return `${proposals.above}${score}`;
  }
}
