/**
 * Labels of micrographs: as the user sees them at once, and their way to the server.
 *
 *   const saver = new Saver(folder)             folder of labels, names this browser's store of what is not yet saved
 *   await saver.recover(micrographs)            sends what an earlier page, closed too early, left behind
 *   const labels = await saver.open(id, name)   -> Labels, from the server; one object per micrograph
 *   labels.particles                            Map: key -> {x, y}, raw px; .diameter_px, .coverage, .regions, .bad, .file
 *   labels.apply(changes)                       at once here, soon on the server
 *   await labels.refresh()                      takes what others did
 *   saver.onState(state, text)                  "saved" | "saving" | "away"
 *   labels.onChange()                           something changed, here or elsewhere
 *   newKey()                                    a key for a new particle
 *
 * Every change is kept in localStorage until the server has confirmed that it is on disk. One request is under way at a
 * time; when the server is away it is sent again, later and later. Changes may safely be sent twice. Where the server
 * was started anew (409), its state is taken and what is unsent is played on it again.
 */

import { explain, failure, get, send, ServerError } from "./api.js";

const MOST = 2000; // changes a request
const PATIENCE = 20000; // ms that a response may take
const WAITS = { first: 400, most: 8000 }; // ms between tries
const PREFIX = "upicker unsent";

/**
 * The state as the server sends it: particles as [key, x, y]; `epoch` is another after the server was started anew.
 * @typedef {Omit<LabelState, "particles"> & {particles: [string, number, number][], file: string | null, epoch: string, revision: number}} LabelResponse
 *
 * @typedef {LabelState & Pick<LabelResponse, "file" | "epoch" | "revision">} SavedState
 */

export function newKey() {
  return Array.from(crypto.getRandomValues(new Uint8Array(12)), (byte) => (byte % 36).toString(36)).join("");
}

/** Play changes on a state, in place. Others' may have come between: unknown keys are no error. */
/** @type {<S extends LabelState>(state: S, changes: Change[]) => S} */
export function play(state, changes) {
  for (const change of changes) {
    const known = "key" in change && state.particles.has(change.key);
    if (change.op === "add" && !known) state.particles.set(change.key, { x: change.x, y: change.y });
    else if (change.op === "move" && known) state.particles.set(change.key, { x: change.x, y: change.y });
    else if (change.op === "remove") state.particles.delete(change.key);
    else if (change.op === "diameter") state.diameter_px = change.px;
    else if (change.op === "coverage") state.coverage = change.value;
    else if (change.op === "regions") state.regions = change.value;
    else if (change.op === "bad") state.bad = change.value;
  }
  return state;
}

export class Labels {
  #saver;
  /** @type {SavedState | null} */
  #saved = null; // the server's state as far as it is known here
  /** @type {SavedState | null} */
  #seen = null; // the same with the unsent changes
  /** @type {Change[]} */
  #unsent = [];
  #stored = false;

  /**
   * @param {Saver} saver
   * @param {number} id
   * @param {string} name
   */
  constructor(saver, id, name) {
    this.#saver = saver;
    this.id = id;
    this.name = name;
    /** @type {(() => void) | null} */
    this.onChange = null;
    this.slowly = false; // one change a request: one of them was refused
  }

  /** The state with all changes; only where `loaded`. */
  get #state() {
    if (!this.#seen) throw new Error(`the labels of ${this.name} are not here yet`);
    return this.#seen;
  }

