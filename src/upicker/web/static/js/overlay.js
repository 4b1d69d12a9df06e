/**
 * Draws marks over a micrograph. Layers are drawn in their order; each is a plain object:
 *
 *   {points: [{x, y, radius?}…], radius, colour, width, alpha, dash, fill, dot}
 *       circles; radius in raw px (a point's own comes first), width of the line in css px, dash [on, off] in css px,
 *       fill: alpha of the disc's filling; halo: alpha of a dark line below, for bright micrographs; dot: radius in css px of a filled dot in the middle
 *   {boxes: [[x0, y0, x1, y1]…], colour, width, alpha, dash, fill}
 *       rectangles, raw px
 *   {boxes, outside: true, colour, alpha}
 *       all but the rectangles is filled
 *   {crosses: [{x, y}…], size, colour, width, alpha}
 *       crosses, arms of `size` css px
 *
 * Circles of one size are copies of one small canvas: without a graphics card, drawing each as a curve would take
 * several times as long.
 */

import { context2d } from "./ui.js";

const DARK = "#0b0e11";
const DOTTED = 16; // css px: in smaller circles a dot would hide the particle
const FEW = 6; // circles that are drawn as curves
const LARGE = 160; // css px: copying larger circles would take longer than drawing them
const FINENESS = 4; // radii are told apart by a quarter of a css px
const SMALLEST = 2.5; // css px: circles do not shrink to nothing
const KEPT = 16; // canvases with a circle

/**
 * What is needed of the viewer (viewer.js).
 * @typedef {Pick<import("./viewer.js").Viewer, "toScreen" | "zoom" | "ratio" | "width" | "height">} Viewer
 *
 * A circle on the screen, css px.
 * @typedef {{x: number, y: number, radius: number}} Placed
 */

/** @type {Map<string, {canvas: HTMLCanvasElement, half: number}>} by all that makes a circle look as it does */
const stamps = new Map();

/**
 * @param {CanvasRenderingContext2D} context
 * @param {Layer[]} layers
 * @param {Viewer} viewer
 */
export function draw(context, layers, viewer) {
  context.setTransform(viewer.ratio, 0, 0, viewer.ratio, 0, 0);
  for (const layer of layers) {
    prepare(context, layer);
    if ("boxes" in layer) (layer.outside ? fillOutside : drawBoxes)(context, layer, viewer);
    else if ("crosses" in layer) drawCrosses(context, layer, viewer);
    else drawCircles(context, layer, viewer);
  }
}

/**
 * @param {CanvasRenderingContext2D} context
 * @param {CircleLayer} layer
 * @param {Viewer} viewer
 */
function drawCircles(context, layer, viewer) {
  /** @type {Map<number, Placed[]>} */
  const bySize = new Map();
  for (const point of layer.points) {
    const [x, y] = viewer.toScreen(point.x, point.y);
    const radius = Math.max(Math.round((point.radius ?? layer.radius ?? 0) * viewer.zoom * FINENESS) / FINENESS, SMALLEST);
    if (x < -radius - 4 || y < -radius - 4 || x > viewer.width + radius + 4 || y > viewer.height + radius + 4) continue;
    const others = bySize.get(radius);
    if (others) others.push({ x, y, radius });
    else bySize.set(radius, [{ x, y, radius }]);
  }
  /** @type {Placed[]} */
  const rest = [];
  for (const [radius, circles] of bySize) {
    if (circles.length > FEW && radius < LARGE) copyCircles(context, circles, layer, viewer.ratio);
    else rest.push(...circles);
  }
  if (rest.length) strokeCircles(context, rest, layer);
}

/**
 * @param {CanvasRenderingContext2D} context
 * @param {Placed[]} circles
 * @param {CircleLayer} layer
 */
function strokeCircles(context, circles, layer) {
  const path = new Path2D();
  const dots = new Path2D();
  for (const { x, y, radius } of circles) {
    path.moveTo(x + radius, y);
    path.arc(x, y, radius, 0, 2 * Math.PI);
    if (!layer.dot || radius < DOTTED) continue;
    dots.moveTo(x + layer.dot, y);
    dots.arc(x, y, layer.dot, 0, 2 * Math.PI);
  }
  fillAndStroke(context, path, layer);
  context.fill(dots);
}

/**
 * Copy the canvas of one circle to where circles are, on whole device pixels.
 * @param {CanvasRenderingContext2D} context
 * @param {Placed[]} circles
 * @param {CircleLayer} layer
 * @param {number} ratio
 */
