/** Texts of the page for inspecting: figures of the micrograph that is shown and of all, and what is wrong with files. */

import { find, h, many } from "./ui.js";

/** @param {number | null | undefined} value */
function fraction(value) {
  return value === null || value === undefined ? "–" : value.toFixed(3);
}

/**
 * @param {PickSummary} summary
 * @param {PickCounts} counts
 * @param {import("./verdicts.js").PickContent | null} content of the micrograph that is shown
 * @param {import("./verdicts.js").Figures | null} here
 * @returns {{rows: HTMLElement[], note: HTMLElement | null}}
 */
export function figureRows(summary, counts, content, here) {
  const { rejected, labels, labelled, micrographs } = summary;
  const { score, total } = counts;
  /** @type {[string, string | number | undefined, string, string?][]} */
  const rows = [["picks kept", here?.kept.toLocaleString("en"), total.toLocaleString("en"), "strong"], ["rejected", here?.rejected, rejected.toLocaleString("en")]];
  if (score) {
    rows.push(["labels", here && content?.has_labels ? here.labels : "–", labels.toLocaleString("en")]);
    rows.push(["precision", fraction(here?.precision), fraction(score.precision)], ["recall", fraction(here?.recall), fraction(score.recall)]);
    rows.push(["F1", fraction(here?.f1), fraction(score.f1), "strong"]);
  }
  const note = score && labelled < micrographs ? h("p", { class: "muted" }, `Precision, recall and F1 are those of the ${many(labelled, "labelled micrograph")}.`) : null;
  const cells = rows.flatMap(([text, mine, all, kind = ""]) => [
    h("span", { class: "muted" }, text), h("span", { class: `amount ${kind}` }, String(mine ?? "–")), h("span", { class: `amount ${kind}` }, all),
  ]);
  return { rows: cells, note };
}

/**
 * What is wrong with files of picks, as far as it is listed, and how many such things there are.
 * @param {PickSummary} summary
 */
export function problemTexts({ problems, more_problems: more, strangers }) {
  const texts = [...problems];
  if (more) texts.push(`… and ${more} more`);
  if (strangers) texts.push(`Picks of ${many(strangers, "other micrograph")} are not shown.`);
  return { texts, count: problems.length + more + (strangers ? 1 : 0) };
}

/**
 * Lists them in their panel, and hides it where there are none.
 * @param {HTMLElement} panel
 * @param {PickSummary} summary
 */
export function showProblems(panel, summary) {
  const { texts, count } = problemTexts(summary);
  panel.hidden = !texts.length;
  find(panel, "summary").textContent = `Problems (${count})`;
  find(panel, ".body").replaceChildren(h("ul", { class: "problems" }, texts.map((text) => h("li", {}, text))));
}
