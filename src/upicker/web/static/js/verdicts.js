/**
 * Picks and labels of one micrograph as marks: right, false, missed; and the panel that explains them.
 *
 *   const verdicts = new Verdicts(onChange)      onChange(): what is to be shown has changed
 *   verdicts.element                             the legend, with a box to tick for each kind
 *   verdicts.layers(content, threshold)          for viewer.setOverlay; content: response of /api/micrographs/{id}/picks
 *   verdicts.figures(content, threshold)         {kept, rejected, labels, precision, recall, f1}; null without labels
 *   verdicts.at(content, threshold, point, zoom) the pick under a point, or null
 *
 * A pick is an array as the server sends it: [index, x, y, score, diameter, verdict, rejected].
 */

import { check, find, h, remember } from "./ui.js";

/**
 * [index, x, y, score, diameter, verdict, rejected]; verdict: 1 right, 0 false, null without labels.
 * @typedef {[number, number, number, number, number | null, number | null, boolean]} Pick
 *
 * Response of GET /api/micrographs/{id}/picks; labels: [x, y, diameter, score of the pick that found it].
 * @typedef {{picks: Pick[], labels: [number, number, number | null, number | null][], has_labels: boolean}} PickContent
 *
 * @typedef {{kept: number, rejected: number, labels: number, precision: number | null, recall: number | null, f1: number | null}} Figures
 *
 * @typedef {"right" | "false" | "pick" | "under" | "gone"} Kind
 */

const [INDEX, X, Y, SCORE, DIAMETER, VERDICT, REJECTED] = /** @type {const} */ ([0, 1, 2, 3, 4, 5, 6]);
const ROUND = "M12 3.5a8.500 8.500 0 1 1 0 17a8.500 8.500 0 1 1 0-17";
const CROSS = "M7 7l10 10 M17 7l-10 10";
/** @type {[Kind | "missed", string, string][]} */
const KINDS = [
  ["right", "true positives", ROUND], ["false", "false positives", ROUND], ["missed", "missed labels", `${ROUND} M12 11.900v.2`],
  ["pick", "picks", ROUND], ["under", "below the threshold", ROUND], ["gone", "rejected", CROSS],
];
const COLOURS = { right: "#5fdd92", false: "#ff7a70", missed: "#ffd84d", pick: "#63b5f7", under: "#98a3ae", gone: "#98a3ae" };
const REACH = 6; // css px around a mark that is still a hit
const SMALLEST = 8; // css px: radius of circles where no diameter is known

export class Verdicts {
  /** @type {Record<string, ReturnType<typeof check>>} */
  #checks = {};
  /** @type {Record<string, HTMLElement>} */
  #rows = {};