function copyCircles(context, circles, layer, ratio) {
  const { canvas, half } = stampOf(layer, circles[0].radius, ratio);
  context.setTransform(1, 0, 0, 1, 0, 0);
  for (const { x, y } of circles) context.drawImage(canvas, Math.round(x * ratio) - half, Math.round(y * ratio) - half);
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
}

/**
 * @param {CircleLayer} layer
 * @param {number} radius
 * @param {number} ratio
 */
function stampOf(layer, radius, ratio) {
  const key = [radius, ratio, layer.colour, layer.width, layer.dash, layer.fill, layer.halo, layer.dot].join();
  const known = stamps.get(key);
  if (known) return known;
  const half = Math.ceil((radius + (layer.width ?? 2) + 2) * ratio);
  const oldest = stamps.size < KEPT ? "" : (stamps.keys().next().value ?? "");
  const canvas = stamps.get(oldest)?.canvas ?? document.createElement("canvas"); // making one takes long
  stamps.delete(oldest);
  canvas.width = canvas.height = 2 * half; // which also clears it
  const stamp = context2d(canvas);
  stamp.setTransform(ratio, 0, 0, ratio, half, half);
  prepare(stamp, { ...layer, alpha: 1 });
  strokeCircles(stamp, [{ x: 0, y: 0, radius }], layer);
  const made = { canvas, half };
  stamps.set(key, made);
  return made;
}

/**
 * @param {CanvasRenderingContext2D} context
 * @param {Layer} layer
 */
function prepare(context, layer) {
  context.globalAlpha = layer.alpha ?? 1;
  context.strokeStyle = context.fillStyle = layer.colour;
  context.lineWidth = layer.width ?? 2;
  context.setLineDash(layer.dash ?? []);
}

/**
 * @param {CanvasRenderingContext2D} context
 * @param {BoxLayer} layer
 * @param {Viewer} viewer
 */
function drawBoxes(context, layer, viewer) {
  const path = new Path2D();
  for (const box of layer.boxes) path.rect(...onScreen(box, viewer));
  fillAndStroke(context, path, layer);
}

/**
 * The complement of each rectangle, one clipped by the other: they may overlap.
 * @param {CanvasRenderingContext2D} context
 * @param {BoxLayer} layer
 * @param {Viewer} viewer
 */
function fillOutside(context, layer, viewer) {
  context.save();
  for (const box of layer.boxes) {
    const path = new Path2D();
    path.rect(0, 0, viewer.width, viewer.height);
    path.rect(...onScreen(box, viewer));
    context.clip(path, "evenodd");
  }
  context.fillRect(0, 0, viewer.width, viewer.height);
  context.restore();
}

/**
 * @param {CanvasRenderingContext2D} context
 * @param {CrossLayer} layer
 * @param {Viewer} viewer
 */
function drawCrosses(context, layer, viewer) {
  const path = new Path2D();
  for (const { x, y } of layer.crosses) {
    const [left, top] = viewer.toScreen(x, y);
    path.moveTo(left - layer.size, top);
    path.lineTo(left + layer.size, top);
    path.moveTo(left, top - layer.size);
    path.lineTo(left, top + layer.size);
  }
  context.stroke(path);
}

/**
 * @param {CanvasRenderingContext2D} context
 * @param {Path2D} path
 * @param {CircleLayer | BoxLayer} layer
 */
function fillAndStroke(context, path, layer) {
  const alpha = context.globalAlpha;
  if (layer.fill) {
    context.globalAlpha = alpha * layer.fill;
    context.fill(path);
    context.globalAlpha = alpha;
  }
  if ("halo" in layer && layer.halo) {
    context.globalAlpha = alpha * layer.halo;
    context.strokeStyle = DARK;
    context.lineWidth = (layer.width ?? 2) + 2;
    context.stroke(path);
    context.globalAlpha = alpha;
    context.strokeStyle = layer.colour;
    context.lineWidth = layer.width ?? 2;
  }
  if (layer.width !== 0) context.stroke(path);
}

/**
 * @param {Box} box
 * @param {Viewer} viewer
 * @returns {Box}
 */
function onScreen([x0, y0, x1, y1], viewer) {
  const [left, top] = viewer.toScreen(x0, y0);
  const [right, bottom] = viewer.toScreen(x1, y1);
  return [left, top, right - left, bottom - top];
}
