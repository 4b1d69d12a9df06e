/** The page for labelling: puts the parts together, and goes from one micrograph to the next. */

import { explain, failure, get, picture, problemText, send } from "./api.js";
import { Cursor } from "./cursor.js";
import { Editor } from "./editor.js";
import { History } from "./history.js";
import { Keys } from "./keys.js";
import { bindKeys, MOUSE } from "./labelkeys.js";
import { LabelPanel } from "./labelpanel.js";
import { Saver } from "./labels.js";
import { List } from "./list.js";
import { Display } from "./display.js";
import { Messages } from "./messages.js";
import { ProposalPanel, Proposals } from "./proposals.js";
import { Readout } from "./readout.js";
import { makeTools } from "./tools.js";
import { byId, find, folds, h, icon, later, panel, toast } from "./ui.js";
import { Viewer } from "./viewer.js";

const PATIENCE = 200; // ms before "loading" is shown
const RENEW = 700; // ms after the last change of the diameter
const RETRY = 2000; // ms between tries while the server is away

export class Page {
  /** @type {Map<number, Sheet>} by id */
  #sheets = new Map();
  /** @type {AbortController | null} */
  #going = null;
  #late = false; // others changed something while own changes were under way
  #keeping = Promise.resolve(); // the diameter is on its way to the server
  #renewFilter = later(() => this.proposalPanel.source === "alog" && this.#renew("alog"), RENEW);
  /** @type {{source: string | null, value: number} | null} */
  #threshold = null; // the user's own, for the next micrographs too

