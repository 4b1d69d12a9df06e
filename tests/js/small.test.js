/** The scale bar, names in a narrow list, rectangles, changes of labels, figures of one micrograph. */

import assert from "node:assert/strict";
import { test } from "node:test";

import { problemTexts } from "../../src/upicker/web/static/js/figures.js";
import { boxOf, distance, inside, rounded } from "../../src/upicker/web/static/js/geometry.js";
import { play } from "../../src/upicker/web/static/js/labels.js";
import { sharedStart, shortener } from "../../src/upicker/web/static/js/names.js";
import { scaleBar } from "../../src/upicker/web/static/js/scalebar.js";

test("a scale bar is a round length, as long as fits", () => {
  assert.deepEqual(scaleBar(1, null), [100, "100 px"]);
  assert.deepEqual(scaleBar(1, 1), [100, "10 nm"]);
  assert.deepEqual(scaleBar(20, 1)[1], "5 Å");
  assert.deepEqual(scaleBar(0.01, 2)[1], "2 µm");
  for (let zoom = 0.003; zoom < 30; zoom *= 1.13) {
    for (const size of [null, 0.5, 1.77, 12]) {
      const [pixels] = scaleBar(zoom, size);
      assert.ok(pixels <= 140 + 1e-9 && pixels >= 140 / 2.5 - 1e-9, `${zoom} ${size}: ${pixels}`);
    }
  }
});

test("long names lose what all have in common, and stay different", () => {
  const names = ["grid_0123456789_mic001_DW.mrc", "grid_0123456789_mic002_DW.mrc", "grid_0123456789_mic003_DW.mrc"];
  const short = names.map(shortener(names));
  assert.deepEqual(short, ["…mic001…", "…mic002…", "…mic003…"]);
  assert.equal(sharedStart(names), "grid_0123456789_".length);
  for (const few of [["a", "b"], ["only_one_very_long_name_of_a_micrograph"]]) {
    assert.deepEqual(few.map(shortener(few)), few);
    assert.equal(sharedStart(few), 0);
  }
});

test("rectangles and distances", () => {
  assert.deepEqual(boxOf({ x: 5, y: 1 }, { x: 2, y: 7 }), [2, 1, 5, 7]);
  assert.deepEqual(inside([-5, -5, 50, 50], [30, 40]), [-0.5, -0.5, 39.5, 29.5]);
  assert.deepEqual(rounded([0.04, 1.26, 2, 3.33]), [0, 1.3, 2, 3.3]);
  assert.equal(distance({ x: 5, y: 3 }, { x: 0, y: 0 }, { x: 10, y: 0 }), 3);
  assert.equal(distance({ x: -4, y: 3 }, { x: 0, y: 0 }, { x: 10, y: 0 }), 5);
  assert.equal(distance({ x: 3, y: 4 }, { x: 0, y: 0 }, { x: 0, y: 0 }), 5);
});

test("changes may be played twice, and of labels that others have removed", () => {
  /** @type {Change[]} */
  const changes = [
    { op: "add", key: "a", x: 1, y: 2 }, { op: "move", key: "a", x: 3, y: 4 }, { op: "move", key: "gone", x: 0, y: 0 },
    { op: "remove", key: "other" }, { op: "diameter", px: 30 }, { op: "coverage", value: "complete" }, { op: "bad", value: true },
  ];
  /** @returns {LabelState} */
  const some = () => ({ particles: new Map([["b", { x: 9, y: 9 }]]), diameter_px: null, coverage: "unset", regions: [], bad: false });
  const once = play(some(), changes);
  assert.deepEqual([...once.particles], [["b", { x: 9, y: 9 }], ["a", { x: 3, y: 4 }]]);
  assert.deepEqual([once.diameter_px, once.coverage, once.bad], [30, "complete", true]);
  assert.deepEqual(play(play(some(), changes), changes), once);
});

test("problems are counted, also those that are not listed", () => {
  const summary = /** @type {PickSummary} */ ({ problems: ["a", "b"], more_problems: 3, strangers: 1 });
  const { texts, count } = problemTexts(summary);
  assert.deepEqual(texts, ["a", "b", "… and 3 more", "Picks of 1 other micrograph are not shown."]);
  assert.equal(count, 6);
});