  get particles() { return this.#state.particles; }
  get diameter_px() { return this.#state.diameter_px; }
  get coverage() { return this.#state.coverage; }
  get regions() { return this.#state.regions; }
  get bad() { return this.#state.bad; }
  get file() { return this.#state.file; }
  get loaded() { return this.#seen !== null; }
  get unsent() { return this.#unsent.length; }

  /** @param {Change[]} changes */
  apply(changes) {
    this.#unsent.push(...changes);
    play(this.#state, changes);
    this.#store();
    this.onChange?.();
    this.#saver.wake();
  }

  async refresh() {
    const state = await get(`/api/micrographs/${this.id}/labels`);
    const late = this.#saved && state.epoch === this.#saved.epoch && state.revision < this.#saved.revision;
    const same = this.#saved && state.epoch === this.#saved.epoch && state.revision === this.#saved.revision;
    if (!late && !same) this.#take(state);
  }

  /** Send what is unsent, once. Throws what went wrong. */
  async send() {
    if (!this.loaded) await this.refresh();
    const changes = this.#unsent.slice(0, this.slowly ? 1 : MOST);
    const saved = this.#saved;
    if (!changes.length || !saved) return;
    const body = { epoch: saved.epoch, revision: saved.revision, changes };
    const options = { signal: AbortSignal.timeout(PATIENCE), keepalive: changes.length < 200 }; // outlives a closed tab
    let response;
    try {
      response = await send("POST", `/api/micrographs/${this.id}/labels`, body, options);
    } catch (error) {
      if (!(error instanceof ServerError) || error.status !== 409 || !error.body?.state) throw error;
      this.#take(error.body.state);
      return;
    }
    if (this.#saved && this.#saved.revision <= response.revision) {
      play(this.#saved, [...changes, ...response.missed]); // `missed` is what the server has where it is not what was sent
      this.#saved.revision = response.revision;
    } // else a later state has come on another way
    this.#unsent.splice(0, changes.length);
    this.slowly &&= this.#unsent.length > 0;
    this.#store();
    if (response.missed.length) this.#show();
  }

  /** Give up the first unsent change, which the server refuses. */
  async drop() {
    this.#unsent.shift();
    this.#store();
    this.#saved = null;
    await this.refresh();
  }

  /**
   * Put changes of an earlier page before this page's own.
   * @param {Change[]} changes
   */
  adopt(changes) {
    this.#unsent.unshift(...changes);
    this.#store();
    if (this.loaded) this.#show();
  }

  /** @param {LabelResponse} state */
  #take(state) {
    /** @type {Map<string, Point>} */
    const particles = new Map(state.particles.map(([key, x, y]) => [key, { x, y }]));
    this.#saved = { ...state, particles };
    this.#show();
  }

  #show() {
    if (this.#saved) this.#seen = play({ ...this.#saved, particles: new Map(this.#saved.particles) }, this.#unsent);
    this.onChange?.();
  }

  #store() {
    if (!this.#unsent.length && !this.#stored) return;
    this.#stored = this.#unsent.length > 0;
    this.#saver.keep(this.name, this.#unsent);
  }
}

export class Saver {
  #folder;
  #tab = newKey();
  /** @type {Map<number, Labels>} by the micrograph's id */
  #open = new Map();
  #busy = false;
  #wait = WAITS.first;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #timer;
  /** @type {string | null} */
  #reported = null;

  /** @param {string} folder */
  constructor(folder) {
    this.#folder = folder;
    /** @type {((state: "saved" | "saving" | "away", text: string) => void) | null} */
    this.onState = null;
    /** @type {((labels: Labels) => void) | null} */
    this.onSaved = null; // (labels): all of its changes are on the server's disk
    /** @type {((labels: Labels, text: string) => void) | null} */
    this.onRefused = null; // (labels, text)
    // A lock that lives as long as the page tells other pages that what it keeps is not left behind.
    navigator.locks?.request(`${PREFIX} ${this.#tab}`, () => new Promise(() => {}));
    window.addEventListener("online", () => this.wake());
    window.addEventListener("focus", () => this.wake());
  }

  get unsent() {
    return [...this.#open.values()].reduce((sum, labels) => sum + labels.unsent, 0);
  }

  /**
   * @param {number} id
   * @param {string} name
   * @returns {Promise<Labels>}
   */
  async open(id, name) {
    const labels = this.#find(id, name);
    await labels.refresh();
    return labels;
  }

  /**
   * @param {number} id
   * @param {string} name
   * @returns {Labels}
   */
  #find(id, name) {
    const labels = this.#open.get(id) ?? new Labels(this, id, name);
    this.#open.set(id, labels);
    return labels;
  }

  /** @param {MicrographItem[]} micrographs */
  async recover(micrographs) {
    const alive = new Set((await navigator.locks?.query())?.held?.map((lock) => lock.name) ?? []);
    const ids = new Map(micrographs.map(({ id, name }) => [name, id]));
    let found = 0;
    for (const address of storedKeys()) {
      const [folder, tab, name] = JSON.parse(address.slice(PREFIX.length));
      const id = ids.get(name);
      if (folder !== this.#folder || alive.has(`${PREFIX} ${tab}`) || id === undefined) continue;
      const changes = JSON.parse(localStorage.getItem(address) ?? "[]");
      this.#find(id, name).adopt(changes);
      localStorage.removeItem(address);
      found += changes.length;
    }
    if (found) this.wake();
    return found;
  }

  /**
   * @param {string} name
   * @param {Change[]} changes
   */
  keep(name, changes) {
    const address = PREFIX + JSON.stringify([this.#folder, this.#tab, name]);
    try {
      if (changes.length) localStorage.setItem(address, JSON.stringify(changes));
      else localStorage.removeItem(address);
    } catch {
      // A full or forbidden store: the changes are still sent from here.
    }
  }

  /** Send now; called for every change, and when the server may be back. */
  wake() {
    clearTimeout(this.#timer);
    this.#pump();
  }

  async #pump() {
    if (this.#busy) return;
    this.#busy = true;
    try {
      for (let labels = this.#next(); labels; labels = this.#next()) {
        if (!this.#reported?.startsWith("not")) this.#report("saving", "saving");
        await labels.send();
        this.#wait = WAITS.first;
        if (!labels.unsent) this.onSaved?.(labels);
      }
      this.#report("saved", "saved");
    } catch (error) {
      await this.#failed(failure(error));
    } finally {
      this.#busy = false;
    }
  }

  #next() {
    return [...this.#open.values()].find((labels) => labels.unsent);
  }

  /** @param {import("./api.js").Failure} error */
  async #failed(error) {
    const labels = this.#next();
    let wait = this.#wait;
    if (error.status === 400 || error.status === 413) {
      // One change cannot be taken: find out which by sending them one by one, and go on with the others.
      wait = 0;
      if (!labels) return;
      if (labels.slowly || labels.unsent === 1) {
        this.onRefused?.(labels, explain(error));
        await labels.drop().catch(() => {});
      } else labels.slowly = true;
    } else {
      this.#wait = Math.min(2 * this.#wait, WAITS.most);
      this.#report("away", error.away ? "not saved: server not reachable, changes kept in the browser" : `not saved, changes kept in the browser: ${explain(error)}`);
    }
    this.#timer = setTimeout(() => this.wake(), wait);
  }

  /**
   * @param {"saved" | "saving" | "away"} state
   * @param {string} text
   */
  #report(state, text) {
    if (this.#reported === text) return;
    this.#reported = text;
    this.onState?.(state, text);
  }
}

function storedKeys() {
  try {
    return Object.keys(localStorage).filter((key) => key.startsWith(PREFIX));
  } catch {
    return [];
  }
}