  /** @param {Session & {labels: string}} session */
  constructor(session) {
    this.session = session;
    this.viewer = new Viewer(byId("viewer"));
    this.editor = new Editor(this.viewer);
    this.cursor = new Cursor(this.editor);
    this.keys = new Keys();
    this.saver = new Saver(session.labels);
    this.channel = new BroadcastChannel("upicker");
    this.list = new List(byId("list"), { onOpen: (id) => this.go(id) });
    this.display = new Display(this.viewer, { onView: () => this.#showView() });
    this.readout = new Readout(this.viewer, byId("foot"));
    this.labelPanel = new LabelPanel(this.editor, { onTool: (name) => this.use(name) });
    this.proposalPanel = new ProposalPanel(this.editor, { onSource: (source) => this.propose(source) });
    this.messages = new Messages(byId("notes"), this);
    /** @type {Point | null} */
    this.pointer = null;
    this.tools = makeTools(this.editor);
    this.#layOut();
    this.#wire();
    this.use("add");
    bindKeys(this);
  }

  async start() {
    const micrographs = await get("/api/micrographs");
    this.list.use(micrographs);
    const count = await this.saver.recover(micrographs);
    if (count) toast(`${count} change${count === 1 ? "" : "s"} that had not been saved ${count === 1 ? "is" : "are"} being saved now.`);
    if (!micrographs.length) {
      this.messages.card("There are no micrographs", "Start upicker label with files, folders or patterns.");
      return;
    }
    const asked = Number(location.hash.slice(1));
    const first = location.hash && micrographs[asked] ? asked : (micrographs.find((/** @type {MicrographItem} */ each) => each.labels === 0 && !each.bad) ?? micrographs[0]).id;
    this.viewer.element.focus();
    await this.go(first);
    if (this.editor.diameter === null && this.editor.ready) this.use("diameter");
  }

  /**
   * Show another micrograph.
   * @param {number | null} id
   * @param {boolean} [again] the same one, which could not be shown before
   */
  async go(id, again = false) {
    if (id === null) return;
    this.#going?.abort();
    const going = (this.#going = new AbortController());
    const { name } = this.list.micrographs[id];
    this.list.current = id;
    byId("name").textContent = name;
    byId("name").title = name;
    byId("place").textContent = `${id + 1} / ${this.list.micrographs.length}`;
    document.title = `${name} · UPicker`;
    history.replaceState(null, "", `#${id}`);
    this.editor.use(null);
    this.readout.use(null);
    this.proposalPanel.use(null);
    if (!again) this.messages.clear();
    if (this.viewer.info && this.viewer.info.id !== id) this.viewer.element.classList.add("dim");
    const busy = setTimeout(() => this.messages.busy(`Loading ${name}`), PATIENCE);
    try {
      await this.#open(id, name, going);
    } catch (error) {
      if (going.signal.aborted) return;
      this.#failed(id, failure(error));
    } finally {
      clearTimeout(busy);
      if (this.#going === going) this.messages.busy(null);
    }
  }

  /**
   * @param {number} id
   * @param {string} name
   * @param {AbortController} going
   */
  async #open(id, name, { signal }) {
    await this.#keeping;
    const [info, labels] = await Promise.allSettled([this.#fetchInfo(id, signal), this.saver.open(id, name)]);
    if (signal.aborted) return;
    const sheet = this.#sheets.get(id) ?? { id, labels: null, history: new History(), proposals: null, info: null };
    this.#sheets.set(id, sheet);
    if (labels.status === "fulfilled") sheet.labels = labels.value;
    sheet.info = info.status === "fulfilled" && !info.value.error ? info.value : null;
    if (sheet.labels) {
      sheet.labels.onChange = () => this.#changed(sheet);
      this.editor.use(sheet);
    }
    if (info.status === "rejected") throw info.reason;
    if (info.value.error) throw new Error(problemText(info.value.error));
    this.viewer.show(info.value);
    this.display.use(info.value);
    this.readout.use(info.value);
    if (labels.status !== "fulfilled") throw labels.reason;
    this.messages.clear();
    this.messages.show();
    this.propose(this.proposalPanel.source);
  }

  /**
   * Where there is no such view (the model's needs a diameter), the micrograph is shown as it is.
   * @param {number} id
   * @param {AbortSignal} signal
   */
  async #fetchInfo(id, signal) {
    const info = await picture(id, this.display.view, { signal });
    if (!info.error || this.display.view === "raw") return info;
    const plain = await picture(id, "raw", { signal });
    if (!plain.error) {
      this.display.settle("raw");
      toast(`The raw micrograph is shown. ${problemText(info.error)}`);
    }
    return plain;
  }

  /**
   * @param {number} id
   * @param {import("./api.js").Failure} error
   */
  #failed(id, error) {
    if (error.away || error.status === 401) {
      const away = "The server may have been stopped, or the connection is down. This page continues by itself when it is reachable again; nothing is lost.";
      this.messages.card("Waiting for the server", error.away ? away : explain(error));
      setTimeout(() => this.list.current === id && this.go(id, true), RETRY);
      return;
    }
    this.viewer.element.classList.add("dim");
    const labels = this.editor.labels;
    const title = this.#sheets.get(id)?.info ? "Its labels cannot be read" : "This micrograph cannot be shown";
    this.messages.card(title, explain(error),
      { text: "Next micrograph", run: () => this.go(this.list.next(id, 1)) },
      labels?.loaded && !labels.bad ? { text: "Mark it as bad", run: () => this.labelPanel.bad() } : null);
  }

  /** Another view of the same micrograph. */
  async #showView() {
    const id = this.list.current;
    const { sheet } = this.editor;
    const { view } = this.display;
    if (!sheet?.info || id === null) return;
    const before = sheet.info.view;
    const busy = setTimeout(() => this.messages.busy("Filtering"), PATIENCE);
    try {
      const info = await picture(id, view);
      if (this.list.current !== id || this.display.view !== view) return;
      if (info.error) throw new Error(problemText(info.error));
      sheet.info = info;
      this.viewer.show(info);
    } catch (error) {
      if (this.list.current === id) this.display.settle(sheet.info?.view ?? before);
      toast(`This view cannot be shown. ${explain(error)}`, { kind: "error" });
    } finally {
      clearTimeout(busy);
      this.messages.busy(null);
    }
  }

  /** @param {string} name */
  use(name) {
    const tool = this.tools.find((each) => each.name === name) ?? this.tools[0];
    tool.begin?.();
    this.editor.tool?.hover?.(null);
    this.editor.tool = tool;
    for (const button of byId("tools").querySelectorAll("button")) button.setAttribute("aria-pressed", String(button.dataset.tool === name));
    this.viewer.element.dataset.tool = name;
    this.messages.show();
    this.editor.paint();
  }

  /** @param {string} source */
  async propose(source) {
    const { sheet } = this.editor;
    this.proposalPanel.source = source;
    if (!sheet?.info) return;
    if (source === "none" || sheet.proposals?.source === source) {
      this.#proposed(sheet, source === "none" ? null : sheet.proposals);
      return;
    }
    this.#proposed(sheet, null);
    this.proposalPanel.state(this.editor.diameter === null ? "Estimating the diameter" : "Searching for particles", true);
    try {
      const response = await send("POST", `/api/micrographs/${sheet.id}/proposals`, { source });
      if (response.said) toast(response.said);
      if (sheet.info.diameter_px === null && response.diameter_px) {
        await this.#keepDiameter(response.diameter_px, sheet.info);
        if (this.editor.tool?.name === "diameter") this.use("add");
      }
      if (this.editor.sheet !== sheet || this.proposalPanel.source !== source) return;
      const proposals = new Proposals(response);
      proposals.source = source;
      if (this.proposalPanel.touched && this.#threshold?.source === source) proposals.threshold = this.#threshold.value;
      this.#proposed(sheet, proposals);
    } catch (error) {
      if (this.editor.sheet === sheet) this.proposalPanel.state(explain(error));
    }
  }

  /**
   * Proposals of a source would be others now.
   * @param {string} source
   */
  #renew(source) {
    for (const sheet of this.#sheets.values()) if (sheet.proposals?.source === source) sheet.proposals = null;
    return this.propose(source);
  }

  /**
   * @param {Sheet} sheet
   * @param {Proposals | null} proposals
   */
  #proposed(sheet, proposals) {
    sheet.proposals = proposals;
    this.proposalPanel.state(proposals && !proposals.list.length ? "No proposals in this micrograph." : "");
    this.proposalPanel.use(proposals);
    this.editor.changed();
  }

  /** @param {Sheet} sheet */
  #changed(sheet) {
    const { labels } = sheet;
    if (!labels) return;
    this.list.note(sheet.id, { labels: labels.particles.size, coverage: labels.coverage, bad: labels.bad });
    if (this.editor.sheet === sheet) this.editor.changed();
  }

  /** Labels, selection or proposals are other ones. */
  #shown() {
    const { sheet } = this.editor;
    byId("undo", HTMLButtonElement).disabled = !sheet?.history.canUndo;
    byId("redo", HTMLButtonElement).disabled = !sheet?.history.canRedo;
    this.labelPanel.show();
    this.proposalPanel.show();
    this.messages.show();
    if (sheet?.proposals) this.#threshold = { source: sheet.proposals.source, value: sheet.proposals.threshold };
  }