  /** @param {() => void} onChange */
  constructor(onChange) {
    const stored = remember("inspect shown") ?? { under: false };
    for (const [kind, text, path] of KINDS) {
      const box = (this.#checks[kind] = check({
        text, value: stored[kind] ?? true,
        change: () => {
          remember("inspect shown", Object.fromEntries(KINDS.map(([each]) => [each, this.#checks[each].value])));
          onChange();
        },
      }));
      box.element.classList.add(`of-${kind}`);
      find(box.element, "input").after(drawing(path));
      this.#rows[kind] = box.element;
    }
    this.element = h("div", { class: "legend" }, Object.values(this.#rows));
  }

  /** @param {boolean} hasLabels */
  use(hasLabels) {
    for (const kind of ["right", "false", "missed"]) this.#rows[kind].hidden = !hasLabels;
    this.#rows.pick.hidden = false;
    this.hasLabels = hasLabels;
  }

  /** @param {string} kind */
  toggle(kind) {
    find(this.#rows[kind], "input").click();
  }

  /**
   * @param {PickContent} content
   * @param {number} threshold
   * @returns {Layer[]}
   */
  layers(content, threshold) {
    /** @type {Record<Kind, Circle[]>} */
    const parts = { right: [], false: [], pick: [], under: [], gone: [] };
    for (const pick of content.picks) parts[kindOf(pick, threshold)].push({ x: pick[X], y: pick[Y], radius: radius(pick[DIAMETER]) });
    const missed = content.labels.filter((label) => isMissed(label, threshold)).map(([x, y, diameter]) => ({ x, y, radius: radius(diameter) }));
    this.#rows.pick.hidden = content.has_labels;
    const style = { alpha: 0.95, width: 2 };
    /** @type {Record<Kind | "missed", Layer>} */
    const layers = {
      under: { points: parts.under, width: 1, alpha: 0.75, colour: COLOURS.under },
      gone: { crosses: parts.gone, size: 5, width: 1.5, alpha: 0.9, colour: COLOURS.gone },
      missed: { points: missed, dash: [2, 5], ...style, width: 2.5, dot: 2.5, colour: COLOURS.missed },
      pick: { points: parts.pick, ...style, colour: COLOURS.pick },
      right: { points: parts.right, ...style, colour: COLOURS.right },
      false: { points: parts.false, dash: [8, 5], ...style, colour: COLOURS.false },
    };
    return Object.entries(layers).filter(([kind]) => this.#checks[kind].value).map(([, layer]) => layer);
  }

  /**
   * @param {PickContent} content
   * @param {number} threshold
   */
  figures(content, threshold) {
    const kept = content.picks.filter((pick) => pick[SCORE] >= threshold && !pick[REJECTED]);
    const labels = content.labels.length;
    /** @type {Figures} */
    const found = { kept: kept.length, rejected: content.picks.filter((pick) => pick[REJECTED]).length, labels, precision: null, recall: null, f1: null };
    if (!content.has_labels) return found;
    const right = kept.filter((pick) => pick[VERDICT] === 1).length;
    return { ...found, precision: right / Math.max(kept.length, 1), recall: right / Math.max(labels, 1), f1: (2 * right) / Math.max(kept.length + labels, 1) };
  }

  /**
   * @param {PickContent} content
   * @param {number} threshold
   * @param {Point} point
   * @param {number} zoom
   */
  at(content, threshold, point, zoom) {
    /** @param {Pick} pick */
    const isShown = (pick) => this.#checks[kindOf(pick, threshold)].value;
    /** @type {Pick | null} */
    let best = null;
    let least = Infinity;
    for (const pick of content.picks) {
      const distance = Math.hypot(pick[X] - point.x, pick[Y] - point.y);
      if (distance < least && distance <= radius(pick[DIAMETER]) + REACH / zoom && isShown(pick)) [best, least] = [pick, distance];
    }
    return best && { index: best[INDEX], score: best[SCORE], rejected: best[REJECTED] };
  }
}

/**
 * Messages in the server's response which picks are rejected, until it is asked for again.
 * @param {PickContent} content
 * @param {number[]} indices
 * @param {boolean} rejected
 */
export function mark(content, indices, rejected) {
  const changed = new Set(indices);
  for (const pick of content.picks) if (changed.has(pick[INDEX])) pick[REJECTED] = rejected;
}

/**
 * @param {Pick} pick
 * @param {number} threshold
 * @returns {Kind}
 */
function kindOf(pick, threshold) {
  if (pick[REJECTED]) return "gone";
  if (pick[SCORE] < threshold) return "under";
  if (pick[VERDICT] === null) return "pick";
  return pick[VERDICT] ? "right" : "false";
}

/**
 * @param {PickContent["labels"][number]} label
 * @param {number} threshold
 */
function isMissed([, , , found], threshold) {
  return found === null || found < threshold;
}

/** @param {number | null} diameter */
function radius(diameter) {
  return diameter ? diameter / 2 : SMALLEST;
}

/** @param {string} path */
function drawing(path) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  const line = document.createElementNS("http://www.w3.org/2000/svg", "path");
  svg.setAttribute("viewBox", "0 0 24 24");
  svg.setAttribute("aria-hidden", "true");
  line.setAttribute("d", path);
  svg.append(line);
  return svg;
}
