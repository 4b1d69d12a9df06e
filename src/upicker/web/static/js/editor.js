/**
 * What is being labelled: one micrograph's labels, proposals and selection, and how they are drawn.
 *
 *   const editor = new Editor(viewer)
 *   editor.use(sheet)                sheet: {labels, history, proposals, info}, of one micrograph; null: none
 *   editor.commit(changes)           does something that can be undone; changes: labels.js's, and
 *                                  {op: "reject", index, value} of proposals
 *   editor.undo(), editor.redo()
 *   editor.diameter, editor.radius     raw px; diameter null: unknown, the radius is a guess then
 *   editor.nearest(point)            key of the label under a point, or null
 *   editor.add(point), editor.remove(keys), editor.accept(indices), editor.reject(indices)
 *   editor.removeSelected(), editor.selectAll(), editor.rejectHere(point), editor.regionOfView(), editor.hide()
 *   editor.paint()                   draw the marks anew
 *   editor.onChange()                labels, proposals or selection changed
 *   editor.onDiameter(px)            the user chose another diameter
 */

import { rounded } from "./geometry.js";
import { inverse } from "./history.js";
import { newKey } from "./labels.js";

export const COLOURS = { label: "#5fdd92", proposal: "#ffc14d", erased: "#ff7a70", accent: "#63b5f7", background: "#12151a", chosen: "#ffffff" };
const REACH = 8; // css px: what is smaller can still be hit

export class Editor {
  /** @param {import("./viewer.js").Viewer} viewer */
  constructor(viewer) {
    this.viewer = viewer;
    /** @type {Sheet | null} */
    this.sheet = null;
    /** @type {Set<string>} keys of labels */
    this.selection = new Set();
    /** @type {number | null} */
    this.preview = null; // a diameter that is being dragged
    /** @type {Set<string>} */
    this.hidden = new Set(); // labels that the tool draws itself, or has erased already
    /** @type {Tool | null} */
    this.tool = null;
    /** @type {Point | null} */
    this.cursor = null; // {x, y}: the keyboard's
    this.unseen = false; // labels and proposals are hidden, to see what lies below
    /** @type {(() => void) | null} */
    this.onChange = null;
    /** @type {((px: number) => void) | null} */
    this.onDiameter = null;
  }

  get labels() { return this.sheet?.labels ?? null; }
  get proposals() { return this.sheet?.proposals ?? null; }
  get diameter() { return this.preview ?? this.labels?.diameter_px ?? this.sheet?.info?.diameter_px ?? null; }
  get radius() { return (this.diameter ?? (this.sheet?.info?.shape[1] ?? 1000) / 20) / 2; }
  get ready() { return Boolean(this.labels?.loaded && this.sheet?.info); }

  /** Labels and image of the micrograph that is shown; only where `ready`. */
  get present() {
    const labels = this.labels;
    const info = this.sheet?.info;
    if (!labels?.loaded || !info) throw new Error("no micrograph is shown");
    return { labels, info };
  }

  /** @param {Sheet | null} sheet */
  use(sheet) {
    this.sheet = sheet;
    this.selection.clear();
    this.hidden.clear();
    this.preview = null;
    this.changed();
  }

  /** Labels, proposals or selection are other ones now. */
  changed() {
    for (const key of this.selection) if (!this.labels?.particles.has(key)) this.selection.delete(key);
    if (this.labels) this.proposals?.hideLabelled(this.labels.particles.values(), this.radius);
    this.paint();
    this.onChange?.();
  }

  /** @param {Change[]} changes */
  commit(changes) {
    if (!changes.length || !this.sheet || !this.labels) return;
    this.sheet.history.note(changes, inverse(this.labels, changes));
    this.#run(changes);
  }

  undo() {
    this.#again(this.sheet?.history.undo());
  }

  redo() {
    this.#again(this.sheet?.history.redo());
  }

  /** @param {Point} point */
  add(point) {
    const [rows, columns] = this.present.info.shape;
    if (point.x < -0.5 || point.y < -0.5 || point.x > columns - 0.5 || point.y > rows - 0.5) return;
    this.commit([{ op: "add", key: newKey(), ...place(point) }]);
  }

  /** @param {Iterable<string>} keys */
  remove(keys) {
    this.commit(Array.from(keys, (key) => ({ op: "remove", key })));
  }