  #layOut() {
    for (const id of ["previous", "next", "undo", "redo", "help"]) byId(id).append(icon(id));
    for (const [side, name] of [["left", "list"], ["right", "panels"]]) find(document, `[data-fold=${side}]`).append(icon(name));
    byId("tools").append(...this.tools.map((tool) => h("button", {
      class: "button quiet icon", type: "button", "data-tool": tool.name, title: `${tool.title} (${tool.key})`, "aria-label": tool.title,
      "aria-keyshortcuts": tool.key, onclick: () => this.use(tool.name),
    }, icon(tool.icon))));
    byId("tools").append(h("button", { class: "button quiet icon", type: "button", title: "Fit the window (0)", "aria-label": "Fit the window", onclick: () => this.viewer.fit() }, icon("fit")));
    const training = panel("Training", { open: false });
    byId("panels").append(panel("Labels", {}, this.labelPanel.element), panel("Proposals", {}, this.proposalPanel.element),
      panel("Display", {}, this.display.element), training);
    const mount = async () => {
      if (!training.open || training.dataset.mounted) return;
      training.dataset.mounted = "yes";
      const { mountJobs } = await import("./jobs.js");
      const body = find(training, ".body");
      mountJobs(body, { open: (id) => this.go(id), propose: () => this.#renew("model"), onSuggestions: (ids) => this.list.suggest(ids) });
    };
    training.addEventListener("toggle", mount);
    mount();
    folds();
  }

  #wire() {
    const { viewer, editor, saver } = this;
    /** @type {<V extends any[], R>(run: (...values: V) => R) => (...values: V) => R | null} */
    const ready = (run) => (...values) => (editor.ready ? run(...values) : null);
    viewer.onPress = ready((/** @type {Pointed} */ point, /** @type {PointerEvent} */ event) => editor.tool?.press(point, event) ?? null);
    viewer.onClick = ready((/** @type {Pointed} */ point, /** @type {PointerEvent} */ event) => editor.tool?.click(point, event));
    viewer.onHover = (point) => {
      this.pointer = point;
      this.readout.hover(point);
      if (editor.ready && !this.cursor.active) editor.tool?.hover?.(point);
    };
    viewer.onView = () => this.readout.view();
    editor.onChange = () => this.#shown();
    editor.onDiameter = (px) => {
      const info = editor.sheet?.info ?? null;
      this.#keeping = this.#keeping.then(() => this.#keepDiameter(px, info));
    };
    saver.onState = (state, text) => {
      byId("save").dataset.state = state;
      byId("save").textContent = text;
    };
    saver.onSaved = (labels) => {
      this.channel.postMessage({ labels: this.session.labels, name: labels.name });
      if (this.#late) this.#refresh();
    };
    saver.onRefused = (labels, text) => toast(`A change in ${labels.name} was not accepted. ${text}`, { kind: "error", seconds: 20 });
    this.channel.onmessage = ({ data }) => {
      if (data.labels === this.session.labels && data.name === editor.labels?.name) this.#refresh();
    };
    window.addEventListener("focus", () => this.#refresh());
    window.addEventListener("hashchange", () => {
      const id = Number(location.hash.slice(1));
      if (this.list.micrographs[id] && id !== this.list.current) this.go(id);
    });
    byId("previous").onclick = () => this.step(-1);
    byId("next").onclick = () => this.step(1);
    byId("undo").onclick = () => editor.undo();
    byId("redo").onclick = () => editor.redo();
    byId("help").onclick = () => this.help();
  }

  /** Accept proposals, or the circle by which the diameter is asked for. */
  enter() {
    if (!this.messages.confirm()) this.proposalPanel.accept();
  }

  help() {
    this.keys.help(MOUSE());
  }

  /**
   * @param {number} step
   * @param {boolean} [unlabelled]
   */
  step(step, unlabelled = false) {
    const id = this.list.next(this.list.current, step, unlabelled);
    if (id === null) toast(unlabelled ? "All other micrographs in the list are labelled." : step > 0 ? "This is the last micrograph." : "This is the first micrograph.", { seconds: 3 });
    else this.go(id);
  }

  /** What others did meanwhile. */
  async #refresh() {
    const { labels } = this.editor;
    // While own changes are under way, their response may have left the server before the others' came: ask afterwards.
    this.#late = Boolean(labels?.unsent);
    try {
      const [, micrographs] = await Promise.all([labels?.loaded && !labels.unsent ? labels.refresh() : null, get("/api/micrographs")]);
      this.list.use(micrographs);
    } catch {
      // The server is away: what is not saved is shown.
    }
  }

  /**
   * The particles' diameter goes for the other micrographs, too.
   * @param {number} px
   * @param {ImageInfo | null} info
   */
  async #keepDiameter(px, info) {
    const length = info?.pixel_size_A ? `${(px * info.pixel_size_A).toPrecision(4)}A` : `${px}px`;
    try {
      this.session = await send("PUT", "/api/session/diameter", { diameter: length });
      if (info) info.diameter_px = px;
      this.labelPanel.show();
      this.#renewFilter();
    } catch (error) {
      toast(`The diameter was saved for this micrograph only. ${explain(error)}`, { kind: "error" });
    }
  }
}

async function begin() {
  try {
    const page = new Page(await get("/api/session"));
    await page.start();
  } catch (reason) {
    const error = failure(reason);
    if (error.away) setTimeout(() => location.reload(), RETRY);
    byId("notes").append(h("div", { class: "card middle", role: "alert" }, h("h2", {}, "The page cannot start"), h("p", {}, explain(error))));
    if (!error.away) throw error;
  }
}

begin();
