/** Geometry of a micrograph's tiles: which level suits a zoom, which tiles are seen, where their edges lie. */

import { tileAddress } from "./api.js";

const COARSEST_PX = 1.25; // device pixels that a pixel of the level may measure

/**
 * What is seen: device pixels per raw pixel, the raw position in the middle, the canvas in device pixels.
 * @typedef {{zoom: number, x: number, y: number, width: number, height: number}} View
 *
 * One tile: its address, and its outer edges in raw pixels; (0, 0) is the centre of the first raw pixel.
 * @typedef {{info: ImageInfo, level: number, address: string, left: number, right: number, top: number, bottom: number}} Tile
 */

/**
 * Whether two descriptions are of the same pixels.
 * @param {ImageInfo} one
 * @param {ImageInfo} other
 */
export function same(one, other) {
  return one.id === other.id && one.view === other.view && one.version === other.version;
}

/**
 * The common name of all tiles of one level.
 * @param {ImageInfo} info
 * @param {number} level
 */
export function levelName(info, level) {
  return `${info.id}/${info.view}/${info.version}/${level}`;
}

/**
 * The coarsest level whose pixels are not much larger than the screen's.
 * @param {ImageInfo} info
 * @param {number} zoom device pixels per raw pixel
 */
export function levelFor(info, zoom) {
  let level = 0;
  while (level + 1 < info.levels.length && info.levels[level + 1].scale * zoom <= COARSEST_PX) level++;
  return level;
}

/**
 * @param {ImageInfo} info
 * @param {number} level
 * @param {number} column
 * @param {number} row
 * @returns {Tile}
 */
export function tileAt(info, level, column, row) {
  const { shape, scale } = info.levels[level];
  /** @type {(pixel: number, most: number) => number} */
  const edge = (pixel, most) => Math.min(pixel, most) * scale - 0.5; // the last pixel may reach beyond the micrograph
  return {
    info, level, address: tileAddress(info, level, column, row),
    left: edge(column * info.tile, shape[1]),
    right: edge((column + 1) * info.tile, shape[1]),
    top: edge(row * info.tile, shape[0]),
    bottom: edge((row + 1) * info.tile, shape[0]),
  };
}

/**
 * The tiles of a level that are seen, row by row; none where the micrograph is out of sight.
 * @param {ImageInfo} info
 * @param {number} level
 * @param {View} view
 * @returns {Tile[]}
 */
export function visible(info, level, view) {
  const { shape, scale } = info.levels[level];
  const side = info.tile * scale;
  const half = [view.width / 2 / view.zoom, view.height / 2 / view.zoom];
  /** @type {(value: number, most: number) => number} */
  const clamp = (value, most) => Math.min(Math.max(Math.floor(value), 0), most);
  const columns = Math.ceil(shape[1] / info.tile) - 1;
  const rows = Math.ceil(shape[0] / info.tile) - 1;
  /** @type {Tile[]} */
  const tiles = [];
  if (view.x + half[0] < -0.5 || view.y + half[1] < -0.5 || view.x - half[0] > info.shape[1] || view.y - half[1] > info.shape[0]) return tiles;
  for (let row = clamp((view.y - half[1] + 0.5) / side, rows); row <= clamp((view.y + half[1] + 0.5) / side, rows); row++) {
    for (let column = clamp((view.x - half[0] + 0.5) / side, columns); column <= clamp((view.x + half[0] + 0.5) / side, columns); column++) {
      tiles.push(tileAt(info, level, column, row));
    }
  }
  return tiles;
}

/**
 * What a view needs, the middle first; and the one coarsest tile, which covers all of the micrograph.
 * @param {ImageInfo} info
 * @param {View} view
 */
export function needed(info, view) {
  const level = levelFor(info, view.zoom);
  const tiles = visible(info, level, view);
  /** @type {(tile: Tile) => number} */
  const distance = (tile) => Math.hypot((tile.left + tile.right) / 2 - view.x, (tile.top + tile.bottom) / 2 - view.y);
  tiles.sort((a, b) => distance(a) - distance(b));
  return { tiles, level, base: tileAt(info, info.levels.length - 1, 0, 0) };
}
