/** Numbers of the plot over all scores. */

import assert from "node:assert/strict";
import { test } from "node:test";

import { best, clamp, countTicks, figure, readable, scaled, scored, short, ticks } from "../../src/upicker/web/static/js/histogram.js";

test("scores are told in words", () => {
  assert.equal(scored({ noun: "probability", unit: "", words: "" }, 0.314159), "probability 0.3142");
  assert.equal(scored({ noun: "template correlation", unit: "σ", words: "" }, 4.2), "template correlation 4.2 σ");
});

test("figures have four digits, as short as can be", () => {
  assert.deepEqual([0.123456, 0.5, 12.3456, 0, -1.00004, 1e-7].map(figure), ["0.1235", "0.5", "12.35", "0", "-1", "1e-7"]);
});

test("counts fit beside the axis", () => {
  assert.deepEqual([0, 9999, 10000, 123456, 1e6, 1234567].map(short), ["0", "9999", "10 k", "123 k", "1 M", "1.23 M"]);
});

test("ticks are round numbers inside the range, at most as many as asked for", () => {
  assert.deepEqual(ticks(0, 1, 5), [0, 0.2, 0.4, 0.6, 0.8, 1]);
  assert.deepEqual(ticks(0.13, 0.87, 4), [0.2, 0.4, 0.6, 0.8]);
  assert.deepEqual(ticks(-3, 12, 3), [0, 5, 10]);
  for (const [low, high, count] of [[0, 1, 10], [-0.37, 5.2, 7], [1e-6, 3e-6, 4], [120, 98765, 10], [0.7, 0.9, 3]]) {
    const found = ticks(low, high, count);
    const step = found[1] - found[0];
    assert.ok(found.length >= 2 && found.length <= count + 1, `${low} ${high} ${count}: ${found}`);
    for (const [index, tick] of found.entries()) {
      assert.ok(tick >= low - 1e-9 * step && tick <= high + 1e-9 * step);
      if (index) assert.ok(Math.abs(tick - found[index - 1] - step) < 1e-6 * step);
      // 1, 2 or 5 times a power of ten.
      const digits = step / 10 ** Math.floor(Math.log10(step) + 1e-9);
      assert.ok([1, 2, 5].some((digit) => Math.abs(digits - digit) < 1e-6), `a step of ${step}`);
    }
  }
});

test("counts have whole ticks, on a logarithmic axis powers of ten", () => {
  assert.deepEqual(countTicks(2, false), [0, 1, 2]);
  assert.deepEqual(countTicks(950, false), [0, 500]);
  assert.deepEqual(countTicks(1000, true), [0, 1, 10, 100, 1000]);
  assert.deepEqual(countTicks(1, true), [0, 1]);
});

test("either axis begins at 0, ends at 1 and rises", () => {
  for (const isLog of [false, true]) {
    assert.deepEqual([scaled(0, 500, isLog), scaled(500, 500, isLog)], [0, 1]);
    for (let count = 1; count <= 500; count++) assert.ok(scaled(count, 500, isLog) > scaled(count - 1, 500, isLog));
  }
});

test("a dragged threshold is a number that one can say, close to the pointer", () => {
  assert.equal(readable(0.123456, 1), 0.123);
  assert.equal(readable(3.14159, 50), 3.14);
  for (const range of [0.2, 1, 7.3, 4000]) {
    for (const value of [0.2345678, 1.9999, 123.456]) {
      assert.ok(Math.abs(readable(value, range) - value) <= range / 2000);
      assert.ok(String(readable(value, range)).length <= 8);
    }
  }
});

test("the best F1 is the lowest threshold of several; without labels there is none", () => {
  const curve = { thresholds: [0, 0.1, 0.2, 0.3], counts: [9, 5, 3, 0], histogram: [4, 2, 3] };
  assert.equal(best(curve), null);
  assert.equal(best(null), null);
  assert.deepEqual(best({ ...curve, f1: [0.2, 0.6, 0.6, 0] }), { f1: 0.6, threshold: 0.1 });
});

test("values are kept in their range, also in an empty one", () => {
  assert.deepEqual([clamp(-1, 0, 2), clamp(1, 0, 2), clamp(3, 0, 2), clamp(3, 2, 1)], [0, 1, 2, 2]);
});
