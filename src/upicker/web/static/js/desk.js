// @ts-nocheck
/**
 * What is being labelled: one micrograph's labels, proposals and selection, and how they are drawn.
 *
 *   const desk = new Desk(viewer)
 *   desk.use(sheet)                sheet: {labels, history, proposals, info}, of one micrograph; null: none
 *   desk.commit(changes)           does something that can be undone; changes: labels.js's, and
 *                                  {op: "reject", index, value} of proposals
 *   desk.undo(), desk.redo()
 *   desk.diameter, desk.radius     raw px; diameter null: nobody has said it, radius is a guess then
 *   desk.nearest(point)            key of the label under a point, or null
 *   desk.add(point), desk.remove(keys), desk.accept(indices), desk.reject(indices)
 *   desk.removeSelected(), desk.selectAll(), desk.rejectHere(point), desk.regionOfView(), desk.hide()
 *   desk.paint()                   draw the marks anew
 *   desk.onChange()                labels, proposals or selection changed
 *   desk.onDiameter(px)            the user chose another diameter
 */

import { inverse } from "./history.js";
import { newKey } from "./labels.js";

export const COLOURS = { label: "#5fdd92", proposal: "#ffc14d", erased: "#ff7a70", accent: "#63b5f7", ground: "#12151a", chosen: "#ffffff" };
const REACH = 8; // css px: what is smaller can still be hit

export class Desk {
  constructor(viewer) {
    this.viewer = viewer;
    this.sheet = null;
    this.selection = new Set();
    this.preview = null; // a diameter that is being dragged
    this.hidden = new Set(); // labels that the tool draws itself, or has erased already
    this.tool = null;
    this.cursor = null; // {x, y}: the keyboard's
    this.unseen = false; // labels and proposals are hidden, to see what lies below
    this.onChange = null;
    this.onDiameter = null;
  }

  get labels() { return this.sheet?.labels ?? null; }
  get proposals() { return this.sheet?.proposals ?? null; }
  get diameter() { return this.preview ?? this.labels?.diameter_px ?? this.sheet?.info?.diameter_px ?? null; }
  get radius() { return (this.diameter ?? (this.sheet?.info?.shape[1] ?? 1000) / 20) / 2; }
  get ready() { return Boolean(this.labels?.loaded && this.sheet.info); }

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
    this.proposals?.hideLabelled(this.labels.particles.values(), this.radius);
    this.paint();
    this.onChange?.();
  }

  commit(changes) {
    if (!changes.length) return;
    this.sheet.history.note(changes, inverse(this.labels, changes));
    this.#run(changes);
  }

  undo() {
    this.#again(this.sheet?.history.undo());
  }

  redo() {
    this.#again(this.sheet?.history.redo());
  }

  add(point) {
    const [rows, columns] = this.sheet.info.shape;
    if (point.x < -0.5 || point.y < -0.5 || point.x > columns - 0.5 || point.y > rows - 0.5) return;
    this.commit([{ op: "add", key: newKey(), ...place(point) }]);
  }

  remove(keys) {
    this.commit([...keys].map((key) => ({ op: "remove", key })));
  }

  accept(indices) {
    this.commit([...indices].map((index) => ({ op: "add", key: newKey(), ...place(this.proposals.list[index]) })));
  }

  reject(indices) {
    this.commit([...indices].map((index) => ({ op: "reject", index, value: true })));
  }

  /** Labels go; of proposals that are selected, too, nothing is left. */
  removeSelected() {
    const labels = [...this.selection].map((key) => ({ op: "remove", key }));
    const proposals = [...(this.proposals?.chosen ?? [])].map((index) => ({ op: "reject", index, value: true }));
    this.commit([...labels, ...proposals]);
  }

  selectAll() {
    for (const key of this.labels.particles.keys()) this.selection.add(key);
    this.changed();
  }

  rejectHere(point) {
    if (!this.proposals) return;
    const here = point ? this.proposals.nearest(point, this.reach) : null;
    if (this.proposals.chosen.size) this.reject(this.proposals.chosen);
    else if (here !== null) this.reject([here]);
  }

  regionOfView() {
    const region = this.viewer.visible().map((value) => Math.round(value * 10) / 10);
    this.commit([{ op: "regions", value: [...this.labels.regions, region] }, { op: "coverage", value: "regions" }]);
  }

  hide() {
    this.unseen = !this.unseen;
    this.paint();
  }

  nearest(point, reach = this.reach) {
    let best = null;
    let least = reach;
    for (const [key, { x, y }] of this.labels.particles) {
      const distance = Math.hypot(x - point.x, y - point.y);
      if (distance < least) [best, least] = [key, distance];
    }
    return best;
  }

  get reach() {
    return Math.max(this.radius, REACH / this.viewer.zoom);
  }

  paint() {
    this.viewer.setMarks(this.ready ? this.#layers() : []);
  }

  #run(changes) {
    for (const change of changes) if (change.op === "reject") this.proposals?.reject(change.index, change.value);
    const own = changes.filter((change) => change.op !== "reject");
    const size = changes.findLast((change) => change.op === "diameter");
    if (own.length) this.labels.apply(own); // calls changed()
    else this.changed();
    if (size) this.onDiameter?.(size.px);
  }

  #again(changes) {
    if (changes) this.#run(changes);
  }

  #layers() {
    if (this.unseen) return this.tool?.layers?.() ?? [];
    const { labels, radius } = this;
    const points = [];
    const chosen = [];
    for (const [key, point] of labels.particles) {
      if (!this.hidden.has(key)) (this.selection.has(key) ? chosen : points).push(point);
    }
    const proposed = this.proposals?.visible ?? [];
    const wanted = this.proposals?.chosen.size ? proposed.filter(({ index }) => this.proposals.chosen.has(index)) : [];
    const inRegions = labels.coverage === "regions" && labels.regions.length > 0;
    return [
      ...(inRegions ? [{ boxes: labels.regions, outside: true, colour: COLOURS.ground, alpha: 0.35 }] : []),
      ...(inRegions ? [{ boxes: labels.regions, colour: COLOURS.accent, width: 2 }] : []),
      { points: proposed, radius, colour: COLOURS.proposal, width: 1.5, alpha: 0.85, halo: 0.3 },
      { points: wanted, radius, colour: COLOURS.proposal, width: 3.5, halo: 0.5 },
      { points, radius, colour: COLOURS.label, width: 2, dot: 1.5, halo: 0.5 },
      { points: chosen, radius, colour: COLOURS.chosen, width: 3, dot: 1.5, halo: 0.5 },
      ...(this.tool?.layers?.() ?? []),
      ...(this.cursor ? [{ crosses: [this.cursor], size: 16, colour: COLOURS.ground, width: 5 }, { crosses: [this.cursor], size: 15, colour: COLOURS.accent, width: 2 }] : []),
    ];
  }
}

/** Positions to a hundredth of a pixel: what files keep. */
function place({ x, y }) {
  return { x: Math.round(x * 100) / 100, y: Math.round(y * 100) / 100 };
}
