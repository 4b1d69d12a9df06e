// @ts-nocheck
/**
 * Draws what lies on a picture. Layers are drawn in their order; each is a plain object:
 *
 *   {points: [{x, y, radius?}…], radius, colour, width, alpha, dash, fill, dot}
 *       circles; radius in raw px (a point's own comes first), width of the line in css px, dash [on, off] in css px,
 *       fill: alpha of the disc's filling; halo: alpha of a dark line below, for bright pictures; dot: radius in css px of a filled dot in the middle
 *   {boxes: [[x0, y0, x1, y1]…], colour, width, alpha, dash, fill}
 *       rectangles, raw px
 *   {boxes, outside: true, colour, alpha}
 *       all but the rectangles is filled
 *   {crosses: [{x, y}…], size, colour, width, alpha}
 *       crosses, arms of `size` css px
 *
 * Circles of one size are copies of one small picture: without a graphics card, drawing each as a curve would take
 * several times as long.
 */

const DARK = "#0b0e11";
const DOTTED = 16; // css px: in smaller circles a dot would hide the particle
const FEW = 6; // circles that are drawn as curves
const LARGE = 160; // css px: copying larger circles would take longer than drawing them
const FINENESS = 4; // radii are told apart by a quarter of a css px
const SMALLEST = 2.5; // css px: circles do not shrink to nothing
const KEPT = 16; // pictures of circles

const stamps = new Map(); // all that makes a circle look as it does -> {canvas, half}

export function draw(context, layers, viewer) {
  context.setTransform(viewer.ratio, 0, 0, viewer.ratio, 0, 0);
  for (const layer of layers) {
    prepare(context, layer);
    if (layer.outside) fillOutside(context, layer, viewer);
    else if (layer.boxes) drawBoxes(context, layer, viewer);
    else if (layer.crosses) drawCrosses(context, layer, viewer);
    else drawCircles(context, layer, viewer);
  }
}

function drawCircles(context, layer, viewer) {
  const bySize = new Map();
  for (const point of layer.points) {
    const [x, y] = viewer.toScreen(point.x, point.y);
    const radius = Math.max(Math.round((point.radius ?? layer.radius) * viewer.zoom * FINENESS) / FINENESS, SMALLEST);
    if (x < -radius - 4 || y < -radius - 4 || x > viewer.width + radius + 4 || y > viewer.height + radius + 4) continue;
    if (bySize.has(radius)) bySize.get(radius).push({ x, y, radius });
    else bySize.set(radius, [{ x, y, radius }]);
  }
  const rest = [];
  for (const [radius, circles] of bySize) {
    if (circles.length > FEW && radius < LARGE) copyCircles(context, circles, layer, viewer.ratio);
    else rest.push(...circles);
  }
  if (rest.length) strokeCircles(context, rest, layer);
}

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

/** Copy a picture of one circle to where circles are, on whole device pixels. */
function copyCircles(context, circles, layer, ratio) {
  const { canvas, half } = stampOf(layer, circles[0].radius, ratio);
  context.setTransform(1, 0, 0, 1, 0, 0);
  for (const { x, y } of circles) context.drawImage(canvas, Math.round(x * ratio) - half, Math.round(y * ratio) - half);
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
}

function stampOf(layer, radius, ratio) {
  const key = [radius, ratio, layer.colour, layer.width, layer.dash, layer.fill, layer.halo, layer.dot].join();
  const known = stamps.get(key);
  if (known) return known;
  const half = Math.ceil((radius + (layer.width ?? 2) + 2) * ratio);
  const [oldest] = stamps.size < KEPT ? [null] : stamps.keys();
  const canvas = stamps.get(oldest)?.canvas ?? document.createElement("canvas"); // making one takes long
  stamps.delete(oldest);
  canvas.width = canvas.height = 2 * half; // which also clears it
  const stamp = canvas.getContext("2d");
  stamp.setTransform(ratio, 0, 0, ratio, half, half);
  prepare(stamp, { ...layer, alpha: 1 });
  strokeCircles(stamp, [{ x: 0, y: 0, radius }], layer);
  stamps.set(key, { canvas, half });
  return stamps.get(key);
}

function prepare(context, layer) {
  context.globalAlpha = layer.alpha ?? 1;
  context.strokeStyle = context.fillStyle = layer.colour;
  context.lineWidth = layer.width ?? 2;
  context.setLineDash(layer.dash ?? []);
}

function drawBoxes(context, layer, viewer) {
  const path = new Path2D();
  for (const box of layer.boxes) path.rect(...onScreen(box, viewer));
  fillAndStroke(context, path, layer);
}

/** The complement of each rectangle, one clipped by the other: they may overlap. */
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

function fillAndStroke(context, path, layer) {
  const alpha = context.globalAlpha;
  if (layer.fill) {
    context.globalAlpha = alpha * layer.fill;
    context.fill(path);
    context.globalAlpha = alpha;
  }
  if (layer.halo) {
    context.globalAlpha = alpha * layer.halo;
    context.strokeStyle = DARK;
    context.lineWidth = layer.width + 2;
    context.stroke(path);
    context.globalAlpha = alpha;
    context.strokeStyle = layer.colour;
    context.lineWidth = layer.width;
  }
  if (layer.width !== 0) context.stroke(path);
}

function onScreen([x0, y0, x1, y1], viewer) {
  const [left, top] = viewer.toScreen(x0, y0);
  const [right, bottom] = viewer.toScreen(x1, y1);
  return [left, top, right - left, bottom - top];
}
