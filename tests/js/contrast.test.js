/** Grey values to colours: percentiles black and white, brightness, inversion. */

import assert from "node:assert/strict";
import { test } from "node:test";

import { Histogram } from "../../src/upicker/web/static/js/contrast.js";

const PLAIN = { low: 0, high: 100, brightness: 0, invert: false };

/**
 * @param {(row: number, column: number) => number} value
 * @param {number} [width]
 * @param {number} [height]
 */
function tile(value, width = 256, height = 192) {
  return { width, height, values: Uint8Array.from({ length: width * height }, (_, at) => value(Math.floor(at / width), at % width)) };
}

/** @param {Uint32Array} table */
function greys(table) {
  const bytes = new Uint8Array(table.buffer);
  return Array.from({ length: 256 }, (_, value) => {
    const [red, green, blue, alpha] = bytes.subarray(4 * value, 4 * value + 4);
    assert.ok(red === green && green === blue && alpha === 255);
    return red;
  });
}

test("percentiles are black and white, what lies between is linear, beyond is cut", () => {
  const histogram = new Histogram();
  histogram.add(tile((_, column) => 50 + Math.floor((column * 100) / 256))); // 50..149, evenly
  const found = greys(histogram.lookupTable({ ...PLAIN, low: 10, high: 90 }));
  for (let value = 0; value < 256; value++) {
    const expected = Math.min(Math.max(((value - 60) / 80) * 255, 0), 255);
    assert.ok(Math.abs(found[value] - expected) <= 4, `${value}: ${found[value]}, expected ${expected}`);
  }
});

test("inverting and brightening", () => {
  const histogram = new Histogram();
  histogram.add(tile((_, column) => column));
  const plain = greys(histogram.lookupTable(PLAIN));
  const inverted = greys(histogram.lookupTable({ ...PLAIN, invert: true }));
  const bright = greys(histogram.lookupTable({ ...PLAIN, brightness: 0.2 }));
  for (let value = 0; value < 256; value++) {
    assert.ok(Math.abs(plain[value] + inverted[value] - 255) <= 1);
    assert.ok(Math.abs(bright[value] - Math.min(plain[value] + 51, 255)) <= 1);
  }
});

test("the table is the same array as long as nothing changes", () => {
  const histogram = new Histogram();
  histogram.add(tile((row) => row));
  const table = histogram.lookupTable(PLAIN);
  assert.equal(histogram.lookupTable({ ...PLAIN }), table);
  assert.notEqual(histogram.lookupTable({ ...PLAIN, brightness: 0.1 }), table);
});

test("one grey value alone is no division by nothing", () => {
  const histogram = new Histogram();
  histogram.add(tile(() => 77));
  const found = greys(histogram.lookupTable(PLAIN));
  assert.deepEqual([found[0], found[255]], [0, 255]);
});

test("only the first few tiles count, of any size", () => {
  const histogram = new Histogram();
  for (let number = 0; number < 4; number++) histogram.add(tile((_, column) => column % 256, 100 + number, 50));
  const table = histogram.lookupTable(PLAIN);
  histogram.add(tile(() => 0));
  assert.equal(histogram.lookupTable(PLAIN), table);
});
