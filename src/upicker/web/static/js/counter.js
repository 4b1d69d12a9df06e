/**
 * Asks the server how many picks a threshold keeps: one request at a time; of those that come meanwhile, only the last.
 *
 *   const counter = new Counter(onCounts)      onCounts(counts): response of /api/picks/counts
 *   counter.ask(threshold, detail)             detail: means and F1 of each micrograph, too
 */

import { explain, get } from "./api.js";
import { toast } from "./ui.js";

export class Counter {
  /** @type {(counts: PickCounts) => void} */
  #onCounts;
  /** @type {{threshold: number, detail: boolean} | null} */
  #next = null;
  #asking = false;

  /** @param {(counts: PickCounts) => void} onCounts */
  constructor(onCounts) {
    this.#onCounts = onCounts;
  }

  /**
   * @param {number} threshold
   * @param {boolean} detail
   */
  async ask(threshold, detail) {
    this.#next = { threshold, detail: detail || Boolean(this.#next?.detail) };
    if (this.#asking) return;
    this.#asking = true;
    try {
      while (this.#next) {
        const { threshold: asked, detail: all } = this.#next;
        this.#next = null;
        this.#onCounts(await get(`/api/picks/counts?threshold=${asked}${all ? "&detail=1" : ""}`));
      }
    } catch (error) {
      toast(`The picks could not be counted. ${explain(error)}`, { kind: "error" });
    } finally {
      this.#asking = false;
    }
  }
}
