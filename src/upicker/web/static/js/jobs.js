/**
 * The panel that trains on what is labelled, and asks the trained model what to label next.
 *
 *   const panel = mountJobs(element, {open, propose, onSuggestions})
 *     open(id)               shows a micrograph
 *     propose(model)         shows the trained model's picks as proposals; without it there is no such button
 *     onSuggestions(ids)     called with the numbers of the micrographs to label next, the most uncertain first
 *   panel.refresh()          asks the server again; panel.stop() ends that
 *
 * A training runs in a process of its own: the panel finds it again after a reload, and after the server's restart.
 * When the model's picks are asked for or a training ends, `element` sends the events "propose" and "trained" upward.
 */

import { explain, failure, get, send } from "./api.js";
import { context2d, h, many } from "./ui.js";

const OFTEN_MS = 1500;
const RARELY_MS = 10000;
const SHOWN = 8; // suggestions

/**
 * A training or a search, as the server describes it; `curve` and `f1s` are [step, value].
 * @typedef {object} Job
 * @property {string} id
 * @property {"finetune" | "suggest"} kind
 * @property {"running" | "done" | "stopped" | "failed"} state
 * @property {boolean} stopping
 * @property {number} step
 * @property {number} steps
 * @property {number | null} loss
 * @property {number | null} f1
 * @property {number} seconds
 * @property {number | null} left seconds
 * @property {string} message
 * @property {string | null} model path of the weights
 * @property {[number, number][]} curve of the loss
 * @property {[number, number][]} f1s of validations
 * @property {string[]} log its last lines
 *
 * What a training would start from.
 * @typedef {{micrographs: number, particles: number, partly: number, refusal: string | null, models: string[], model: string | null, steps: number}} Choices
 *
 * @typedef {{order: number[], names: Record<number, string>, why: Record<number, string>}} Suggestions
 *
 * @typedef {object} Options
 * @property {(id: number) => void} [open]
 * @property {(model: string | null) => void} [propose]
 * @property {(ids: number[]) => void} [onSuggestions]
 */

/**
 * @param {HTMLElement} element
 * @param {Options} [options]
 */
export function mountJobs(element, options = {}) {
  return new JobsPanel(element, options);
}

class JobsPanel {
  #element;
  #options;
  #parts;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #timer;
  /** @type {AbortController | null} */
  #asking = null;
  #busy = false;
  /** @type {Job | null} */
  #training = null; // the job shown
  /** @type {Job | null} */
  #search = null;
  #suggested = "";

