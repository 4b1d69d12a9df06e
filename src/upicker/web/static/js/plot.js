/**
 * The threshold: a plot of all scores with a line that one drags, and its controls.
 *
 *   const plot = new ThresholdPlot(element, {onMove})   onMove(threshold, final): final when the line is let go
 *   plot.use(summary, curve)                            responses of /api/picks/summary and /api/picks/curve
 *   plot.threshold = 0.3                                moves the line without calling onMove
 *   plot.describe(text)                                 what the present threshold gives
 */

import { best, clamp, figure, readable } from "./histogram.js";
import { LEFT, paint, RIGHT } from "./plotpainting.js";
import { check, context2d, h, remember } from "./ui.js";

const FINE = 1 / 500; // of the range, a step of the arrow keys
/** @type {Record<string, number>} */
const STEPS = { ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1, PageDown: -25, PageUp: 25 };

export class ThresholdPlot {
  /** @type {(threshold: number, final: boolean) => void} */
  #onMove;
  /** @type {PickSummary | null} */
  #summary = null;
  /** @type {PickCurve | null} */
  #curve = null;
  #threshold = 0;
  /** @type {number | null} */
  #hover = null;
  #drag = false;
  #frame = 0;
  #element;
  #input = h("input", { class: "input number", type: "text", inputmode: "decimal", id: "threshold", autocomplete: "off" });
  #stored = h("button", { class: "button", type: "button", hidden: true, onclick: () => this.#go(this.#summary?.threshold ?? NaN) });
  #best = h("button", { class: "button", type: "button", hidden: true, onclick: () => this.#go(best(this.#curve)?.threshold ?? NaN) });
  #log = check({
    text: "Log scale", value: remember("inspect log") ?? false,
    change: (value) => {
      remember("inspect log", value);
      this.#redraw();
    },
  });
  #note = h("div", { class: "remark" });
  #canvas = h("canvas");
  #graph = h("div", { class: "graph", role: "slider", tabindex: "0", "aria-label": "Threshold" }, this.#canvas);

  /**
   * @param {HTMLElement} element
   * @param {{onMove: (threshold: number, final: boolean) => void}} hooks
   */
  constructor(element, { onMove }) {
    this.#onMove = onMove;
    this.#element = element;
    element.append(
      h("div", { class: "controls" },
        h("div", { class: "row" }, h("label", { class: "field" }, h("span", {}, "Threshold"), this.#input), this.#log.element),
        h("div", { class: "row tight" }, this.#stored, this.#best), this.#note),
      this.#graph);
    this.#listen();
    new ResizeObserver(() => this.#redraw()).observe(this.#graph);
  }

  /**
   * @param {PickSummary} summary
   * @param {PickCurve} curve
   */
  use(summary, curve) {
    this.#summary = summary;
    this.#curve = curve;
    this.#stored.hidden = summary.threshold === null;
    if (summary.threshold !== null) this.#stored.textContent = `Stored: ${figure(summary.threshold)}`;
    const top = best(curve);
    this.#best.hidden = top === null;
    if (top) this.#best.textContent = `Best F1 (${top.f1.toFixed(3)}): ${figure(top.threshold)}`;
    this.#note.textContent = summary.note;
    this.#graph.setAttribute("aria-label", `Threshold: ${summary.score.words}`);
    this.#graph.setAttribute("aria-valuemin", String(summary.low));
    this.#graph.setAttribute("aria-valuemax", String(summary.high));
    this.#redraw();
  }

  get threshold() {
    return this.#threshold;
  }

  set threshold(value) {
    this.#threshold = value;
    if (document.activeElement !== this.#input) this.#input.value = figure(value);
    this.#graph.setAttribute("aria-valuenow", figure(value));
    this.#redraw();
  }

  /** @param {string} text */
  describe(text) {
    this.#graph.setAttribute("aria-valuetext", `${figure(this.#threshold)}: ${text}`);
  }

  /**
   * Moves the line by some steps; the keys of the whole page use it, too.
   * @param {number} count
   */
  step(count) {
    if (!this.#summary) return;
    const { low, high } = this.#summary;
    this.#go(clamp(this.#threshold + count * FINE * (high - low), low, high));
  }

  #go(threshold = NaN, final = true) {
    if (!this.#summary || !Number.isFinite(threshold)) return;
    this.threshold = threshold;
    this.#onMove(threshold, final);
  }

  #listen() {
    const graph = this.#graph;
    graph.addEventListener("pointerdown", (event) => {
      if (!this.#summary || event.button) return;
      graph.setPointerCapture(event.pointerId);
      this.#drag = true;
      this.#hover = null;
      this.#go(this.#at(event), false);
    });
    graph.addEventListener("pointermove", (event) => {
      if (this.#drag) return this.#go(this.#at(event), false);
      this.#hover = this.#summary ? this.#at(event) : null;
      this.#redraw();
    });
    const end = () => {
      if (!this.#drag) return;
      this.#drag = false;
      this.#go(this.#threshold);
    };
    graph.addEventListener("pointerup", end);
    graph.addEventListener("pointercancel", end);
    graph.addEventListener("pointerleave", () => {
      this.#hover = null;
      this.#redraw();
    });
    graph.addEventListener("keydown", (event) => this.#press(event));
    this.#listenToInput();
  }

  /** @param {KeyboardEvent} event */
  #press(event) {
    if (event.ctrlKey || event.altKey || event.metaKey || !this.#summary) return;
    const steps = STEPS[event.key];
    if (steps) this.step(event.shiftKey ? 10 * steps : steps);
    else if (event.key === "Home") this.#go(this.#summary.low);
    else if (event.key === "End") this.#go(this.#summary.high);
    else return;
    event.preventDefault();
    event.stopPropagation();
  }

  #listenToInput() {
    const input = this.#input;
    input.addEventListener("change", () => {
      const value = Number(input.value.trim().replace(",", "."));
      const isNumber = input.value.trim() !== "" && Number.isFinite(value);
      input.setAttribute("aria-invalid", String(!isNumber));
      if (isNumber) this.#go(value);
    });
    input.addEventListener("keydown", (event) => event.key === "Enter" && input.blur());
    input.addEventListener("blur", () => {
      if (input.getAttribute("aria-invalid") !== "true") input.value = figure(this.#threshold);
    });
  }

  /**
   * The threshold under the pointer.
   * @param {PointerEvent} event
   */
  #at(event) {
    const { low, high } = this.#summary ?? { low: 0, high: 1 };
    const box = this.#graph.getBoundingClientRect();
    const fraction = (event.clientX - box.left - LEFT) / Math.max(1, box.width - LEFT - RIGHT);
    return readable(low + clamp(fraction, 0, 1) * (high - low), high - low);
  }

  #redraw() {
    if (this.#frame) return;
    this.#frame = requestAnimationFrame(() => {
      this.#frame = 0;
      this.#draw();
    });
  }

  #draw() {
    const canvas = this.#canvas;
    const ratio = window.devicePixelRatio || 1;
    const [width, height] = [this.#graph.clientWidth, this.#graph.clientHeight];
    if (!width || !height) return;
    if (canvas.width !== Math.round(width * ratio)) canvas.width = Math.round(width * ratio);
    if (canvas.height !== Math.round(height * ratio)) canvas.height = Math.round(height * ratio);
    const context = context2d(canvas);
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.clearRect(0, 0, width, height);
    const [summary, curve] = [this.#summary, this.#curve];
    if (!summary || !curve) return;
    const style = getComputedStyle(this.#element);
    paint(context, {
      summary, curve, width, height, isLog: this.#log.value, threshold: this.#threshold, hover: this.#hover, drag: this.#drag,
      colour: (name) => style.getPropertyValue(name).trim(),
    });
  }
}
