/** Long file names in a narrow list: what all of them have in common is left out. Nothing of the page. */

const LONG = 11; // characters for which a row of the table has room
const LONGEST = 22; // and of the list

/**
 * Return a function that leaves out what long names have in common at both ends, up to the next - _ . or space.
 * @param {string[]} names
 * @returns {(name: string) => string}
 */
export function shortener(names) {
  const [first] = names;
  if (names.length < 2 || names.every((name) => name.length <= LONG)) return (name) => name;
  /** @param {number} at */
  const shared = (at) => names.every((name) => at < name.length && name.at(at) === first.at(at));
  /** @param {number} at */
  const sharedEnd = (at) => names.every((name) => at <= name.length && name.at(-at) === first.at(-at));
  let [start, end] = [0, 0];
  while (shared(start)) start++;
  while (start && !/[-_. ]/.test(first[start - 1])) start--;
  while (sharedEnd(end + 1) && names.every((name) => name.length > start + end + 1)) end++;
  while (end && !/[-_. ]/.test(first[first.length - end])) end--;
  return (name) => `${start > 2 ? "…" : name.slice(0, start)}${name.slice(start, name.length - end)}${end > 2 ? "…" : name.slice(name.length - end)}`;
}

/**
 * Long names that differ at their ends only are cut at their start, behind a sign that separates.
 * @param {string[]} names
 */
export function sharedStart(names) {
  if (names.length < 2 || names.every((name) => name.length <= LONGEST)) return 0;
  let end = 0;
  while (names.every((name) => name[end] !== undefined && name[end] === names[0][end])) end++;
  while (end > 0 && !/[-_. ]/.test(names[0][end - 1])) end--;
  return end;
}
