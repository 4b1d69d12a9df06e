/**
 * What clicks and drags do: add, erase, select, region, diameter.
 *
 *   makeTools(editor)     -> tools, see types.d.ts
 *
 * press(point, event) -> drag for viewer.onPress, or null; click(point, event); layers() -> marks of its own;
 * hover(point | null); step(1 | -1): the keys [ and ] make it larger or smaller.
 */

import { COLOURS } from "./editor.js";
import { boxOf, distance, inside, rounded } from "./geometry.js";

/** @typedef {import("./editor.js").Editor} Editor */

const GRAB = 0.6; // of a radius: a drag that begins further out pans, so that crowded micrographs can be panned
const NEAR = 9; // css px around an edge that can be dragged
const SMALLEST = 6; // css px: smaller regions are taken for clicks

/**
 * @param {Editor} editor
 * @returns {Tool[]}
 */
export function makeTools(editor) {
  return [adding(editor), erasing(editor), selecting(editor), framing(editor), sizing(editor)];
}

/**
 * @param {Editor} editor
 * @returns {Tool}
 */
function adding(editor) {
  /** @type {Point | null} */
  let held = null; // where a dragged label is now
  return {
    name: "add", key: "A", title: "Add, move, remove", icon: "add",
    hint: "Click adds a particle, or removes the one under the cursor. Drag one to move it.",
    press(start) {
      const key = editor.nearest(start, Math.min(editor.reach, Math.max(GRAB * editor.radius, 6 / editor.viewer.zoom)));
      if (key === null) return null;
      const { labels, info } = editor.present;
      const from = labels.particles.get(key) ?? start;
      return {
        move(point) {
          held = { x: from.x + point.x - start.x, y: from.y + point.y - start.y };
          editor.hidden.add(key);
          editor.paint();
        },
        end() {
          const { x, y } = held ?? from;
          this.cancel();
          const isInside = x >= -0.5 && y >= -0.5 && x <= info.shape[1] - 0.5 && y <= info.shape[0] - 0.5;
          if (isInside && labels.particles.has(key)) editor.commit([{ op: "move", key, x: Math.round(x * 100) / 100, y: Math.round(y * 100) / 100 }]);
        },
        cancel() {
          held = null;
          editor.hidden.delete(key);
          editor.paint();
        },
      };
    },
    click(point) {
      const key = editor.nearest(point);
      if (key !== null) return editor.remove([key]);
      const proposal = editor.proposals?.nearest(point, editor.reach) ?? null;
      if (proposal !== null) editor.accept([proposal]);
      else editor.add(point);
    },
    layers: () => (held ? [{ points: [held], radius: editor.radius, colour: COLOURS.chosen, width: 2, dot: 1.5 }] : []),
  };
}

/**
 * @param {Editor} editor
 * @returns {Tool}
 */
function erasing(editor) {
  let size = 1; // radius in diameters
  /** @type {Point | null} */
  let at = null;
  /** @type {{key: string, x: number, y: number}[]} */
  let gone = []; // labels erased in this stroke
  /** @type {Set<number>} */
  let rejected = new Set();
  const reach = () => Math.max(size * 2 * editor.radius, 6 / editor.viewer.zoom);
  /**
   * @param {Point} from
   * @param {Point} point
   */
  const sweep = (from, point) => {
    at = point;
    for (const [key, label] of editor.present.labels.particles) {
      if (editor.hidden.has(key) || distance(label, from, point) > reach()) continue;
      editor.hidden.add(key);
      gone.push({ key, ...label });
    }
    for (const each of editor.proposals?.visible ?? []) {
      if (distance(each, from, point) <= reach()) rejected.add(each.index);
    }
    editor.paint();
  };
  /** @param {boolean} keep */
  const finish = (keep) => {
    /** @type {Change[]} */
    const changes = [...gone.map(({ key }) => /** @type {Change} */ ({ op: "remove", key })), ...[...rejected].map((index) => /** @type {Change} */ ({ op: "reject", index, value: true }))];
    for (const { key } of gone) editor.hidden.delete(key);
    gone = [];
    rejected = new Set();
    if (keep) editor.commit(changes);
    editor.paint();
  };
  return {
    name: "erase", key: "E", title: "Erase", icon: "erase",
    hint: "Drag over particles to erase them. [ and ] change the brush.",
    press(start) {
      /** @type {Point} */
      let last = start;
      /** @param {Point} point */
      const move = (point) => {
        sweep(last, point);
        last = point;
      };
      /** @param {Point} point */
      const end = (point) => {
        move(point);
        finish(true);
      };
      return { move, end, cancel: () => finish(false) };
    },
    click(point) {
      sweep(point, point);
      finish(true);
    },
    hover(point) {
      at = point;
      editor.paint();
    },
    step(direction) {
      size = Math.min(Math.max(size * 1.25 ** direction, 0.2), 20);
      editor.paint();
    },
    layers: () => [
      { points: gone, radius: editor.radius, colour: COLOURS.erased, width: 1.5, alpha: 0.8 },
      { points: (editor.proposals?.visible ?? []).filter(({ index }) => rejected.has(index)), radius: editor.radius, colour: COLOURS.erased, width: 1.5, alpha: 0.8 },
      ...(at ? [{ points: [at], radius: reach(), colour: COLOURS.erased, width: 1.5, fill: 0.12 }] : []),
    ],
  };
}

