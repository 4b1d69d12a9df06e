/**
 * Messages over the micrograph: hints, "loading", the question for the diameter, errors.
 *
 *   const messages = new Messages(element, page)
 *   messages.show()                          hint of the tool, diameter's question, bad mark: as things are now
 *   messages.busy(text | null)
 *   messages.card(title, text, …{text, run}) something stands in the way; buttons
 *   messages.confirm()                        takes the circle as it is drawn for the diameter, if it is asked for
 *   messages.clear()
 */

import { h } from "./ui.js";

const HINT = 6000; // ms that a tool's hint stays

export class Messages {
  #page;
  #parts;
  /** @type {Tool | null} */
  #hinted = null;
  #asking = false;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #timer;

  /**
   * @param {HTMLElement} element
   * @param {{editor: import("./editor.js").Editor, use: (tool: string) => void}} page
   */
  constructor(element, page) {
    this.#page = page;
    this.#parts = {
      busy: h("div", { class: "note", role: "status", hidden: true }),
      bad: h("div", { class: "note bad", hidden: true }, "Marked as bad"),
      hint: h("div", { class: "note hint", hidden: true }),
      card: h("div", { class: "card middle", role: "alert", hidden: true }),
      figure: h("span", { class: "figure" }),
      done: h("button", { class: "button primary", type: "button", id: "diameter-done", onclick: () => this.confirm() }, "Use this diameter"),
      ask: h("div", { class: "card low", role: "region", "aria-label": "Particle diameter", id: "ask", hidden: true }),
    };
    const part = this.#parts;
    part.ask.append(
      h("h2", {}, "How large is a particle?"),
      h("p", {}, "Drag the circle onto a particle, and its edge until the particle just fits. Or enter the diameter in the panel on the right, or choose proposals there: they estimate it."),
      h("div", { class: "row" }, part.figure, h("span", { class: "grow" }), part.done));
    element.append(part.busy, part.bad, part.hint, part.card, part.ask);
  }

  show() {
    const { editor } = this.#page;
    const part = this.#parts;
    if (editor.ready && editor.diameter === null) this.#asking = true;
    if (editor.ready && this.#asking && editor.tool?.name !== "diameter" && editor.diameter !== null) this.#asking = false;
    part.ask.hidden = !editor.ready || !this.#asking;
    const pixel = editor.sheet?.info?.pixel_size_A;
    part.figure.textContent = pixel ? `${Math.round(2 * editor.radius * pixel)} Å` : `${Math.round(2 * editor.radius)} px`;
    part.bad.hidden = !editor.labels?.loaded || !editor.labels.bad;
    this.#hint(part.ask.hidden ? editor.tool : null);
  }

  /** @param {string | null} text */
  busy(text) {
    const { busy } = this.#parts;
    busy.hidden = text === null;
    if (text !== null) busy.replaceChildren(h("span", { class: "spinner" }), text);
  }

  /**
   * @param {string} title
   * @param {string} text
   * @param {...({text: string, run: () => void} | null)} actions
   */
  card(title, text, ...actions) {
    const { card } = this.#parts;
    const buttons = actions.map((action) => action && h("button", { class: "button", type: "button", onclick: action.run }, action.text));
    card.replaceChildren(h("h2", {}, title), h("p", {}, text), h("div", { class: "row" }, buttons));
    card.hidden = false;
  }

  clear() {
    this.#parts.card.hidden = true;
    this.#parts.bad.hidden = true;
    this.#parts.ask.hidden = true;
  }

  confirm() {
    if (this.#parts.ask.hidden) return false;
    const { editor } = this.#page;
    editor.commit([{ op: "diameter", px: Math.round(200 * editor.radius) / 100 }]);
    this.#page.use("add");
    return true;
  }

  /** @param {Tool | null} tool */
  #hint(tool) {
    const { hint } = this.#parts;
    if (tool === this.#hinted) return;
    this.#hinted = tool;
    clearTimeout(this.#timer);
    hint.hidden = tool === null;
    hint.textContent = tool?.hint ?? "";
    this.#timer = setTimeout(() => (hint.hidden = true), HINT);
  }
}
