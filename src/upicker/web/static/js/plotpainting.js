/**
 * Paints the plot of all scores: paint(context, content).
 *
 * Bars are the histogram, the bright line is how many picks each threshold keeps; with labels, precision (dashed),
 * recall (dotted) and F1 (solid) over their own axis at the right. The stored threshold is a small flag.
 */

import { clamp, countTicks, figure, scaled, short, ticks } from "./histogram.js";

export const LEFT = 58; // css px for the axis of counts
export const RIGHT = 40; // for that of fractions
const TOP = 24;
const BOTTOM = 22;
/** @type {["precision" | "recall" | "f1", number[], string][]} */
const LINES = [["precision", [7, 4], "P"], ["recall", [2, 3], "R"], ["f1", [], "F1"]];

/**
 * What is to be painted; `colour` gives the colour of a CSS variable.
 * @typedef {object} Content
 * @property {PickSummary} summary
 * @property {PickCurve} curve
 * @property {number} width css px
 * @property {number} height css px
 * @property {boolean} isLog whether counts are on a logarithmic axis
 * @property {number} threshold
 * @property {number | null} hover the score under the pointer
 * @property {boolean} drag whether the threshold's line is being dragged
 * @property {(name: string) => string} colour
 *
 * The same with what turns scores and fractions (0..1) into css pixels.
 * @typedef {Content & {context: CanvasRenderingContext2D, bottom: number, x: (score: number) => number, y: (fraction: number) => number}} Pen
 */

/**
 * @param {CanvasRenderingContext2D} context
 * @param {Content} content
 */
export function paint(context, content) {
  const { summary: { low, high }, width, height } = content;
  context.font = "13px system-ui, sans-serif";
  context.textBaseline = "middle";
  const pen = {
    ...content, context, bottom: height - BOTTOM,
    /** @param {number} score */
    x: (score) => LEFT + ((score - low) / (high - low)) * (width - LEFT - RIGHT),
    /** @param {number} fraction */
    y: (fraction) => height - BOTTOM - fraction * (height - BOTTOM - TOP),
  };
  const most = Math.max(1, ...content.curve.counts);
  axes(pen, most);
  bars(pen);
  curves(pen, most);
  legend(pen);
  unknown(pen);
  flags(pen);
}

/** @param {Pen} pen */
function bars(pen) {
  const { context, curve: { thresholds, histogram } } = pen;
  const tallest = Math.max(1, ...histogram);
  context.fillStyle = "#5b6875";
  for (let bin = 0; bin < histogram.length; bin++) {
    const [from, to] = [pen.x(thresholds[bin]), pen.x(thresholds[bin + 1])];
    const top = pen.y(scaled(histogram[bin], tallest, pen.isLog));
    context.globalAlpha = thresholds[bin] >= pen.threshold ? 1 : 0.45;
    context.fillRect(from, top, Math.max(1, to - from - 0.5), pen.bottom - top);
  }
  context.globalAlpha = 1;
}

/**
 * @param {Pen} pen
 * @param {number} most the highest count
 */
function curves(pen, most) {
  const { thresholds, counts } = pen.curve;
  line(pen, thresholds, counts.map((count) => scaled(count, most, pen.isLog)), pen.colour("--pick"), []);
  const end = counts.findLastIndex((count) => count > 0) + 1; // without picks there is no precision
  for (const [name, dash] of LINES) {
    const values = pen.curve[name];
    if (values) line(pen, thresholds.slice(0, end), values, pen.colour("--right"), dash);
  }
}

/**
 * @param {Pen} pen
 * @param {number} most the highest count
 */
function axes(pen, most) {
  const { context, summary: { low, high } } = pen;
  context.fillStyle = pen.colour("--muted");
  context.strokeStyle = "#333b44";
  context.lineWidth = 1;
  context.textAlign = "right";
  let last = Infinity;
  for (const count of countTicks(most, pen.isLog)) {
    const y = Math.round(pen.y(scaled(count, most, pen.isLog))) + 0.5;
    if (last - y < 17) continue;
    last = y;
    stroke(context, LEFT, y, pen.width - RIGHT, y);
    context.fillText(short(count), LEFT - 8, y);
  }
  context.textAlign = "left";
  if (pen.curve.f1) for (const fraction of [0, 0.5, 1]) context.fillText(String(fraction), pen.width - RIGHT + 8, pen.y(fraction));
  context.textAlign = "center";
  for (const score of ticks(low, high, Math.max(2, Math.min(10, Math.floor(pen.width / 90))))) {
    context.fillText(figure(score), pen.x(score), pen.height - BOTTOM / 2 + 2);
  }
}

