/** Numbers of the plot over all scores: ticks of its axes, rounding, texts, the best threshold. Nothing of the page. */

/**
 * Four digits, as short as can be.
 * @param {number} value
 */
export function figure(value) {
  return String(Number(value.toPrecision(4)));
}

/**
 * A score in words: "probability 0.31", "template correlation 4.2 σ".
 * @param {ScoreKind} kind
 * @param {number} score
 */
export function scored({ noun, unit }, score) {
  return `${noun} ${figure(score)}${unit && ` ${unit}`}`;
}

/**
 * A count in at most five characters.
 * @param {number} count
 */
export function short(count) {
  if (count >= 1e6) return `${Number((count / 1e6).toPrecision(3))} M`;
  return count >= 1e4 ? `${Number((count / 1e3).toPrecision(3))} k` : String(count);
}

/**
 * The nearest value in a range; the lower end where the range is empty.
 * @param {number} value
 * @param {number} low
 * @param {number} high
 */
export function clamp(value, low, high) {
  return Math.min(Math.max(value, low), Math.max(low, high));
}

/**
 * Round numbers in a range, at most `count` steps apart: 1, 2 or 5 times a power of ten.
 * @param {number} low
 * @param {number} high
 * @param {number} count
 * @returns {number[]}
 */
export function ticks(low, high, count) {
  const rough = (high - low) / count;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = ([1, 2, 5].find((digit) => digit * power >= rough) ?? 10) * power;
  const found = [];
  for (let index = Math.ceil(low / step - 1e-9); index * step <= high + step * 1e-9; index++) found.push(Number((index * step).toPrecision(12)));
  return found;
}

/**
 * Ticks of an axis of counts from 0 to `most`: whole numbers, on a logarithmic axis the powers of ten.
 * @param {number} most
 * @param {boolean} isLog
 * @returns {number[]}
 */
export function countTicks(most, isLog) {
  if (!isLog) return ticks(0, most, 4).filter(Number.isInteger);
  const found = [0];
  for (let power = 1; power <= most; power *= 10) found.push(power);
  return found;
}

/**
 * Height of a count on an axis that ends at `most`, 0..1.
 * @param {number} count
 * @param {number} most
 * @param {boolean} isLog
 */
export function scaled(count, most, isLog) {
  return isLog ? Math.log1p(count) / Math.log1p(most) : count / most;
}

/**
 * A threshold, rounded so that it is short: to a power of ten of at most a thousandth of the range.
 * @param {number} value
 * @param {number} range
 */
export function readable(value, range) {
  const step = 10 ** Math.floor(Math.log10(range / 1000));
  return Number((Math.round(value / step) * step).toPrecision(12));
}

/**
 * The lowest of the curve's thresholds with the best F1; null without labels.
 * @param {PickCurve | null} curve
 */
export function best(curve) {
  const f1 = curve?.f1;
  if (!curve || !f1) return null;
  const at = f1.reduce((highest, value, index) => (value > f1[highest] ? index : highest), 0);
  return { f1: f1[at], threshold: curve.thresholds[at] };
}