  /**
   * @param {HTMLElement} element
   * @param {Options} options
   */
  constructor(element, options) {
    this.#element = element;
    this.#options = options;
    this.#parts = this.#build();
    document.addEventListener("visibilitychange", this.#wake);
    element.closest("details")?.addEventListener("toggle", this.#wake);
    this.refresh();
  }

  stop() {
    clearTimeout(this.#timer);
    this.#asking?.abort();
    document.removeEventListener("visibilitychange", this.#wake);
    this.#element.closest("details")?.removeEventListener("toggle", this.#wake);
  }

  /** @returns {Promise<void>} */
  async refresh() {
    clearTimeout(this.#timer);
    this.#asking?.abort();
    const asking = (this.#asking = new AbortController());
    try {
      /** @type {[Job[], Choices]} */
      const [jobs, choices] = await Promise.all([get("/api/jobs", asking), get("/api/training", asking)]);
      const latest = jobs.find((job) => job.kind === "finetune");
      const training = latest && (await get(`/api/jobs/${latest.id}`, asking));
      const suggestions = await get("/api/suggestions", asking);
      this.#show(training ?? null, jobs.find((job) => job.kind === "suggest") ?? null, choices, suggestions);
    } catch (error) {
      if (failure(error).name === "AbortError") return;
      this.#showProblem(explain(error));
    }
    if (asking !== this.#asking) return;
    const running = this.#training?.state === "running" || this.#search?.state === "running";
    if (this.#seen) this.#timer = setTimeout(() => this.refresh(), running ? OFTEN_MS : RARELY_MS);
  }

  get #seen() {
    return !document.hidden && (this.#element.closest("details")?.open ?? true);
  }

  #wake = () => {
    if (this.#seen) this.refresh();
    else clearTimeout(this.#timer);
  };

  #build() {
    /** @type {(text: string, run: () => unknown, kind?: string) => HTMLButtonElement} */
    const button = (text, run, kind = "") => h("button", { class: `button ${kind}`, type: "button", onclick: run }, text);
    const part = {
      ready: h("p", { class: "jobs-line muted" }),
      start: button("Train", () => this.#train(), "primary"),
      initial: h("select", { class: "input", "aria-label": "Start from" }),
      steps: h("input", { class: "input number", type: "number", min: 1, max: 1000000, step: 1, "aria-label": "Steps" }),
      bar: h("progress", { class: "progress", max: 1, value: 0, "aria-label": "Training" }),
      state: h("p", { class: "jobs-line", role: "status" }),
      message: h("p", { class: "jobs-line muted jobs-message" }),
      figures: h("canvas", { class: "jobs-curve", role: "img" }),
      log: h("pre", { class: "jobs-log" }),
      cancel: button("Stop", () => this.#stopJob(this.#training), "danger"),
      propose: button("Show its picks as proposals", () => this.#propose()),
      search: button("Suggest the next micrograph", () => this.#suggest()),
      searchBar: h("progress", { class: "progress", max: 1, value: 0, "aria-label": "Search" }),
      searchState: h("p", { class: "jobs-line muted", role: "status" }),
      list: h("ol", { class: "list jobs-list" }),
      problem: h("p", { class: "jobs-line warn", role: "alert" }),
      logPart: h("details", { class: "jobs-more" }),
      idle: h("div", { class: "jobs-part" }),
      run: h("div", { class: "jobs-part" }),
      next: h("div", { class: "jobs-part" }),
    };
    const more = h("details", { class: "jobs-more" }, h("summary", {}, "Options"),
      h("label", { class: "field" }, h("span", {}, "Start from"), part.initial),
      h("label", { class: "field" }, h("span", {}, "Steps"), part.steps));
    part.logPart.append(h("summary", {}, "Log"), part.log);
    part.idle.append(part.ready, part.start, more);
    part.run.append(h("div", { class: "row" }, h("div", { class: "grow" }, part.state), part.cancel), part.bar,
      part.figures, part.message, part.propose, part.logPart);
    part.next.append(part.search, part.searchBar, part.searchState, part.list);
    for (const each of [part.run, part.next, part.problem]) each.hidden = true;
    this.#element.classList.add("jobs");
    this.#element.append(part.idle, part.run, part.next, part.problem);
    return part;
  }

  /**
   * @param {Job | null} training
   * @param {Job | null} search
   * @param {Choices} choices
   * @param {Suggestions} suggestions
   */
  #show(training, search, choices, suggestions) {
    const part = this.#parts;
    const before = this.#training;
    const ended = before && before.id === training?.id && before.state === "running" && training?.state !== "running";
    this.#training = training;
    this.#search = search;
    this.#showProblem("");
    const running = training?.state === "running";
    part.idle.hidden = running;
    part.start.disabled = this.#busy || Boolean(choices.refusal);
    part.start.textContent = choices.micrographs ? `Train on ${many(choices.micrographs, "micrograph")}` : "Train";
    const partly = choices.partly ? `, ${choices.partly} of them partially labelled` : "";
    part.ready.textContent = choices.refusal ? `${choices.refusal}.` : `${many(choices.particles, "particle")} in ${many(choices.micrographs, "micrograph")}${partly}.`;
    this.#offer(choices);
    part.run.hidden = !training;
    if (training) this.#showTraining(training);
    part.next.hidden = !choices.model;
    this.#showSearch(search, suggestions);
    if (ended) this.#emit("trained", training);
  }

  /** @param {Choices} choices */
  #offer(choices) {
    const { initial, steps } = this.#parts;
    if (document.activeElement !== initial) {
      const chosen = initial.dataset.touched ? initial.value : (choices.models[0] ?? "");
      initial.replaceChildren(...choices.models.map((path) => h("option", { value: path, title: path }, called(path))), h("option", { value: "" }, "nothing (random weights)"));
      initial.value = choices.models.includes(chosen) ? chosen : "";
      initial.onchange = () => (initial.dataset.touched = "yes");
    }
    if (!steps.value && document.activeElement !== steps) steps.value = String(choices.steps);
  }

  /** @param {Job} job */
  #showTraining(job) {
    const part = this.#parts;
    const running = job.state === "running";
    part.bar.hidden = !running;
    part.cancel.hidden = !running;
    part.cancel.textContent = job.stopping ? "Stop immediately" : "Stop";
    if (job.step) part.bar.value = job.step / Math.max(job.steps, 1);
    else part.bar.removeAttribute("value");
    part.state.textContent = stateOf(job);
    part.state.classList.toggle("warn", job.state === "failed");
    part.message.textContent = job.message;
    part.figures.hidden = job.curve.length < 2;
    if (!part.figures.hidden) this.#draw(job);
    part.propose.hidden = running || !job.model || !this.#options.propose;
    part.logPart.hidden = !job.log.length;
    part.log.textContent = job.log.join("\n");
  }

  /**
   * @param {Job | null} search
   * @param {Suggestions} suggestions
   */
  #showSearch(search, suggestions) {
    const part = this.#parts;
    const running = search?.state === "running";
    part.search.disabled = this.#busy || running;
    part.searchBar.hidden = !running;
    if (search && running) part.searchBar.value = search.step / Math.max(search.steps, 1);
    const rows = suggestions.order.slice(0, SHOWN);
    part.searchState.textContent = search && running ? `${search.step} of ${search.steps} micrographs picked` : search?.state === "failed" ? search.message
      : search && !rows.length ? "All suggested micrographs are labelled." : rows.length ? "Where the model is least certain:" : "";
    part.searchState.classList.toggle("warn", search?.state === "failed");
    const key = JSON.stringify([rows, suggestions.why]);
    if (key === this.#suggested) return;
    this.#suggested = key;
    /** @param {number} id */
    const item = (id) => h("button", { class: "item jobs-item", type: "button", onclick: () => this.#options.open?.(id) },
      h("span", { class: "clip grow", title: suggestions.names[id] }, suggestions.names[id]), h("span", { class: "muted" }, suggestions.why[id]));
    part.list.replaceChildren(...rows.map((id) => h("li", {}, item(id))));
    this.#options.onSuggestions?.(suggestions.order);
  }

  /**
   * Loss over steps as a line, on a scale of its own; validations as dots, F1 from 0 to 1.
   * @param {Job} job
   */
  #draw(job) {
    const canvas = this.#parts.figures;
    const best = job.f1 === null ? "" : `, best F1 ${job.f1.toFixed(3)}`;
    canvas.setAttribute("aria-label", `Loss over ${job.step} steps, now ${job.loss?.toFixed(2)}${best}`);
    const ratio = window.devicePixelRatio || 1;
    const width = canvas.clientWidth || 260;
    const height = canvas.clientHeight || 90;
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(height * ratio);
    const style = getComputedStyle(canvas);
    /** @param {string} name */
    const colour = (name) => style.getPropertyValue(name).trim();
    const context = context2d(canvas);
    context.scale(ratio, ratio);
    const [left, right, top, bottom] = [4, width - 4, 16, height - 4];
    const values = job.curve.map(([, loss]) => loss);
    const high = Math.max(...values);
    const low = Math.min(...values);
    /** @param {number} step */
    const x = (step) => left + ((right - left) * step) / Math.max(job.steps, job.step, 1);
    /** @param {number} fraction */
    const y = (fraction) => bottom - (bottom - top) * fraction;
    context.strokeStyle = colour("--line");
    context.strokeRect(left - 0.5, top - 0.5, right - left + 1, bottom - top + 1);
    context.lineWidth = 1.5;
    context.strokeStyle = colour("--accent");
    context.beginPath();
    for (const [step, loss] of job.curve) context.lineTo(x(step), y((loss - low) / Math.max(high - low, 1e-9)));
    context.stroke();
    context.fillStyle = context.strokeStyle = colour("--label");
    context.beginPath();
    for (const [step, f1] of job.f1s) context.lineTo(x(step), y(f1));
    context.stroke();
    for (const [step, f1] of job.f1s) {
      context.beginPath();
      context.arc(x(step), y(f1), 2.5, 0, 7);
      context.fill();
    }
    context.font = `12px ${style.fontFamily}`;
    context.fillStyle = colour("--accent");
    context.fillText(`loss ${job.loss === null ? "" : job.loss.toFixed(2)}`, left, 11);
    if (job.f1 === null) return;
    context.fillStyle = colour("--label");
    context.textAlign = "right";
    context.fillText(`F1 ${(job.f1s.at(-1)?.[1] ?? job.f1).toFixed(3)}`, right, 11);
  }

  /** @returns {Promise<void> | undefined} */
  #train() {
    const { initial, steps } = this.#parts;
    if (!steps.reportValidity()) return undefined;
    return this.#do(() => send("POST", "/api/jobs", { kind: "finetune", init: initial.value || null, steps: Number(steps.value) || null }));
  }

  /** @returns {Promise<void>} */
  #suggest() {
    return this.#do(() => send("POST", "/api/suggestions", {}));
  }

  /** @param {Job | null} job */
  #stopJob(job) {
    if (job) this.#do(() => send("DELETE", `/api/jobs/${job.id}`, {}));
  }

  #propose() {
    this.#emit("propose", this.#training);
    this.#options.propose?.(this.#training?.model ?? null);
  }

  /**
   * Ask for something that takes a moment; buttons wait, errors are shown.
   * @param {() => Promise<unknown>} run
   * @returns {Promise<void>}
   */
  async #do(run) {
    if (this.#busy) return;
    this.#busy = true;
    this.#parts.start.disabled = this.#parts.search.disabled = true;
    let problem = "";
    try {
      await run();
    } catch (error) {
      problem = explain(error);
    }
    this.#busy = false;
    await this.refresh();
    if (problem) this.#showProblem(problem);
  }

  /** @param {string} problem */
  #showProblem(problem) {
    this.#parts.problem.hidden = !problem;
    this.#parts.problem.textContent = problem;
  }

  /**
   * @param {string} name
   * @param {unknown} detail
   */
  #emit(name, detail) {
    this.#element.dispatchEvent(new CustomEvent(name, { bubbles: true, detail }));
  }
}

/** @param {Job} job */
function stateOf(job) {
  const at = `Step ${job.step} of ${job.steps}`;
  if (job.state === "running") return job.stopping ? "Stopping…" : !job.step ? "Preparing…" : job.left === null ? at : `${at}, ${duration(job.left)} left`;
  if (job.state === "done") return `Trained in ${duration(job.seconds)}`;
  return job.state === "stopped" ? "Stopped" : "Training failed";
}

/** @param {number} seconds */
function duration(seconds) {
  if (seconds < 90) return `${Math.max(1, Math.round(seconds))} s`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min`;
  return `${(seconds / 3600).toFixed(1)} h`;
}

/**
 * Weights trained here all have the same file name; their folder holds the time.
 * @param {string} path
 */
function called(path) {
  const [folder, file] = path.split("/").slice(-2);
  const when = /^(\d{4})(\d\d)(\d\d)-(\d\d)(\d\d)/.exec(folder);
  return when && file === "model.safetensors" ? `trained ${when[1]}-${when[2]}-${when[3]} ${when[4]}:${when[5]}` : (file ?? path);
}