/** @param {Pen} pen */
function legend(pen) {
  const { context } = pen;
  let right = pen.width - RIGHT;
  context.textAlign = "right";
  /** @type {[string, string, number[] | null][]} */
  const parts = [[`histogram: ${pen.summary.score.words}`, "#8b98a5", null], ["picks kept", pen.colour("--pick"), []]];
  if (pen.curve.f1) for (const [, dash, text] of LINES) parts.push([text, pen.colour("--right"), dash]);
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

/**
 * Hatches scores below which nothing was picked.
 * @param {Pen} pen
 */
function unknown(pen) {
  const { context, summary: { picked_at: at, low, high } } = pen;
  if (at === null || at <= low) return;
  const [from, to] = [LEFT, pen.x(Math.min(at, high))];
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

/** @param {Pen} pen */
function flags(pen) {
  const { context, summary: { threshold: stored, low, high } } = pen;
  if (stored !== null && stored >= low && stored <= high) {
    const x = Math.round(pen.x(stored)) + 0.5;
    context.strokeStyle = context.fillStyle = pen.colour("--proposal");
    context.lineWidth = 1.5;
    context.setLineDash([3, 3]);
    stroke(context, x, TOP, x, pen.bottom);
    context.setLineDash([]);
    triangle(context, x, pen.bottom);
  }
  if (pen.hover !== null) {
    context.strokeStyle = "#9aa6b2";
    context.lineWidth = 1;
    stroke(context, pen.x(pen.hover), TOP, pen.x(pen.hover), pen.bottom);
    tip(pen, pen.hover);
  }
  const x = Math.round(pen.x(clamp(pen.threshold, low, high)));
  context.strokeStyle = context.fillStyle = pen.colour("--text");
  context.lineWidth = 2;
  stroke(context, x, TOP - 8, x, pen.bottom);
  context.beginPath();
  context.roundRect(x - 6, TOP - 10, 12, 18, 4);
  context.fill();
  if (pen.drag) tip(pen, pen.threshold);
}

/**
 * @param {Pen} pen
 * @param {number} score
 */
function tip(pen, score) {
  const { context, curve: { thresholds, counts, f1 }, summary: { low, high } } = pen;
  const at = clamp(Math.round(((score - low) / (high - low)) * (thresholds.length - 1)), 0, thresholds.length - 1);
  const text = `${figure(score)}: about ${counts[at].toLocaleString("en")} picks${f1 ? `, F1 ${f1[at].toFixed(2)}` : ""}`;
  const wide = context.measureText(text).width + 16;
  const left = clamp(pen.x(score) + 10, LEFT, pen.width - RIGHT - wide);
  context.fillStyle = "#11151aee";
  context.fillRect(left, TOP + 6, wide, 24);
  context.fillStyle = pen.colour("--text");
  context.textAlign = "left";
  context.fillText(text, left + 8, TOP + 18);
}

/**
 * @param {Pen} pen
 * @param {number[]} scores
 * @param {number[]} fractions
 * @param {string} colour
 * @param {number[]} dash
 */
function line(pen, scores, fractions, colour, dash) {
  const { context } = pen;
  context.strokeStyle = colour;
  context.lineWidth = 2;
  context.lineJoin = "round";
  context.setLineDash(dash);
  context.beginPath();
  scores.forEach((score, index) => context.lineTo(pen.x(score), pen.y(fractions[index])));
  context.stroke();
  context.setLineDash([]);
}

/**
 * @param {CanvasRenderingContext2D} context
 * @param {number} x0
 * @param {number} y0
 * @param {number} x1
 * @param {number} y1
 */
function stroke(context, x0, y0, x1, y1) {
  context.beginPath();
  context.moveTo(x0, y0);
  context.lineTo(x1, y1);
  context.stroke();
}

/**
 * @param {CanvasRenderingContext2D} context
 * @param {number} x
 * @param {number} y
 */
function triangle(context, x, y) {
  context.beginPath();
  context.moveTo(x, y - 1);
  context.lineTo(x - 6, y + 8);
  context.lineTo(x + 6, y + 8);
  context.fill();
}
