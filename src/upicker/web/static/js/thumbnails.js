const PARALLEL = 2; // at once: tiles come first
const KEPT = 500;

/** Fetches thumbnails of micrographs, few at a time and only those that are wanted now; keeps the last ones. */
export class Thumbnails {
  /** @type {Map<number, string | null>} addresses of images, by id; null: there is none */
  #kept = new Map();
  /** @type {Map<number, AbortController>} by id */
  #loading = new Map();
  /** @type {number[]} */
  #wanted = [];
  #changed;

  /** @param {(id: number) => void} changed */
  constructor(changed) {
    this.#changed = changed;
  }

  /** @param {number} id */
  get(id) {
    return this.#kept.get(id) ?? null;
  }

  /** @param {number[]} ids */
  want(ids) {
    this.#wanted = ids.filter((id) => !this.#kept.has(id));
    const wanted = new Set(this.#wanted);
    for (const [id, controller] of this.#loading) if (!wanted.has(id)) controller.abort();
    this.#more();
  }

  #more() {
    for (const id of this.#wanted) {
      if (this.#loading.size >= PARALLEL) return;
      if (!this.#kept.has(id) && !this.#loading.has(id)) this.#fetch(id);
    }
  }

  /** @param {number} id */
  async #fetch(id) {
    const controller = new AbortController();
    this.#loading.set(id, controller);
    try {
      const response = await fetch(`/api/micrographs/${id}/thumbnail`, { signal: controller.signal, credentials: "same-origin" });
      this.#keep(id, response.ok ? URL.createObjectURL(await response.blob()) : null);
      this.#changed(id);
    } catch {
      // Not wanted any more, or the server is away: it is asked for again when the list moves.
    } finally {
      this.#loading.delete(id);
      if (!controller.signal.aborted) this.#wanted = this.#wanted.filter((each) => each !== id);
      this.#more();
    }
  }

  /**
   * @param {number} id
   * @param {string | null} address
   */
  #keep(id, address) {
    this.#kept.set(id, address);
    if (this.#kept.size <= KEPT) return;
    const [oldest, old] = this.#kept.entries().next().value ?? [id, null];
    if (old) URL.revokeObjectURL(old);
    this.#kept.delete(oldest);
  }
}
