/** The page for inspecting: puts the parts together; what is asked of the server, and when. */

import { explain, failure, get, picture, problemText, send } from "./api.js";
import { Counter } from "./counter.js";
import { openExport } from "./exporting.js";
import { follow, whenRead } from "./following.js";
import { Gallery } from "./gallery.js";
import { figureRows, showProblems } from "./figures.js";
import { figure, scored } from "./histogram.js";
import { bindKeys } from "./inspectkeys.js";
import { Keys } from "./keys.js";
import { Display } from "./display.js";
import { ThresholdPlot } from "./plot.js";
import { Readout } from "./readout.js";
import { Table } from "./table.js";
import { byId, find, folds, h, icon, later, many, panel, segmented, toast } from "./ui.js";
import { mark, Verdicts } from "./verdicts.js";
import { Viewer } from "./viewer.js";

const PATIENCE = 200; // ms before "loading" is shown
const KEPT = 30; // micrographs' picks
const HASH = 400; // ms that the address waits

/** @typedef {import("./gallery.js").CellName} CellName */

export class Page {
  /** @type {PickSummary | null} */
  #summary = null;
  /** @type {PickCounts | null} */
  #counts = null;
  /** @type {Map<number, import("./verdicts.js").PickContent>} responses of /api/micrographs/{id}/picks, by id */
  #contents = new Map();
  /** @type {AbortController | null} */
  #going = null;
  #counter = new Counter((counts) => {
    this.#counts = counts;
    this.table.count(counts);
    this.#figures();
  });
  /** @type {{cells: CellName[], rejected: boolean}[]} */
  #undo = []; // what was done
  #rejecting = Promise.resolve();

  /**
   * @param {Session} session
   * @param {MicrographItem[]} micrographs
   */
  constructor(session, micrographs) {
    this.session = session;
    this.micrographs = micrographs;
    this.mode = "micrograph";
    this.viewer = new Viewer(byId("viewer"));
    this.keys = new Keys();
    this.table = new Table(byId("list"), { onOpen: (id) => this.go(id) });
    this.plot = new ThresholdPlot(byId("plot"), { onMove: (threshold, final) => this.#move(threshold, final) });
    this.display = new Display(this.viewer, { onView: () => this.#showMicrograph() });
    this.readout = new Readout(this.viewer, byId("foot"));
    this.verdicts = new Verdicts(() => this.#draw());
    this.gallery = new Gallery(byId("gallery"), {
      nameOf: (id) => this.micrographs[id].name,
      scored: (score) => this.#scored(score),
      onReject: (cells, rejected) => this.reject(cells, rejected),
      onOpen: (cell) => this.#open(cell),
    });
    this.gallery.pixelSize = session.pixel_size_A;
    this.keepAddress = later(() => this.#keepAddress(), HASH);
    this.modes = segmented({ text: "Show", name: "mode", options: [["micrograph", "Micrographs"], ["gallery", "Gallery"]], value: "micrograph", change: (mode) => this.show(mode) });
    this.sums = h("div", { class: "figures" });
    this.problems = panel("Problems", { id: "inspect problems" });
    this.#layOut();
    this.#wire();
  }

  async start() {
    const wanted = new URLSearchParams(location.hash.slice(1));
    this.table.use(this.micrographs, this.session.labels !== null);
    this.verdicts.use(this.session.labels !== null);
    const id = Number(wanted.get("m") ?? 0);
    this.go(this.micrographs[id] ? id : 0);
    if (wanted.get("v") === "gallery") this.show("gallery");
    const summary = await this.#loaded();
    const threshold = Number(wanted.get("t") ?? NaN);
    const first = summary.threshold ?? summary.lowest ?? 0;
    this.plot.threshold = Number.isFinite(threshold) && wanted.has("t") ? threshold : first;
    this.#move(this.plot.threshold, true);
    await this.#content(this.table.current);
    follow(() => this.#summary?.number, () => this.#renew());
  }

  get threshold() {
    return this.plot.threshold;
  }

  /** @param {string} mode */
  show(mode) {
    this.mode = mode;
    this.modes.value = mode;
    document.body.dataset.mode = mode;
    byId("gallery").hidden = mode !== "gallery";
    byId("viewer").hidden = mode === "gallery";
    this.#busy(null);
    if (mode === "gallery" && this.#summary) this.gallery.show(this.threshold).then(() => this.gallery.focus());
    this.keepAddress();
  }

  /** @param {number | null} id */
  async go(id) {
    if (id === null) return;
    this.#going?.abort();
    const going = (this.#going = new AbortController());
    const { name } = this.micrographs[id];
    this.table.current = id;
    byId("name").textContent = byId("name").title = name;
    document.title = `${name} · UPicker`;
    this.viewer.setOverlay([]);
    this.readout.use(null);
    this.#card(null);
    this.#figures();
    this.keepAddress();
    if (this.viewer.info && this.viewer.info.id !== id) this.viewer.element.classList.add("dim");
    const busy = setTimeout(() => this.#busy(`Loading ${name}`), PATIENCE);
    try {
      await Promise.all([this.#showMicrograph(going), this.#content(id)]);
    } finally {
      clearTimeout(busy);
      if (this.#going === going) this.#busy(null);
    }
  }

  /**
   * Rejects picks or takes them back; the server hears of one change after the other.
   * @param {CellName[]} cells
   * @param {boolean} rejected
   * @param {boolean} [isUndo]
   */
  reject(cells, rejected, isUndo = false) {
    this.#mark(cells, rejected);
    if (!isUndo) this.#undo.push({ cells, rejected });
    byId("undo", HTMLButtonElement).disabled = !this.#undo.length;
    const numbers = [...new Set(cells.map(({ micrograph }) => micrograph))];
    const changes = numbers.map((number) => ({ micrograph: number, indices: cells.filter((cell) => cell.micrograph === number).map(({ index }) => index) }));
    this.#rejecting = this.#rejecting.then(async () => {
      try {
        const { rejected: count } = await send("POST", "/api/picks/reject", { changes, rejected, number: this.#summary?.number });
        if (this.#summary) this.#summary.rejected = count;
      } catch (error) {
        this.#mark(cells, !rejected);
        this.#undo = this.#undo.filter((done) => done.cells !== cells);
        byId("undo", HTMLButtonElement).disabled = !this.#undo.length;
        toast(`This was not saved. ${explain(error)}`, { kind: "error" });
        return;
      }
      for (const number of numbers) this.#contents.delete(number);
      this.#recount();
      if (this.table.current !== null && numbers.includes(this.table.current)) await this.#content(this.table.current);
    });
  }

  undo() {
    const last = this.#undo.pop();
    if (last) this.reject(last.cells, !last.rejected, true);
  }

  #forget() {
    this.#undo = [];
    byId("undo", HTMLButtonElement).disabled = true;
    if (this.mode === "gallery") this.gallery.show(this.threshold);
  }

  #layOut() {
    byId("previous").append(icon("previous"));
    byId("next").append(icon("next"));
    byId("undo").append(icon("undo"));
    byId("help").append(icon("help"));
    find(document, "[data-fold=left]").append(icon("list"));
    find(document, "[data-fold=right]").append(icon("panels"));
    byId("mode").append(this.modes.element);
    this.problems.hidden = true;
    byId("panels").append(
      this.problems,
      panel("Figures", { id: "inspect figures" }, this.sums),
      panel("Marks", { id: "inspect marks" }, this.verdicts.element, h("p", { class: "muted" }, "Click a pick to reject it, or to accept it again.")),
      panel("Display", { id: "inspect display", open: false }, this.display.element));
    folds();
    byId("plot").setAttribute("aria-busy", "true");
    byId("export", HTMLButtonElement).disabled = true;
  }

  #wire() {
    const { viewer } = this;
    viewer.onHover = (point) => this.#hover(point);
    viewer.onView = () => this.readout.view();
    viewer.onClick = (point) => {
      const pick = this.#under(point);
      const micrograph = this.table.current;
      if (pick && micrograph !== null) this.reject([{ micrograph, index: pick.index }], !pick.rejected);
    };
    byId("previous").addEventListener("click", () => this.go(this.table.next(this.table.current, -1)));
    byId("next").addEventListener("click", () => this.go(this.table.next(this.table.current, 1)));
    byId("undo").addEventListener("click", () => this.undo());
    byId("export").addEventListener("click", () => this.exportPicks());
    byId("help").addEventListener("click", () => this.keys.help());
    bindKeys(this);
  }

  /** Shows what the server has read meanwhile; micrograph, threshold and view stay. */
  async #renew() {
    const before = this.#summary;
    const [micrographs, summary, curve] = await Promise.all([get("/api/micrographs"), get("/api/picks/summary"), get("/api/picks/curve")]);
    this.micrographs = micrographs;
    this.#contents.clear();
    if (before && !before.total) this.#card(null);
    this.#describe(summary, curve);
    if (before && summary.replaced > before.number) this.#forget();
    this.#counter.ask(this.threshold, true);
    await this.#content(this.table.current);
  }

  async #loaded() {
    const found = await whenRead((fraction) => {
      this.#card("Reading picks", h("progress", { class: "progress", max: 1, value: fraction, "aria-label": "Read so far" }),
        h("p", { class: "muted" }, `${Math.round(100 * fraction)} % of the files of ${this.session.picks}`));
    });
    this.#card(null);
    byId("plot").removeAttribute("aria-busy");
    this.#describe(found, await get("/api/picks/curve"));
    return found;
  }

  /**
   * Shows what belongs to all picks.
   * @param {PickSummary} found
   * @param {PickCurve} curve
   */
  #describe(found, curve) {
    this.#summary = found;
    this.table.use(this.micrographs, found.has_labels);
    this.table.reveal();
    this.plot.use(found, curve);
    this.gallery.labelled = found.has_labels;
    this.verdicts.use(found.has_labels);
    showProblems(this.problems, found);
    if (!found.total) this.#card("There are no picks", h("p", {}, `${this.session.picks} holds no picks of these micrographs.`));
  }

  /**
   * The line was moved: what this page has itself is updated at once, the rest when the server has counted.
   * @param {number} threshold
   * @param {boolean} final
   */
  #move(threshold, final) {
    this.#draw();
    this.#figures();
    this.#counter.ask(threshold, final);
    if (!final) return;
    if (this.mode === "gallery") this.gallery.show(threshold);
    this.keepAddress();
  }

  #recount = later(async () => {
    this.#counter.ask(this.threshold, true);
    try {
      if (this.#summary) this.plot.use(this.#summary, await get("/api/picks/curve"));
    } catch {
      // The next rejection asks again.
    }
  }, 250);

  /** @param {number | null} id */
  async #content(id) {
    if (!this.#summary || id === null) return;
    try {
      if (!this.#contents.has(id)) {
        const content = await get(`/api/micrographs/${id}/picks`);
        this.#contents.set(id, content);
        const [oldest] = this.#contents.keys();
        if (this.#contents.size > KEPT) this.#contents.delete(oldest);
      }
    } catch (error) {
      toast(`The picks of ${this.micrographs[id].name} cannot be shown. ${explain(error)}`, { kind: "error" });
    }
    if (id !== this.table.current) return;
    this.#draw();
    this.#figures();
  }

  /** @param {AbortController | null} going */
  async #showMicrograph(going = this.#going) {
    const id = this.table.current;
    if (id === null) return;
    try {
      const info = await picture(id, this.display.view, { signal: going?.signal });
      if (info.error) throw new Error(problemText(info.error));
      this.viewer.show(info);
      this.display.use(info);
      this.readout.use(info);
    } catch (error) {
      if (failure(error).name === "AbortError") return;
      if (this.viewer.info?.id === id) return void toast(`This view cannot be shown. ${explain(error)}`, { kind: "error" });
      this.viewer.clear();
      this.#card("This micrograph cannot be shown", h("p", {}, explain(error)),
        h("div", { class: "row" }, h("button", { class: "button", type: "button", onclick: () => this.go(id) }, "Try again")));
    }
  }

  #draw() {
    const content = this.#contents.get(this.table.current ?? -1);
    this.viewer.setOverlay(content ? this.verdicts.layers(content, this.threshold) : []);
  }

  #figures() {
    if (!this.#summary || !this.#counts) return;
    const { total } = this.#counts;
    byId("kept").replaceChildren(h("b", {}, total.toLocaleString("en")), ` of ${many(this.#summary.total, "pick")} at ${figure(this.threshold)}`);
    byId("export", HTMLButtonElement).disabled = false;
    this.plot.describe(`${many(total, "pick")} kept`);
    const content = this.#contents.get(this.table.current ?? -1);
    const here = content ? this.verdicts.figures(content, this.threshold) : null;
    const { rows, note } = figureRows(this.#summary, this.#counts, content ?? null, here);
    this.sums.replaceChildren(h("span"), h("span", { class: "head" }, "here"), h("span", { class: "head" }, "all"), ...rows);
    this.sums.parentElement?.querySelector("p")?.remove();
    if (note) this.sums.after(note);
  }

  /** @param {Point | null} point */
  #under(point) {
    const content = this.#contents.get(this.table.current ?? -1);
    return content && point ? this.verdicts.at(content, this.threshold, point, this.viewer.zoom) : null;
  }

  /** @param {number} score */
  #scored(score) {
    return this.#summary ? scored(this.#summary.score, score) : figure(score);
  }

  /** @param {Point | null} point */
  #hover(point) {
    this.readout.hover(point);
    const [pick, element] = [this.#under(point), this.viewer.element];
    const [cursor, title] = pick ? ["pointer", `${this.#scored(pick.score)}${pick.rejected ? ", rejected" : ""}`] : ["", ""];
    if (element.title === title && element.style.cursor === cursor) return; // writing them costs a layout
    element.style.cursor = cursor;
    element.title = title;
  }

  /**
   * @param {CellName[]} cells
   * @param {boolean} rejected
   */
  #mark(cells, rejected) {
    this.gallery.mark(cells, rejected);
    for (const number of new Set(cells.map(({ micrograph }) => micrograph))) {
      const content = this.#contents.get(number);
      if (content) mark(content, cells.filter((cell) => cell.micrograph === number).map(({ index }) => index), rejected);
    }
    this.#draw();
    this.#figures();
  }

  /** @param {CellName} cell */
  async #open({ micrograph, index }) {
    this.show("micrograph");
    await this.go(micrograph);
    const pick = this.#contents.get(micrograph)?.picks.find(([each]) => each === index);
    if (pick) this.viewer.centreOn(pick[1], pick[2], Math.max(this.viewer.zoom, 120 / (pick[4] || 100)));
  }

  async exportPicks() {
    if (!this.#summary || !this.#counts) return;
    await this.#rejecting;
    await openExport({ lowest: this.#scored(this.threshold), threshold: this.threshold, kept: this.#counts.total, rejected: this.#summary.rejected, micrographs: this.#summary.micrographs });
  }

  /**
   * @param {string | null} title
   * @param {...Node} content
   */
  #card(title, ...content) {
    byId("over").querySelector(".card")?.remove();
    if (title) byId("over").append(h("div", { class: "card", role: "status" }, h("h2", {}, title), ...content));
  }

  /** @param {string | null} text */
  #busy(text) {
    byId("over").querySelector(".hint")?.remove();
    if (text && this.mode === "micrograph") byId("over").append(h("div", { class: "hint row" }, h("span", { class: "spinner" }), text));
  }

  #keepAddress() {
    const parts = new URLSearchParams({ m: String(this.table.current ?? 0) });
    if (this.#summary) parts.set("t", String(this.threshold));
    if (this.mode === "gallery") parts.set("v", "gallery");
    history.replaceState(null, "", `#${parts}`);
  }

  /** @param {unknown} error */
  failed(error) {
    this.#card("The picks cannot be shown", h("p", {}, explain(error)));
  }
}
