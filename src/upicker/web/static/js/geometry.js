/** Points and rectangles, raw pixels. Nothing of the page. */

/**
 * Distance of a point from the line between two others: between two events a fast hand goes far.
 * @param {Point} point
 * @param {Point} from
 * @param {Point} to
 */
export function distance(point, from, to) {
  const [x, y] = [to.x - from.x, to.y - from.y];
  const fraction = ((point.x - from.x) * x + (point.y - from.y) * y) / (x * x + y * y || 1);
  const along = Math.min(Math.max(fraction, 0), 1);
  return Math.hypot(point.x - from.x - along * x, point.y - from.y - along * y);
}

/**
 * Regions to a tenth of a pixel.
 * @param {Box} box
 * @returns {Box}
 */
export function rounded([x0, y0, x1, y1]) {
  /** @param {number} value */
  const round = (value) => Math.round(value * 10) / 10;
  return [round(x0), round(y0), round(x1), round(y1)];
}

/**
 * @param {Point} start
 * @param {Point} end
 * @returns {Box}
 */
export function boxOf(start, end) {
  return [Math.min(start.x, end.x), Math.min(start.y, end.y), Math.max(start.x, end.x), Math.max(start.y, end.y)];
}

/**
 * @param {Box} box
 * @param {[number, number]} shape rows and columns
 * @returns {Box}
 */
export function inside([x0, y0, x1, y1], [rows, columns]) {
  /** @type {(value: number, most: number) => number} */
  const clamp = (value, most) => Math.min(Math.max(value, -0.5), most - 0.5);
  return [clamp(x0, columns), clamp(y0, rows), clamp(x1, columns), clamp(y1, rows)];
}
