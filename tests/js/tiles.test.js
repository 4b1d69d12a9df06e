/** The tiles of a micrograph: they cover what is seen, once; the finest level that the screen can show is taken. */

import assert from "node:assert/strict";
import { test } from "node:test";

import { levelFor, levelName, needed, same, tileAt, visible } from "../../src/upicker/web/static/js/pyramid.js";

const [ROWS, COLUMNS, TILE] = [1234, 1777, 256];

/** @returns {ImageInfo} levels whose last pixels reach beyond the micrograph */
function pyramid() {
  const levels = [1, 2, 4, 8].map((scale) => ({
    scale, shape: /** @type {[number, number]} */ ([Math.ceil(ROWS / scale), Math.ceil(COLUMNS / scale)]),
    range: /** @type {[number, number]} */ ([0, 1]),
  }));
  return {
    id: 7, view: "lowpass-8.0px", version: "v1", shape: [ROWS, COLUMNS], pixel_size_A: 1.2, diameter_px: 30, tile: TILE,
    range: [0, 1], fractional: false, cutoff_px: 8, levels,
  };
}

test("tiles of a level cover the micrograph without gaps or overlaps", () => {
  const info = pyramid();
  for (let level = 0; level < info.levels.length; level++) {
    const { scale, shape } = info.levels[level];
    const tiles = visible(info, level, { zoom: 0.01, x: COLUMNS / 2, y: ROWS / 2, width: 1000, height: 1000 });
    assert.equal(tiles.length, Math.ceil(shape[1] / TILE) * Math.ceil(shape[0] / TILE));
    const area = tiles.reduce((sum, { left, right, top, bottom }) => sum + (right - left) * (bottom - top), 0);
    assert.equal(area, shape[0] * shape[1] * scale ** 2);
    assert.equal(Math.min(...tiles.map(({ left }) => left)), -0.5);
    assert.equal(Math.max(...tiles.map(({ right }) => right)), shape[1] * scale - 0.5);
    assert.ok(shape[1] * scale >= COLUMNS && shape[1] * scale < COLUMNS + scale);
    assert.equal(new Set(tiles.map(({ address }) => address)).size, tiles.length);
  }
});

test("exactly those tiles are visible that share something with what is seen", () => {
  const info = pyramid();
  let seed = 5;
  const random = () => (seed = (seed * 16807) % 2147483647) / 2147483647;
  for (let trial = 0; trial < 200; trial++) {
    const level = Math.floor(random() * 4);
    const view = { zoom: 0.05 + 3 * random(), x: COLUMNS * (1.4 * random() - 0.2), y: ROWS * (1.4 * random() - 0.2), width: 640, height: 480 };
    const [halfWidth, halfHeight] = [view.width / 2 / view.zoom, view.height / 2 / view.zoom];
    const found = new Set(visible(info, level, view).map(({ address }) => address));
    const { shape } = info.levels[level];
    for (let row = 0; row * TILE < shape[0]; row++) {
      for (let column = 0; column * TILE < shape[1]; column++) {
        const tile = tileAt(info, level, column, row);
        const isSeen = tile.left < view.x + halfWidth && tile.right > view.x - halfWidth && tile.top < view.y + halfHeight && tile.bottom > view.y - halfHeight;
        if (isSeen) assert.ok(found.has(tile.address), `level ${level}, tile ${column} ${row}`);
      }
    }
    // Beyond an edge at most one row or column more than is seen.
    const side = TILE * info.levels[level].scale;
    assert.ok(found.size <= (Math.ceil((2 * halfWidth) / side) + 1) * (Math.ceil((2 * halfHeight) / side) + 1));
  }
});

test("nothing is fetched of a micrograph that is out of sight", () => {
  const info = pyramid();
  for (const [x, y] of [[-500, 100], [100, -500], [COLUMNS + 500, 100], [100, ROWS + 500]]) {
    assert.deepEqual(visible(info, 0, { zoom: 1, x, y, width: 600, height: 600 }), []);
  }
});

test("a level's pixels are at most a quarter larger than the screen's, and the coarsest such level is taken", () => {
  const info = pyramid();
  assert.deepEqual([4, 1, 0.63, 0.62, 0.3, 0.1, 0.01].map((zoom) => levelFor(info, zoom)), [0, 0, 0, 1, 2, 3, 3]);
  for (let zoom = 0.01; zoom < 4; zoom *= 1.07) {
    const level = levelFor(info, zoom);
    assert.ok(level === 0 || info.levels[level].scale * zoom <= 1.25);
    assert.ok(level === 3 || info.levels[level + 1].scale * zoom > 1.25);
  }
});

test("the middle of the screen comes first, and one tile covers all", () => {
  const info = pyramid();
  const view = { zoom: 1, x: 900, y: 300, width: 1400, height: 900 };
  const { tiles, level, base } = needed(info, view);
  assert.equal(level, 0);
  assert.ok(tiles[0].left <= view.x && tiles[0].right >= view.x && tiles[0].top <= view.y && tiles[0].bottom >= view.y);
  const distances = tiles.map((tile) => Math.hypot((tile.left + tile.right) / 2 - view.x, (tile.top + tile.bottom) / 2 - view.y));
  assert.deepEqual(distances, [...distances].sort((a, b) => a - b));
  assert.ok(base.right >= COLUMNS - 0.5 && base.bottom >= ROWS - 0.5);
});

test("addresses and names tell apart what differs", () => {
  const info = pyramid();
  const others = [{ ...info, id: 8 }, { ...info, view: "raw" }, { ...info, version: "v2" }];
  assert.ok(same(info, pyramid()));
  for (const other of others) {
    assert.ok(!same(info, other));
    assert.notEqual(levelName(info, 0), levelName(other, 0));
    assert.notEqual(tileAt(info, 0, 0, 0).address, tileAt(other, 0, 0, 0).address);
  }
  assert.notEqual(levelName(info, 0), levelName(info, 1));
  assert.equal(tileAt(info, 2, 1, 0).address, "/api/micrographs/7/tiles/lowpass-8.0px/2/1/0?v1");
});