  /** @param {Iterable<number>} indices */
  accept(indices) {
    const list = this.proposals?.list ?? [];
    this.commit(Array.from(indices, (index) => ({ op: "add", key: newKey(), ...place(list[index]) })));
  }

  /** @param {Iterable<number>} indices */
  reject(indices) {
    this.commit(Array.from(indices, (index) => ({ op: "reject", index, value: true })));
  }

  /** Labels go; of proposals that are selected, too, nothing is left. */
  removeSelected() {
    /** @type {Change[]} */
    const labels = Array.from(this.selection, (key) => ({ op: "remove", key }));
    /** @type {Change[]} */
    const proposals = Array.from(this.proposals?.chosen ?? [], (index) => ({ op: "reject", index, value: true }));
    this.commit([...labels, ...proposals]);
  }

  selectAll() {
    for (const key of this.present.labels.particles.keys()) this.selection.add(key);
    this.changed();
  }

  /** @param {Point | null} point */
  rejectHere(point) {
    if (!this.proposals) return;
    const here = point ? this.proposals.nearest(point, this.reach) : null;
    if (this.proposals.chosen.size) this.reject(this.proposals.chosen);
    else if (here !== null) this.reject([here]);
  }

  regionOfView() {
    const region = rounded(this.viewer.visible());
    this.commit([{ op: "regions", value: [...this.present.labels.regions, region] }, { op: "coverage", value: "regions" }]);
  }

  hide() {
    this.unseen = !this.unseen;
    this.paint();
  }

  /**
   * @param {Point} point
   * @param {number} [reach] raw pixels
   * @returns {string | null}
   */
  nearest(point, reach = this.reach) {
    let best = null;
    let least = reach;
    for (const [key, { x, y }] of this.present.labels.particles) {
      const distance = Math.hypot(x - point.x, y - point.y);
      if (distance < least) [best, least] = [key, distance];
    }
    return best;
  }

  get reach() {
    return Math.max(this.radius, REACH / this.viewer.zoom);
  }

  paint() {
    this.viewer.setOverlay(this.ready ? this.#layers() : []);
  }

  /** @param {Change[]} changes */
  #run(changes) {
    for (const change of changes) if (change.op === "reject") this.proposals?.reject(change.index, change.value);
    const own = changes.filter((change) => change.op !== "reject");
    const size = changes.findLast((change) => change.op === "diameter");
    if (own.length) this.labels?.apply(own); // calls changed()
    else this.changed();
    if (size?.op === "diameter") this.onDiameter?.(size.px);
  }

  /** @param {Change[] | null | undefined} changes */
  #again(changes) {
    if (changes) this.#run(changes);
  }

  /** @returns {Layer[]} */
  #layers() {
    if (this.unseen) return this.tool?.layers?.() ?? [];
    const { radius, present: { labels }, proposals } = this;
    /** @type {Point[]} */
    const points = [];
    /** @type {Point[]} */
    const chosen = [];
    for (const [key, point] of labels.particles) {
      if (!this.hidden.has(key)) (this.selection.has(key) ? chosen : points).push(point);
    }
    const proposed = proposals?.visible ?? [];
    const wanted = proposed.filter(({ index }) => proposals?.chosen.has(index));
    const inRegions = labels.coverage === "regions" && labels.regions.length > 0;
    return [
      ...(inRegions ? [{ boxes: labels.regions, outside: true, colour: COLOURS.background, alpha: 0.35 }] : []),
      ...(inRegions ? [{ boxes: labels.regions, colour: COLOURS.accent, width: 2 }] : []),
      { points: proposed, radius, colour: COLOURS.proposal, width: 1.5, alpha: 0.85, halo: 0.3 },
      { points: wanted, radius, colour: COLOURS.proposal, width: 3.5, halo: 0.5 },
      { points, radius, colour: COLOURS.label, width: 2, dot: 1.5, halo: 0.5 },
      { points: chosen, radius, colour: COLOURS.chosen, width: 3, dot: 1.5, halo: 0.5 },
      ...(this.tool?.layers?.() ?? []),
      ...(this.cursor ? [{ crosses: [this.cursor], size: 16, colour: COLOURS.background, width: 5 }, { crosses: [this.cursor], size: 15, colour: COLOURS.accent, width: 2 }] : []),
    ];
  }
}

/**
 * Positions to a hundredth of a pixel: what files keep.
 * @param {Point} point
 */
function place({ x, y }) {
  return { x: Math.round(x * 100) / 100, y: Math.round(y * 100) / 100 };
}
