// @ts-nocheck
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
 * Every change is kept in localStorage until the server has said that it is on disk. One request is under way at a
 * time; when the server is away it is sent again, later and later. Changes may safely be sent twice. Where the server
 * was started anew (409), its state is taken and what is unsent is played on it again.
 */

import { explain, get, send, ServerError } from "./api.js";

const MOST = 2000; // changes a request
const PATIENCE = 20000; // ms that an answer may take
const WAITS = { first: 400, most: 8000 }; // ms between tries
const PREFIX = "upicker unsent";

export function newKey() {
  return Array.from(crypto.getRandomValues(new Uint8Array(12)), (byte) => (byte % 36).toString(36)).join("");
}

/** Play changes on a state, in place. Others' may have come between: unknown keys are no error. */
function play(state, changes) {
  for (const change of changes) {
    const known = state.particles.has(change.key);
    if (change.op === "add" && !known) state.particles.set(change.key, { x: change.x, y: change.y });
    else if (change.op === "move" && known) state.particles.set(change.key, { x: change.x, y: change.y });
    else if (change.op === "remove") state.particles.delete(change.key);
    else if (change.op === "diameter") state.diameter_px = change.px;
    else if (["coverage", "regions", "bad"].includes(change.op)) state[change.op] = change.value;
  }
  return state;
}

export class Labels {
  #saver;
  #saved = null; // the server's state as far as it is known here
  #seen = null; // the same with the unsent changes
  #unsent = [];
  #stored = false;

  constructor(saver, id, name) {
    this.#saver = saver;
    this.id = id;
    this.name = name;
    this.onChange = null;
    this.slowly = false; // one change a request: one of them was refused
  }

  get particles() { return this.#seen.particles; }
  get diameter_px() { return this.#seen.diameter_px; }
  get coverage() { return this.#seen.coverage; }
  get regions() { return this.#seen.regions; }
  get bad() { return this.#seen.bad; }
  get file() { return this.#seen.file; }
  get loaded() { return this.#seen !== null; }
  get unsent() { return this.#unsent.length; }

  apply(changes) {
    this.#unsent.push(...changes);
    play(this.#seen, changes);
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
    if (!changes.length) return;
    const body = { epoch: this.#saved.epoch, revision: this.#saved.revision, changes };
    const options = { signal: AbortSignal.timeout(PATIENCE), keepalive: changes.length < 200 }; // outlives a closed tab
    let answer;
    try {
      answer = await send("POST", `/api/micrographs/${this.id}/labels`, body, options);
    } catch (error) {
      if (!(error instanceof ServerError) || error.status !== 409 || !error.body?.state) throw error;
      this.#take(error.body.state);
      return;
    }
    if (this.#saved.revision <= answer.revision) {
      play(this.#saved, [...changes, ...answer.missed]); // `missed` is what the server has where it is not what was sent
      this.#saved.revision = answer.revision;
    } // else a later state has come on another way
    this.#unsent.splice(0, changes.length);
    this.slowly &&= this.#unsent.length > 0;
    this.#store();
    if (answer.missed.length) this.#show();
  }

  /** Give up the first unsent change, which the server refuses. */
  async drop() {
    this.#unsent.shift();
    this.#store();
    this.#saved = null;
    await this.refresh();
  }

  /** Put changes of an earlier page before this page's own. */
  adopt(changes) {
    this.#unsent.unshift(...changes);
    this.#store();
    if (this.loaded) this.#show();
  }

  #take(state) {
    const particles = new Map(state.particles.map(([key, x, y]) => [key, { x, y }]));
    this.#saved = { ...state, particles };
    this.#show();
  }

  #show() {
    this.#seen = play({ ...this.#saved, particles: new Map(this.#saved.particles) }, this.#unsent);
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
  #open = new Map(); // id -> Labels
  #busy = false;
  #wait = WAITS.first;
  #timer = 0;
  #told = null;

  constructor(folder) {
    this.#folder = folder;
    this.onState = null;
    this.onSaved = null; // (labels): all of its changes are on the server's disk
    this.onRefused = null; // (labels, text)
    // A lock that lives as long as the page tells other pages that what it keeps is not left behind.
    navigator.locks?.request(`${PREFIX} ${this.#tab}`, () => new Promise(() => {}));
    window.addEventListener("online", () => this.wake());
    window.addEventListener("focus", () => this.wake());
  }

  get unsent() {
    return [...this.#open.values()].reduce((sum, labels) => sum + labels.unsent, 0);
  }

  async open(id, name) {
    const labels = this.#find(id, name);
    await labels.refresh();
    return labels;
  }

  #find(id, name) {
    if (!this.#open.has(id)) this.#open.set(id, new Labels(this, id, name));
    return this.#open.get(id);
  }

  async recover(micrographs) {
    const alive = new Set((await navigator.locks?.query())?.held.map((lock) => lock.name) ?? []);
    const ids = new Map(micrographs.map(({ id, name }) => [name, id]));
    let found = 0;
    for (const address of storedKeys()) {
      const [folder, tab, name] = JSON.parse(address.slice(PREFIX.length));
      if (folder !== this.#folder || alive.has(`${PREFIX} ${tab}`) || !ids.has(name)) continue;
      const changes = JSON.parse(localStorage.getItem(address)) ?? [];
      this.#find(ids.get(name), name).adopt(changes);
      localStorage.removeItem(address);
      found += changes.length;
    }
    if (found) this.wake();
    return found;
  }

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
        if (!this.#told?.startsWith("not")) this.#tell("saving", "saving");
        await labels.send();
        this.#wait = WAITS.first;
        if (!labels.unsent) this.onSaved?.(labels);
      }
      this.#tell("saved", "saved");
    } catch (error) {
      await this.#failed(error);
    } finally {
      this.#busy = false;
    }
  }

  #next() {
    return [...this.#open.values()].find((labels) => labels.unsent);
  }

  async #failed(error) {
    const labels = this.#next();
    let wait = this.#wait;
    if (error.status === 400 || error.status === 413) {
      // One change cannot be taken: find out which by sending them one by one, and go on with the others.
      wait = 0;
      if (labels.slowly || labels.unsent === 1) {
        this.onRefused?.(labels, explain(error));
        await labels.drop().catch(() => {});
      } else labels.slowly = true;
    } else {
      this.#wait = Math.min(2 * this.#wait, WAITS.most);
      this.#tell("away", error.away ? "not saved: server is away, kept here" : `not saved, kept here: ${explain(error)}`);
    }
    this.#timer = setTimeout(() => this.wake(), wait);
  }

  #tell(state, text) {
    if (this.#told === text) return;
    this.#told = text;
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
