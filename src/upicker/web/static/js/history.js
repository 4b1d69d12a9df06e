/**
 * Undo and redo, without end, of one micrograph's changes.
 *
 *   inverse(labels, changes)      -> the changes that take `changes` back; ask before applying them
 *   const history = new History()
 *   history.note(forward, backward)
 *   history.undo(), history.redo()   -> changes to apply, or null
 */

/**
 * @param {LabelState} labels as they are before `changes`
 * @param {Change[]} changes
 * @returns {Change[]}
 */
export function inverse(labels, changes) {
  /** @type {Change[]} */
  const backward = [];
  /** @type {Map<string, Point | undefined>} */
  const seen = new Map(); // positions that `changes` itself gives, undefined: removed
  /** @param {string} key */
  const at = (key) => (seen.has(key) ? seen.get(key) : labels.particles.get(key));
  for (const change of changes) {
    const before = "key" in change ? at(change.key) : undefined;
    if (change.op === "add" && !before) backward.push({ op: "remove", key: change.key });
    else if (change.op === "remove" && before) backward.push({ op: "add", key: change.key, x: before.x, y: before.y });
    else if (change.op === "move" && before) backward.push({ op: "move", key: change.key, x: before.x, y: before.y });
    else if (change.op === "diameter" && labels.diameter_px) backward.push({ op: "diameter", px: labels.diameter_px });
    else if (change.op === "coverage") backward.push({ op: "coverage", value: labels.coverage });
    else if (change.op === "regions") backward.push({ op: "regions", value: labels.regions });
    else if (change.op === "bad") backward.push({ op: "bad", value: labels.bad });
    else if (change.op === "reject") backward.push({ ...change, value: !change.value });
    if (change.op === "remove") seen.set(change.key, undefined);
    else if (change.op === "add" || change.op === "move") seen.set(change.key, { x: change.x, y: change.y });
  }
  return backward.reverse();
}

export class History {
  /** @type {{forward: Change[], backward: Change[]}[]} */
  #steps = [];
  #done = 0;

  get canUndo() {
    return this.#done > 0;
  }

  get canRedo() {
    return this.#done < this.#steps.length;
  }

  /**
   * @param {Change[]} forward
   * @param {Change[]} backward
   */
  note(forward, backward) {
    this.#steps.length = this.#done; // what was undone is forgotten when something else is done
    this.#steps.push({ forward, backward });
    this.#done += 1;
  }

  undo() {
    return this.canUndo ? this.#steps[--this.#done].backward : null;
  }

  redo() {
    return this.canRedo ? this.#steps[this.#done++].forward : null;
  }
}
