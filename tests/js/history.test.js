/** Undo and redo: whatever is done can be taken back exactly, in any mixture of changes. */

import assert from "node:assert/strict";
import { test } from "node:test";

import { History, inverse } from "../../src/upicker/web/static/js/history.js";

/** @returns {LabelState} */
function some() {
  return {
    particles: new Map([["a", { x: 1, y: 2 }], ["b", { x: 30.25, y: 4 }]]),
    diameter_px: 20, coverage: "partial", regions: [[0, 0, 10, 10]], bad: false,
  };
}

/**
 * Does what the server does with changes.
 * @param {LabelState} labels
 * @param {Change[]} changes
 */
function apply(labels, changes) {
  for (const change of changes) {
    if (change.op === "add" || change.op === "move") labels.particles.set(change.key, { x: change.x, y: change.y });
    else if (change.op === "remove") labels.particles.delete(change.key);
    else if (change.op === "diameter") labels.diameter_px = change.px;
    else if (change.op === "coverage") labels.coverage = change.value;
    else if (change.op === "regions") labels.regions = change.value;
    else if (change.op === "bad") labels.bad = change.value;
  }
}

/** @param {LabelState} labels in an order that does not depend on what was added when */
function plain(labels) {
  return { ...labels, particles: [...labels.particles].sort() };
}

/** @type {Record<string, Change[]>} */
const CASES = {
  "one added": [{ op: "add", key: "c", x: 5, y: 6 }],
  "one removed": [{ op: "remove", key: "a" }],
  "one moved twice": [{ op: "move", key: "a", x: 7, y: 7 }, { op: "move", key: "a", x: 8, y: 8 }],
  "one added, moved and removed": [{ op: "add", key: "c", x: 5, y: 6 }, { op: "move", key: "c", x: 1, y: 1 }, { op: "remove", key: "c" }],
  "one removed and added elsewhere": [{ op: "remove", key: "a" }, { op: "add", key: "a", x: 9, y: 9 }],
  "unknown ones": [{ op: "remove", key: "z" }, { op: "move", key: "y", x: 1, y: 1 }],
  "all else": [
    { op: "diameter", px: 33 }, { op: "coverage", value: "regions" }, { op: "regions", value: [] }, { op: "bad", value: true },
    { op: "coverage", value: "complete" },
  ],
};

for (const [name, changes] of Object.entries(CASES)) {
  test(`${name}: undone, all is as before`, () => {
    const labels = some();
    const backward = inverse(labels, changes);
    apply(labels, changes.filter((change) => change.op !== "move" || labels.particles.has(change.key)));
    apply(labels, backward);
    assert.deepEqual(plain(labels), plain(some()));
  });
}

test("a rejection is taken back by its opposite, the last one first", () => {
  const changes = /** @type {Change[]} */ ([{ op: "reject", index: 3, value: true }, { op: "reject", index: 5, value: false }]);
  assert.deepEqual(inverse(some(), changes), [{ op: "reject", index: 5, value: true }, { op: "reject", index: 3, value: false }]);
});

test("random changes, undone one after the other and redone, pass through the same states", () => {
  let seed = 1;
  const random = () => (seed = (seed * 16807) % 2147483647) / 2147483647;
  const [labels, history] = [some(), new History()];
  const states = [plain(structuredClone(labels))];
  for (let step = 0; step < 200; step++) {
    const key = "abcdef"[Math.floor(random() * 6)];
    const [x, y] = [Math.floor(random() * 50), Math.floor(random() * 50)];
    /** @type {Change} */
    const change = labels.particles.has(key) ? (random() < 0.5 ? { op: "remove", key } : { op: "move", key, x, y }) : { op: "add", key, x, y };
    history.note([change], inverse(labels, [change]));
    apply(labels, [change]);
    states.push(plain(structuredClone(labels)));
  }
  for (let step = 199; step >= 0; step--) {
    apply(labels, history.undo() ?? []);
    assert.deepEqual(plain(labels), states[step]);
  }
  assert.equal(history.undo(), null);
  for (let step = 1; step <= 200; step++) {
    apply(labels, history.redo() ?? []);
    assert.deepEqual(plain(labels), states[step]);
  }
  assert.equal(history.redo(), null);
});

test("what was undone is forgotten when something else is done", () => {
  const history = new History();
  /** @type {(px: number) => Change[]} */
  const change = (px) => [{ op: "diameter", px }];
  history.note(change(1), change(0));
  history.note(change(2), change(1));
  assert.deepEqual([history.canUndo, history.canRedo], [true, false]);
  assert.deepEqual(history.undo(), change(1));
  assert.deepEqual([history.canUndo, history.canRedo], [true, true]);
  history.note(change(3), change(1));
  assert.deepEqual([history.canUndo, history.canRedo, history.redo()], [true, false, null]);
  assert.deepEqual(history.undo(), change(1));
});