/**
 * @param {Editor} editor
 * @returns {Tool}
 */
function selecting(editor) {
  /** @type {Box | null} */
  let box = null;
  /** @type {(point: Point) => boolean} */
  const within = ({ x, y }) => box !== null && x >= box[0] && y >= box[1] && x <= box[2] && y <= box[3];
  /** @param {boolean} keep */
  const take = (keep) => {
    if (!keep) editor.selection.clear();
    editor.proposals?.choose(keep, within);
    for (const [key, label] of editor.present.labels.particles) if (within(label)) editor.selection.add(key);
    box = null;
    editor.changed();
  };
  return {
    name: "select", key: "S", title: "Select", icon: "select",
    hint: "Drag a box; Shift adds to the selection. Delete removes, Enter accepts proposals.",
    press: (start) => ({
      move(point) {
        box = boxOf(start, point);
        editor.paint();
      },
      end: (_, event) => take(Boolean(event?.shiftKey)),
      cancel() {
        box = null;
        editor.paint();
      },
    }),
    click(point, event) {
      const key = editor.nearest(point);
      if (!event?.shiftKey) editor.selection.clear();
      const nearest = editor.proposals?.nearest(point, editor.reach) ?? null;
      editor.proposals?.choose(Boolean(event?.shiftKey), ({ index }) => key === null && index === nearest);
      if (key !== null && !editor.selection.delete(key)) editor.selection.add(key);
      editor.changed();
    },
    layers: () => (box ? [{ boxes: [box], colour: COLOURS.chosen, width: 1.5, dash: [6, 4], fill: 0.1 }] : []),
  };
}

/**
 * @param {Editor} editor
 * @returns {Tool}
 */
