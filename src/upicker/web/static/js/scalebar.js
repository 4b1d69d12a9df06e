/** The length of a scale bar. Nothing of the page. */

const WIDEST = 140; // css px

/**
 * Length in css px and text of a scale bar, as long as fits: 1, 2 or 5 times a power of ten.
 * @param {number} zoom css px per raw pixel
 * @param {number | null} pixelSize Angstrom; null: unknown, the bar is in pixels
 * @returns {[number, string]}
 */
export function scaleBar(zoom, pixelSize) {
  const most = (WIDEST / zoom) * (pixelSize ?? 1);
  const power = 10 ** Math.floor(Math.log10(most));
  const length = ([5, 2].find((digit) => digit * power <= most) ?? 1) * power;
  const pixels = (length / (pixelSize ?? 1)) * zoom;
  if (!pixelSize) return [pixels, `${length} px`];
  if (length >= 10000) return [pixels, `${length / 10000} µm`];
  return [pixels, length >= 10 ? `${length / 10} nm` : `${Number(length.toPrecision(1))} Å`];
}
