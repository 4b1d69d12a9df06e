// @ts-nocheck
/** The page for inspecting: puts the parts together; what is asked of the server, and when. */
import { explain, get, picture, send } from "./api.js";
import { openExport } from "./exporting.js";
import { Gallery } from "./gallery.js";
import { figure } from "./histogram.js";
import { Keys } from "./keys.js";
import { Looks } from "./looks.js";
import { ThresholdPlot } from "./plot.js";
import { Readout } from "./readout.js";
import { Table } from "./table.js";
import { folds, h, icon, later, many, panel, segmented, toast } from "./ui.js";
import { mark, Verdicts } from "./verdicts.js";
import { Viewer } from "./viewer.js";

const POLL = 400; // ms between questions while picks are being read
const PATIENCE = 200; // ms before "loading" is said
const KEPT = 30; // micrographs' picks
const HASH = 400; // ms that the address waits
const byId = (id) => document.getElementById(id);

class Page {
  #summary = null;
  #counts = null;
  #contents = new Map(); // id -> answer of /api/micrographs/{id}/picks
  #going = null;
  #counting = null; // {threshold, detail} to be asked for, while another question is under way
  #asking = false;
  #undo = []; // {cells, rejected}: what was done
  #rejecting = Promise.resolve();

  constructor(session, micrographs) {
    this.session = session;
    this.micrographs = micrographs;
    this.mode = "micrograph";
    this.viewer = new Viewer(byId("viewer"));
    this.keys = new Keys();
    this.table = new Table(byId("list"), { onOpen: (id) => this.go(id) });
    this.plot = new ThresholdPlot(byId("plot"), { onMove: (threshold, final) => this.#move(threshold, final) });
    this.looks = new Looks(this.viewer, { onView: () => this.#showPicture() });
    this.readout = new Readout(this.viewer, byId("foot"));
    this.verdicts = new Verdicts(() => this.#draw());
    this.gallery = new Gallery(byId("gallery"), {
      nameOf: (id) => micrographs[id].name,
      onReject: (cells, rejected) => this.reject(cells, rejected),
      onOpen: (cell) => this.#open(cell),
    });
    this.gallery.pixelSize = session.pixel_size_A;
    this.keepAddress = later(() => this.#keepAddress(), HASH);
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
    await this.#loaded();
    const threshold = Number(wanted.get("t") ?? NaN);
    const first = this.#summary.threshold ?? this.#summary.lowest ?? 0;
    this.plot.threshold = Number.isFinite(threshold) && wanted.has("t") ? threshold : first;
    this.#move(this.plot.threshold, true);
    await this.#content(this.table.current);
  }

  get threshold() {
    return this.plot.threshold;
  }

  show(mode) {
    this.mode = this.modes.value = mode;
    document.body.dataset.mode = mode;
    byId("gallery").hidden = mode !== "gallery";
    byId("viewer").hidden = mode === "gallery";
    this.#busy(null);
    if (mode === "gallery" && this.#summary) this.gallery.show(this.threshold).then(() => this.gallery.focus());
    this.keepAddress();
  }

  async go(id) {
    if (id === null) return;
    this.#going?.abort();
    const going = (this.#going = new AbortController());
    const { name } = this.micrographs[id];
    this.table.current = id;
    byId("name").textContent = byId("name").title = name;
    document.title = `${name} · UPicker`;
    this.viewer.setMarks([]);
    this.readout.use(null);
    this.#card(null);
    this.#figures();
    this.keepAddress();
    if (this.viewer.info && this.viewer.info.id !== id) this.viewer.element.classList.add("dim");
    const busy = setTimeout(() => this.#busy(`Loading ${name}`), PATIENCE);
    try {
      await Promise.all([this.#showPicture(going), this.#content(id)]);
    } finally {
      clearTimeout(busy);
      if (this.#going === going) this.#busy(null);
    }
  }

  /** Rejects picks or takes them back; the server hears of one change after the other. */
  reject(cells, rejected, isUndo = false) {
    this.#mark(cells, rejected);
    if (!isUndo) this.#undo.push({ cells, rejected });
    byId("undo").disabled = !this.#undo.length;
    const numbers = [...new Set(cells.map(({ micrograph }) => micrograph))];
    const changes = numbers.map((number) => ({ micrograph: number, indices: cells.filter((cell) => cell.micrograph === number).map(({ index }) => index) }));
    this.#rejecting = this.#rejecting.then(async () => {
      try {
        const { rejected: count } = await send("POST", "/api/picks/reject", { changes, rejected });
        this.#summary.rejected = count;
      } catch (error) {
        this.#mark(cells, !rejected);
        this.#undo = this.#undo.filter((done) => done.cells !== cells);
        byId("undo").disabled = !this.#undo.length;
        toast(`This was not kept. ${explain(error)}`, { kind: "error" });
        return;
      }
      for (const number of numbers) this.#contents.delete(number);
      this.#recount();
      if (numbers.includes(this.table.current)) await this.#content(this.table.current);
    });
  }

  undo() {
    const last = this.#undo.pop();
    if (last) this.reject(last.cells, !last.rejected, true);
  }

  #layOut() {
    byId("previous").append(icon("previous"));
    byId("next").append(icon("next"));
    byId("undo").append(icon("undo"));
    byId("help").append(icon("help"));
    document.querySelector("[data-fold=left]").append(icon("list"));
    document.querySelector("[data-fold=right]").append(icon("panels"));
    this.modes = segmented({ text: "Show", name: "mode", options: [["micrograph", "Micrographs"], ["gallery", "Gallery"]], value: "micrograph", change: (mode) => this.show(mode) });
    byId("mode").append(this.modes.element);
    this.sums = h("div", { class: "figures" });
    this.problems = panel("Problems", { id: "inspect problems" });
    this.problems.hidden = true;
    byId("panels").append(
      this.problems,
      panel("Figures", { id: "inspect figures" }, this.sums),
      panel("Marks", { id: "inspect marks" }, this.verdicts.element, h("p", { class: "muted" }, "Click a pick to reject it, or to take it back.")),
      panel("Picture", { id: "inspect picture", open: false }, this.looks.element));
    folds();
    byId("plot").setAttribute("aria-busy", "true");
    byId("export").disabled = true;
  }

  #wire() {
    const { viewer, keys } = this;
    viewer.onHover = (point) => this.#hover(point);
    viewer.onView = () => this.readout.view();
    viewer.onClick = (point) => {
      const pick = this.#under(point);
      if (pick) this.reject([{ micrograph: this.table.current, index: pick.index }], !pick.rejected);
    };
    byId("previous").addEventListener("click", () => this.go(this.table.next(this.table.current, -1)));
    byId("next").addEventListener("click", () => this.go(this.table.next(this.table.current, 1)));
    byId("undo").addEventListener("click", () => this.undo());
    byId("export").addEventListener("click", () => this.#export());
    byId("help").addEventListener("click", () => this.keys.help());
    const inPicture = (run) => () => (this.mode === "micrograph" ? run() : false);
    const group = (name) => ({ group: name });
    keys.on("N J", "Next micrograph", inPicture(() => this.go(this.table.next(this.table.current, 1))), group("Micrographs"));
    keys.on("P K", "Previous micrograph", inPicture(() => this.go(this.table.next(this.table.current, -1))), group("Micrographs"));
    keys.on("G", "Gallery, and back", () => this.show(this.mode === "gallery" ? "micrograph" : "gallery"));
    keys.on("E", "Accept the threshold and export", () => this.#export());
    keys.on("?", "This list", () => this.keys.help());
    keys.on("Ctrl+Z", "Undo a rejection", () => this.undo());
    keys.on("[ ArrowLeft", "Lower the threshold", () => this.plot.step(-1), group("Threshold"));
    keys.on("] ArrowRight", "Raise the threshold", () => this.plot.step(1), group("Threshold"));
    keys.on("{ Shift+ArrowLeft", "Lower it much", () => this.plot.step(-10), group("Threshold"));
    keys.on("} Shift+ArrowRight", "Raise it much", () => this.plot.step(10), group("Threshold"));
    keys.on("+ =", "Closer", inPicture(() => viewer.zoomBy(1.4)), group("Picture"));
    keys.on("-", "Further away", inPicture(() => viewer.zoomBy(1 / 1.4)), group("Picture"));
    keys.on("0", "All of the micrograph", inPicture(() => viewer.fit()), group("Picture"));
    keys.on("I", "Invert", inPicture(() => this.looks.toggle("invert")), group("Picture"));
    keys.on("L", "Low-pass", inPicture(() => this.looks.toggle("lowpass")), group("Picture"));
    keys.on("M", "The model's view", inPicture(() => this.looks.toggle("prepared")), group("Picture"));
    keys.on("B", "Picks below the threshold, too", inPicture(() => this.verdicts.toggle("under")), group("Picture"));
    keys.on("X", "Reject the particle, or take it back; with Shift, all from the last one on", () => false, group("Gallery"));
    keys.on("O", "Open the particle's micrograph", () => false, group("Gallery"));
  }

  async #loaded() {
    for (;;) {
      const found = await get("/api/picks/summary");
      if (found.loading === undefined) {
        this.#summary = found;
        break;
      }
      this.#card("Reading picks", h("progress", { class: "progress", max: 1, value: found.loading, "aria-label": "Read so far" }),
        h("p", { class: "muted" }, `${Math.round(100 * found.loading)} % of the files of ${this.session.picks}`));
      await new Promise((resolve) => setTimeout(resolve, POLL));
    }
    this.#card(null);
    this.plot.use(this.#summary, await get("/api/picks/curve"));
    byId("plot").removeAttribute("aria-busy");
    this.gallery.labelled = this.#summary.has_labels;
    if (this.session.labels !== null && !this.#summary.has_labels) {
      this.table.use(this.micrographs, false);
      this.table.reveal();
    }
    this.verdicts.use(this.#summary.has_labels);
    this.#tellProblems();
    if (!this.#summary.total) this.#card("There are no picks", h("p", {}, `${this.session.picks} holds no picks of these micrographs.`));
  }

  #tellProblems() {
    const { problems, more_problems: more, strangers } = this.#summary;
    const texts = [...problems];
    if (more) texts.push(`… and ${more} more`);
    if (strangers) texts.push(`Picks of ${many(strangers, "other micrograph")} are left out.`);
    this.problems.hidden = !texts.length;
    this.problems.querySelector("summary").textContent = `Problems (${problems.length + more + (strangers ? 1 : 0)})`;
    this.problems.querySelector(".body").replaceChildren(h("ul", { class: "problems" }, texts.map((text) => h("li", {}, text))));
  }

  /** The line was moved: what this page knows itself follows at once, the rest when the server has counted. */
  #move(threshold, final) {
    this.#draw();
    this.#figures();
    this.#count(threshold, final);
    if (!final) return;
    if (this.mode === "gallery") this.gallery.show(threshold);
    this.keepAddress();
  }

  /** One question at a time; of those that come meanwhile, only the last is asked. */
  async #count(threshold, detail) {
    this.#counting = { threshold, detail: detail || this.#counting?.detail };
    if (this.#asking) return;
    this.#asking = true;
    try {
      while (this.#counting) {
        const { threshold: asked, detail: all } = this.#counting;
        this.#counting = null;
        this.#counts = await get(`/api/picks/counts?threshold=${asked}${all ? "&detail=1" : ""}`);
        this.table.count(this.#counts);
        this.#figures();
      }
    } catch (error) {
      toast(`The picks could not be counted. ${explain(error)}`, { kind: "error" });
    } finally {
      this.#asking = false;
    }
  }

  #recount = later(async () => {
    this.#count(this.threshold, true);
    try {
      this.plot.use(this.#summary, await get("/api/picks/curve"));
    } catch {
      // The next rejection asks again.
    }
  }, 250);

  async #content(id) {
    if (!this.#summary) return;
    try {
      if (!this.#contents.has(id)) {
        const content = await get(`/api/micrographs/${id}/picks`);
        this.#contents.set(id, content);
        if (this.#contents.size > KEPT) this.#contents.delete(this.#contents.keys().next().value);
      }
    } catch (error) {
      toast(`The picks of ${this.micrographs[id].name} cannot be shown. ${explain(error)}`, { kind: "error" });
    }
    if (id !== this.table.current) return;
    this.#draw();
    this.#figures();
  }

  async #showPicture(going = this.#going) {
    const id = this.table.current;
    try {
      const info = await picture(id, this.looks.view, going);
      if (info.error) throw new Error(`${info.error.found}. ${info.error.remedy}.`);
      this.viewer.show(info);
      this.looks.use(info);
      this.readout.use(info);
    } catch (error) {
      if (error.name === "AbortError") return;
      if (this.viewer.info?.id === id) return void toast(`This view cannot be shown. ${explain(error)}`, { kind: "error" });
      this.viewer.clear();
      this.#card("This micrograph cannot be shown", h("p", {}, explain(error)),
        h("div", { class: "row" }, h("button", { class: "button", type: "button", onclick: () => this.go(id) }, "Try again")));
    }
  }

  #draw() {
    const content = this.#contents.get(this.table.current);
    this.viewer.setMarks(content ? this.verdicts.layers(content, this.threshold) : []);
  }

  #figures() {
    const total = this.#counts?.total;
    if (!this.#summary || total === undefined) return;
    const { rejected, labels, labelled, micrographs } = this.#summary;
    byId("kept").replaceChildren(h("b", {}, total.toLocaleString("en")), ` of ${many(this.#summary.total, "pick")} at ${figure(this.threshold)}`);
    byId("export").disabled = false;
    this.plot.say(`${many(total, "pick")} kept`);
    const content = this.#contents.get(this.table.current);
    const here = content ? this.verdicts.figures(content, this.threshold) : null;
    const share = (value) => (value === null || value === undefined ? "–" : value.toFixed(3));
    const { score } = this.#counts;
    const rows = [["picks kept", here?.kept.toLocaleString("en"), total.toLocaleString("en"), "strong"], ["rejected", here?.rejected, rejected.toLocaleString("en")]];
    if (score) {
      rows.push(["labels", here && content.has_labels ? here.labels : "–", labels.toLocaleString("en")], ["precision", share(here?.precision), share(score.precision)], ["recall", share(here?.recall), share(score.recall)], ["F1", share(here?.f1), share(score.f1), "strong"]);
    }
    const note = score && labelled < micrographs ? h("p", { class: "muted" }, `Precision, recall and F1 of all: those of the ${many(labelled, "labelled micrograph")}.`) : null;
    this.sums.replaceChildren(h("span"), h("span", { class: "head" }, "here"), h("span", { class: "head" }, "all"),
      ...rows.flatMap(([text, mine, all, kind]) => [h("span", { class: "muted" }, text), h("span", { class: `amount ${kind ?? ""}` }, String(mine ?? "–")), h("span", { class: `amount ${kind ?? ""}` }, String(all))]));
    this.sums.parentNode.querySelector("p")?.remove();
    if (note) this.sums.after(note);
  }

  #under(point) {
    const content = this.#contents.get(this.table.current);
    return content && point ? this.verdicts.at(content, this.threshold, point, this.viewer.zoom) : null;
  }

  #hover(point) {
    this.readout.hover(point);
    const pick = this.#under(point);
    const { element } = this.viewer;
    const [cursor, title] = pick ? ["pointer", `score ${figure(pick.score)}${pick.rejected ? ", rejected" : ""}`] : ["", ""];
    if (element.title === title && element.style.cursor === cursor) return; // writing them costs a layout
    element.style.cursor = cursor;
    element.title = title;
  }

  #mark(cells, rejected) {
    this.gallery.mark(cells, rejected);
    for (const number of new Set(cells.map(({ micrograph }) => micrograph))) {
      const content = this.#contents.get(number);
      if (content) mark(content, cells.filter((cell) => cell.micrograph === number).map(({ index }) => index), rejected);
    }
    this.#draw();
    this.#figures();
  }

  async #open({ micrograph, index }) {
    this.show("micrograph");
    await this.go(micrograph);
    const pick = this.#contents.get(micrograph)?.picks.find(([each]) => each === index);
    if (pick) this.viewer.centreOn(pick[1], pick[2], Math.max(this.viewer.zoom, 120 / (pick[4] || 100)));
  }

  async #export() {
    if (!this.#summary || !this.#counts) return;
    await this.#rejecting;
    await openExport({ threshold: this.threshold, kept: this.#counts.total, rejected: this.#summary.rejected, micrographs: this.#summary.micrographs });
  }

  #card(title, ...content) {
    byId("over").querySelector(".card")?.remove();
    if (title) byId("over").append(h("div", { class: "card", role: "status" }, h("h2", {}, title), ...content));
  }

  #busy(text) {
    byId("over").querySelector(".hint")?.remove();
    if (text && this.mode === "micrograph") byId("over").append(h("div", { class: "hint row" }, h("span", { class: "spinner" }), text));
  }

  #keepAddress() {
    const parts = new URLSearchParams({ m: this.table.current ?? 0 });
    if (this.#summary) parts.set("t", String(this.threshold));
    if (this.mode === "gallery") parts.set("v", "gallery");
    history.replaceState(null, "", `#${parts}`);
  }

  failed(error) {
    this.#card("The picks cannot be shown", h("p", {}, explain(error)));
  }
}

async function main() {
  let page = null;
  try {
    const [session, micrographs] = await Promise.all([get("/api/session"), get("/api/micrographs")]);
    page = new Page(session, micrographs);
    await page.start();
  } catch (error) {
    if (page) page.failed(error);
    else byId("over").append(h("div", { class: "card", role: "alert" }, h("h2", {}, "The page cannot start"), h("p", {}, explain(error))));
    if (!error.status && !error.away) throw error;
  }
  document.body.dataset.ready = "true";
}

main();
