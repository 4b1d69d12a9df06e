/**
 * Notes over the micrograph: hints, "loading", the question for the diameter, errors.
 *
 *   const notes = new Notes(element, page)
 *   notes.show()                          hint of the tool, diameter's question, bad mark: as things are now
 *   notes.busy(text | null)
 *   notes.card(title, text, …{text, run}) something stands in the way; buttons
 *   notes.answer()                        takes the circle as it is drawn for the diameter, if it is asked for
 *   notes.clear()
 */

import { h } from "./ui.js";

const HINT = 6000; // ms that a tool's hint stays

export class Notes {
  #page;
  #parts;
  /** @type {Tool | null} */
  #hinted = null;
  #asking = false;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #timer;

  /**
   * @param {HTMLElement} element
   * @param {{desk: import("./desk.js").Desk, use: (tool: string) => void}} page
   */
  constructor(element, page) {
    this.#page = page;
    this.#parts = {
      busy: h("div", { class: "note", role: "status", hidden: true }),
      bad: h("div", { class: "note bad", hidden: true }, "Marked as bad"),
      hint: h("div", { class: "note hint", hidden: true }),
      card: h("div", { class: "card middle", role: "alert", hidden: true }),
      figure: h("span", { class: "figure" }),
      done: h("button", { class: "button primary", type: "button", id: "diameter-done", onclick: () => this.answer() }, "Use this diameter"),
      ask: h("div", { class: "card low", role: "region", "aria-label": "Particle diameter", id: "ask", hidden: true }),
    };
    const part = this.#parts;
    part.ask.append(
      h("h2", {}, "How large is a particle?"),
      h("p", {}, "Drag the circle onto a particle, and its edge until the particle just fits in. Or type the diameter at the right."),
      h("div", { class: "row" }, part.figure, h("span", { class: "grow" }), part.done));
    element.append(part.busy, part.bad, part.hint, part.card, part.ask);
  }

  show() {
    const { desk } = this.#page;
    const part = this.#parts;
    if (desk.ready && desk.diameter === null) this.#asking = true;
    if (desk.ready && this.#asking && desk.tool?.name !== "diameter" && desk.diameter !== null) this.#asking = false;
    part.ask.hidden = !desk.ready || !this.#asking;
    const pixel = desk.sheet?.info?.pixel_size_A;
    part.figure.textContent = pixel ? `${Math.round(2 * desk.radius * pixel)} Å` : `${Math.round(2 * desk.radius)} px`;
    part.bad.hidden = !desk.labels?.loaded || !desk.labels.bad;
    this.#hint(part.ask.hidden ? desk.tool : null);
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

  answer() {
    if (this.#parts.ask.hidden) return false;
    const { desk } = this.#page;
    desk.commit([{ op: "diameter", px: Math.round(200 * desk.radius) / 100 }]);
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
