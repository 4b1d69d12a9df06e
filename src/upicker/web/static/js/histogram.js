/**
 * The threshold: a plot of all scores with a line that one drags, and its controls.
 *
 *   const plot = new Histogram(element, {onMove})     onMove(threshold, final): final when the line is let go
 *   plot.use(summary, curve)                          answers of /api/picks/summary and /api/picks/curve
 *   plot.threshold = 0.3                              moves the line without calling onMove
 *   plot.say(text)                                    what the present threshold gives
 *
 * Bars are the histogram, the bright line is how many picks each threshold keeps; with labels, precision (dashed),
 * recall (dotted) and F1 (solid) over their own axis at the right. The stored threshold is a small flag.
 */

import { check, h, remember } from "./ui.js";

const LEFT = 58; // css px for the axis of counts
const RIGHT = 40; // for that of shares
const TOP = 24;
const BOTTOM = 22;
const FINE = 1 / 500; // of the range, a step of the arrow keys
const LINES = [["precision", [7, 4], "P"], ["recall", [2, 3], "R"], ["f1", [], "F1"]];

export class Histogram {
  #onMove;
  #summary = null;
  #curve = null;
  #threshold = 0;
  #hover = null;
  #drag = false;
  #frame = 0;
  #parts;

  constructor(element, { onMove }) {
    this.#onMove = onMove;
    const part = (this.#parts = {
      input: h("input", { class: "input number", type: "text", inputmode: "decimal", id: "threshold", autocomplete: "off" }),
      stored: h("button", { class: "button", type: "button", hidden: true, onclick: () => this.#go(this.#summary.threshold) }),
      best: h("button", { class: "button", type: "button", hidden: true, onclick: () => this.#go(this.#best().threshold) }),
      log: check({ text: "Log scale", value: remember("inspect log") ?? false, change: (value) => (remember("inspect log", value), this.#redraw()) }),
      note: h("div", { class: "remark" }),
      canvas: h("canvas"),
    });
    part.graph = h("div", { class: "graph", role: "slider", tabindex: "0", "aria-label": "Threshold" }, part.canvas);
    element.append(
      h("div", { class: "controls" },
        h("div", { class: "row" }, h("label", { class: "field" }, h("span", {}, "Threshold"), part.input), part.log.element),
        h("div", { class: "row tight" }, part.stored, part.best), part.note),
      part.graph);
    this.element = element;
    this.#listen();
    new ResizeObserver(() => this.#redraw()).observe(part.graph);
  }

  use(summary, curve) {
    this.#summary = summary;
    this.#curve = curve;
    const part = this.#parts;
    part.stored.hidden = summary.threshold === null;
    if (summary.threshold !== null) part.stored.textContent = `Stored: ${figure(summary.threshold)}`;
    const best = this.#best();
    part.best.hidden = best === null;
    if (best) part.best.textContent = `Best F1 (${best.f1.toFixed(3)}): ${figure(best.threshold)}`;
    part.note.textContent = summary.note;
    part.graph.setAttribute("aria-valuemin", summary.low);
    part.graph.setAttribute("aria-valuemax", summary.high);
    this.#redraw();
  }

  get threshold() {
    return this.#threshold;
  }

  set threshold(value) {
    this.#threshold = value;
    if (document.activeElement !== this.#parts.input) this.#parts.input.value = figure(value);
    this.#parts.graph.setAttribute("aria-valuenow", figure(value));
    this.#redraw();
  }

  say(text) {
    this.#parts.graph.setAttribute("aria-valuetext", `${figure(this.#threshold)}: ${text}`);
  }

  /** Moves the line by so many steps; used by keys of the whole page, too. */
  step(count) {
    if (this.#summary) this.#go(clamp(this.#threshold + count * FINE * this.#range(), this.#summary.low, this.#summary.high));
  }

  #range() {
    return this.#summary.high - this.#summary.low;
  }

  #best() {
    const f1 = this.#curve?.f1;
    if (!f1) return null;
    const at = f1.reduce((best, value, index) => (value > f1[best] ? index : best), 0);
    return { f1: f1[at], threshold: this.#curve.thresholds[at] };
  }

  #go(threshold, final = true) {
    if (!this.#summary || !Number.isFinite(threshold)) return;
    this.threshold = threshold;
    this.#onMove(threshold, final);
  }

  #listen() {
    const { graph, input } = this.#parts;
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
    graph.addEventListener("pointerleave", () => ((this.#hover = null), this.#redraw()));
    graph.addEventListener("keydown", (event) => {
      const steps = { ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1, PageDown: -25, PageUp: 25 }[event.key];
      if (event.ctrlKey || event.altKey || event.metaKey || !this.#summary) return;
      if (steps) this.step(event.shiftKey ? 10 * steps : steps);
      else if (event.key === "Home") this.#go(this.#summary.low);
      else if (event.key === "End") this.#go(this.#summary.high);
      else return;
      event.preventDefault();
      event.stopPropagation();
    });
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

  #at(event) {
    const box = this.#parts.graph.getBoundingClientRect();
    const share = (event.clientX - box.left - LEFT) / Math.max(1, box.width - LEFT - RIGHT);
    const value = this.#summary.low + clamp(share, 0, 1) * this.#range();
    const step = 10 ** Math.floor(Math.log10(this.#range() / 1000));
    return Number((Math.round(value / step) * step).toPrecision(12)); // a number that one can read out
  }

  #redraw() {
    this.#frame ||= requestAnimationFrame(() => {
      this.#frame = 0;
      this.#draw();
    });
  }

  #draw() {
    const { canvas, graph } = this.#parts;
    const ratio = window.devicePixelRatio || 1;
    const [width, height] = [graph.clientWidth, graph.clientHeight];
    if (!width || !height) return;
    if (canvas.width !== Math.round(width * ratio)) canvas.width = Math.round(width * ratio);
    if (canvas.height !== Math.round(height * ratio)) canvas.height = Math.round(height * ratio);
    const context = canvas.getContext("2d");
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.clearRect(0, 0, width, height);
    context.font = "13px system-ui, sans-serif";
    context.textBaseline = "middle";
    const style = getComputedStyle(this.element);
    const pen = {
      context, width, height, bottom: height - BOTTOM,
      colour: (name) => style.getPropertyValue(name).trim(),
      x: (score) => LEFT + ((score - this.#summary.low) / this.#range()) * (width - LEFT - RIGHT),
      y: (share) => height - BOTTOM - share * (height - BOTTOM - TOP),
    };
    if (this.#summary && this.#curve) this.#paint(pen);
  }

  #paint(pen) {
    const { thresholds, counts, histogram } = this.#curve;
    const scaled = this.#parts.log.value ? (value, most) => Math.log1p(value) / Math.log1p(most) : (value, most) => value / most;
    const [most, tallest] = [Math.max(1, ...counts), Math.max(1, ...histogram)];
    this.#axes(pen, most, scaled);
    const { context } = pen;
    context.fillStyle = "#5b6875";
    for (let bin = 0; bin < histogram.length; bin++) {
      const [from, to] = [pen.x(thresholds[bin]), pen.x(thresholds[bin + 1])];
      const top = pen.y(scaled(histogram[bin], tallest));
      context.globalAlpha = thresholds[bin] >= this.#threshold ? 1 : 0.45;
      context.fillRect(from, top, Math.max(1, to - from - 0.5), pen.bottom - top);
    }
    context.globalAlpha = 1;
    line(pen, thresholds, counts.map((count) => scaled(count, most)), pen.colour("--pick"), []);
    const end = counts.findLastIndex((count) => count > 0) + 1; // without picks there is no precision
    for (const [name, dash] of LINES) if (this.#curve[name]) line(pen, thresholds.slice(0, end), this.#curve[name], pen.colour("--right"), dash);
    this.#legend(pen);
    this.#unknown(pen);
    this.#flags(pen);
  }

  #axes(pen, most, scaled) {
    const { context } = pen;
    context.fillStyle = pen.colour("--muted");
    context.strokeStyle = "#333b44";
    context.lineWidth = 1;
    context.textAlign = "right";
    let last = Infinity;
    for (const count of countTicks(most, this.#parts.log.value)) {
      const y = Math.round(pen.y(scaled(count, most))) + 0.5;
      if (last - y < 17) continue;
      last = y;
      stroke(context, LEFT, y, pen.width - RIGHT, y);
      context.fillText(short(count), LEFT - 8, y);
    }
    context.textAlign = "left";
    if (this.#curve.f1) for (const share of [0, 0.5, 1]) context.fillText(String(share), pen.width - RIGHT + 8, pen.y(share));
    context.textAlign = "center";
    for (const score of ticks(this.#summary.low, this.#summary.high, Math.max(2, Math.min(10, Math.floor(pen.width / 90))))) {
      context.fillText(figure(score), pen.x(score), pen.height - BOTTOM / 2 + 2);
    }
  }

  #legend(pen) {
    const { context } = pen;
    let right = pen.width - RIGHT;
    context.textAlign = "right";
    const parts = [["histogram", "#8b98a5", null], ["picks kept", pen.colour("--pick"), []]];
    if (this.#curve.f1) for (const [, dash, text] of LINES) parts.push([text, pen.colour("--right"), dash]);
    for (const [text, colour, dash] of parts.reverse()) {
      context.fillStyle = context.strokeStyle = colour;
      context.fillText(text, right, 9);
      right -= context.measureText(text).width + 8;
      if (dash === null) context.fillRect(right - 14, 4, 14, 10);
      else {
        context.lineWidth = 2;
        context.setLineDash(dash);
        stroke(context, right - 22, 9, right, 9);
        context.setLineDash([]);
      }
      right -= dash === null ? 32 : 40;
    }
  }

  /** Hatches scores below which nothing was picked. */
  #unknown(pen) {
    const at = this.#summary.picked_at;
    if (at === null || at <= this.#summary.low) return;
    const { context } = pen;
    const [from, to] = [LEFT, pen.x(Math.min(at, this.#summary.high))];
    context.save();
    context.beginPath();
    context.rect(from, TOP - 2, to - from, pen.bottom - TOP + 3);
    context.clip();
    context.fillStyle = pen.colour("--panel");
    context.fillRect(from, TOP - 2, to - from, pen.bottom - TOP + 3);
    context.strokeStyle = "#39424c";
    context.lineWidth = 1;
    for (let x = from - pen.height; x < to; x += 8) stroke(context, x, pen.bottom, x + pen.height, pen.bottom - pen.height);
    if (to - from > 90) {
      context.fillStyle = pen.colour("--muted");
      context.textAlign = "center";
      context.fillText("not picked", (from + to) / 2, (TOP + pen.bottom) / 2);
    }
    context.restore();
  }

  #flags(pen) {
    const { context } = pen;
    const { threshold, low, high } = this.#summary;
    if (threshold !== null && threshold >= low && threshold <= high) {
      const x = Math.round(pen.x(threshold)) + 0.5;
      context.strokeStyle = context.fillStyle = pen.colour("--proposal");
      context.lineWidth = 1.5;
      context.setLineDash([3, 3]);
      stroke(context, x, TOP, x, pen.bottom);
      context.setLineDash([]);
      triangle(context, x, pen.bottom);
    }
    if (this.#hover !== null) {
      context.strokeStyle = "#9aa6b2";
      context.lineWidth = 1;
      stroke(context, pen.x(this.#hover), TOP, pen.x(this.#hover), pen.bottom);
      this.#tip(pen, this.#hover);
    }
    const x = Math.round(pen.x(clamp(this.#threshold, low, high)));
    context.strokeStyle = context.fillStyle = pen.colour("--text");
    context.lineWidth = 2;
    stroke(context, x, TOP - 8, x, pen.bottom);
    context.beginPath();
    context.roundRect(x - 6, TOP - 10, 12, 18, 4);
    context.fill();
    if (this.#drag) this.#tip(pen, this.#threshold);
  }

  #tip(pen, score) {
    const { thresholds, counts, f1 } = this.#curve;
    const at = clamp(Math.round(((score - this.#summary.low) / this.#range()) * (thresholds.length - 1)), 0, thresholds.length - 1);
    const text = `${figure(score)}: about ${counts[at].toLocaleString("en")} picks${f1 ? `, F1 ${f1[at].toFixed(2)}` : ""}`;
    const { context } = pen;
    const wide = context.measureText(text).width + 16;
    const left = clamp(pen.x(score) + 10, LEFT, pen.width - RIGHT - wide);
    context.fillStyle = "#11151aee";
    context.fillRect(left, TOP + 6, wide, 24);
    context.fillStyle = pen.colour("--text");
    context.textAlign = "left";
    context.fillText(text, left + 8, TOP + 18);
  }
}

/** Four digits, as short as can be. */
export function figure(value) {
  return String(Number(value.toPrecision(4)));
}

function line(pen, scores, shares, colour, dash) {
  const { context } = pen;
  context.strokeStyle = colour;
  context.lineWidth = 2;
  context.lineJoin = "round";
  context.setLineDash(dash);
  context.beginPath();
  scores.forEach((score, index) => context.lineTo(pen.x(score), pen.y(shares[index])));
  context.stroke();
  context.setLineDash([]);
}

function stroke(context, x0, y0, x1, y1) {
  context.beginPath();
  context.moveTo(x0, y0);
  context.lineTo(x1, y1);
  context.stroke();
}

function triangle(context, x, y) {
  context.beginPath();
  context.moveTo(x, y - 1);
  context.lineTo(x - 6, y + 8);
  context.lineTo(x + 6, y + 8);
  context.fill();
}

function clamp(value, low, high) {
  return Math.min(Math.max(value, low), Math.max(low, high));
}

function ticks(low, high, count) {
  const rough = (high - low) / count;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].find((digit) => digit * power >= rough) * power;
  const found = [];
  for (let index = Math.ceil(low / step - 1e-9); index * step <= high + step * 1e-9; index++) found.push(Number((index * step).toPrecision(12)));
  return found;
}

function countTicks(most, isLog) {
  if (!isLog) return ticks(0, most, 4).filter(Number.isInteger);
  const found = [0];
  for (let power = 1; power <= most; power *= 10) found.push(power);
  return found;
}

function short(count) {
  if (count >= 1e6) return `${Number((count / 1e6).toPrecision(3))} M`;
  return count >= 1e4 ? `${Number((count / 1e3).toPrecision(3))} k` : String(count);
}