function framing(editor) {
  /** @type {Box | null} */
  let box = null;
  /** @type {number | null} */
  let except = null; // the region that is being dragged to another size
  /**
   * @param {Point} point
   * @returns {{index: number, x: 0 | 2 | null, y: 1 | 3 | null} | null}
   */
  const edges = (point) => {
    const near = NEAR / editor.viewer.zoom;
    for (const [index, [x0, y0, x1, y1]] of editor.present.labels.regions.entries()) {
      if (point.x < x0 - near || point.x > x1 + near || point.y < y0 - near || point.y > y1 + near) continue;
      const x = Math.abs(point.x - x0) < near ? 0 : Math.abs(point.x - x1) < near ? 2 : null;
      const y = Math.abs(point.y - y0) < near ? 1 : Math.abs(point.y - y1) < near ? 3 : null;
      if (x !== null || y !== null) return { index, x, y };
    }
    return null;
  };
  /** @param {Box[]} regions */
  const set = (regions) => {
    /** @type {Change[]} */
    const changes = [{ op: "regions", value: regions }];
    if (editor.present.labels.coverage !== "regions") changes.push({ op: "coverage", value: "regions" });
    editor.commit(changes);
  };
  const clear = () => {
    box = except = null;
    editor.paint();
  };
  return {
    name: "region", key: "R", title: "Regions", icon: "region",
    hint: "Drag a rectangle inside which every particle is labelled. Drag its edges; click inside to remove it.",
    press(start) {
      const edge = edges(start);
      const { labels, info } = editor.present;
      const old = edge && labels.regions[edge.index];
      return {
        move(point) {
          const [x0, y0, x1, y1] = edge && old ? old.map((value, side) => (side === edge.x ? point.x : side === edge.y ? point.y : value)) : [start.x, start.y, point.x, point.y];
          box = inside(boxOf({ x: x0, y: y0 }, { x: x1, y: y1 }), info.shape);
          except = edge?.index ?? null;
          editor.paint();
        },
        end() {
          if (!box) return;
          const large = (box[2] - box[0]) * editor.viewer.zoom > SMALLEST && (box[3] - box[1]) * editor.viewer.zoom > SMALLEST;
          const done = rounded(box);
          const others = labels.regions.filter((_, index) => index !== except);
          clear();
          if (large) set([...others, done]);
        },
        cancel: clear,
      };
    },
    click(point) {
      const { regions } = editor.present.labels;
      const hit = regions.findIndex(([x0, y0, x1, y1]) => point.x >= x0 && point.x <= x1 && point.y >= y0 && point.y <= y1);
      if (hit >= 0) set(regions.filter((_, index) => index !== hit));
    },
    layers: () => [
      ...(editor.present.labels.coverage === "regions" ? [] : [{ boxes: editor.present.labels.regions, colour: COLOURS.accent, width: 1.5, dash: [4, 4], alpha: 0.7 }]),
      ...(box ? [{ boxes: [box], colour: COLOURS.accent, width: 2, dash: [6, 4], fill: 0.1 }] : []),
    ],
  };
}

/**
 * @param {Editor} editor
 * @returns {Tool}
 */
function sizing(editor) {
  /** @type {Point | null} */
  let centre = null;
  const here = () => (centre ??= { x: editor.viewer.x, y: editor.viewer.y });
  /** @param {number | null} px */
  const commit = (px) => {
    editor.preview = null;
    if (px !== null && px > 1) editor.commit([{ op: "diameter", px: Math.round(px * 100) / 100 }]);
    editor.changed();
  };
  return {
    name: "diameter", key: "D", title: "Diameter", icon: "diameter",
    hint: "Drag the circle's edge until a particle just fits; drag inside to move it. Or draw one from a particle's centre.",
    press(start) {
      const { radius, viewer } = editor;
      const from = { ...here() };
      const away = Math.hypot(start.x - from.x, start.y - from.y);
      const onEdge = Math.abs(away - radius) * viewer.zoom < NEAR;
      const moves = away < radius && !onEdge;
      if (!moves && !onEdge) centre = { x: start.x, y: start.y };
      return {
        move(point) {
          if (moves) centre = { x: from.x + point.x - start.x, y: from.y + point.y - start.y };
          else editor.preview = Math.max(2 * Math.hypot(point.x - here().x, point.y - here().y), 4 / viewer.zoom);
          editor.paint();
          editor.onChange?.();
        },
        end: () => (moves ? editor.paint() : commit(editor.preview)),
        cancel() {
          editor.preview = null;
          centre = from;
          editor.changed();
        },
      };
    },
    click(point) {
      centre = { x: point.x, y: point.y };
      editor.paint();
    },
    step: (direction) => commit(2 * editor.radius * 1.02 ** direction),
    begin() {
      centre = null;
    },
    layers: () => [
      { points: [here()], radius: editor.radius, colour: COLOURS.background, width: 5, alpha: 0.7 },
      { points: [here()], radius: editor.radius, colour: COLOURS.accent, width: 2.5, fill: 0.08, dot: 2.5 },
      { points: [{ x: here().x + editor.radius, y: here().y }], radius: 5.5 / editor.viewer.zoom, colour: COLOURS.accent, width: 0, fill: 1 },
    ],
  };
}
