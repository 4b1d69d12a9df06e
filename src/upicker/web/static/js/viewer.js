/**
 * A micrograph that one can pan and zoom, with marks on it, on one canvas.
 *
 *   const viewer = new Viewer(element)          element: empty, positioned; takes the keyboard's focus
 *   viewer.show(info)                           info: response of api.picture(); the view is kept for the same micrograph
 *                                               and fitted for another one
 *   viewer.clear()                              no micrograph, no marks
 *   viewer.setOverlay(layers)                     see overlay.js; the array is kept: call again after changing it
 *   viewer.setWindow({low, high, brightness, invert})   percentiles 0..100 shown black and white; brightness -1..1
 *   viewer.toScreen(x, y), viewer.toRaw(x, y)   css px of the element <-> raw px of the micrograph; [x, y]
 *   viewer.zoom                                 css px per raw px
 *   viewer.fit(), viewer.zoomBy(factor, [x, y]), viewer.panBy(x, y), viewer.centreOn(x, y, zoom)   css px; raw px in the last
 *   viewer.visible()                            [x0, y0, x1, y1], raw px, of what is seen of the micrograph
 *   viewer.keyboard                             set true: Space does not pan, the page has a use of its own for it
 *   viewer.info                                 of what is on the screen now, or null
 *   viewer.locate(), viewer.left, viewer.top    css px of the window; to be called when the viewer may have moved
 *
 * Hooks, all optional. `point` is {x, y (raw px), sx, sy (css px)}:
 *   viewer.onPress = (point, event) => drag      drag: {move(point, event), end(point, event), cancel()} takes the drag;
 *                                                null: the drag pans. Middle button and space always pan.
 *   viewer.onClick = (point, event) => {}        pressed and released in one place (a drag begun is cancelled before)
 *   viewer.onHover = (point | null, event) => {} the pointer moves without a button, or leaves (null)
 *   viewer.onView = () => {}                     the view or the size changed
 *
 * Nothing is drawn unless something changed: then once, before the browser's next frame.
 */

import { draw as drawMarks } from "./overlay.js";
import { listen } from "./pointer.js";
import { Tiles } from "./tiles.js";
import { context2d } from "./ui.js";

const CLOSEST = 24; // css px per raw px
const FURTHEST = 0.5; // of the zoom at which all of the micrograph is seen
const BACKGROUND = "#12151a"; // beside the micrograph
/** @typedef {import("./contrast.js").Window} Window */

/** @type {Window} */
const WINDOW = { low: 0.5, high: 99.5, brightness: 0, invert: false };

export class Viewer {
  #context;
  /** @type {Layer[]} */
  #layers = [];
  #frame = 0;
  #window = WINDOW;
  #fitted = true;
  /** @type {ImageInfo | null} */
  #asked = null;
  left = 0;
  top = 0;
  ratio = 1;

  /** @type {((point: Pointed, event: PointerEvent) => Drag | null | undefined) | null} */
  onPress = null;
  /** @type {((point: Pointed, event: PointerEvent) => void) | null} */
  onClick = null;
  /** @type {((point: Pointed | null, event: MouseEvent) => void) | null} */
  onHover = null;
  /** @type {(() => void) | null} */
  onView = null;

  /** @param {HTMLElement} element */
  constructor(element) {
    this.element = element;
    element.classList.add("viewer");
    element.tabIndex = 0;
    this.#context = context2d(element.appendChild(document.createElement("canvas")), { alpha: false });
    this.tiles = new Tiles(() => this.#invalidate());
    this.keyboard = false;
    this.zoom = 1;
    this.x = 0;
    this.y = 0;
    this.width = 1;
    this.height = 1;
    new ResizeObserver(() => this.#resize()).observe(element);
    window.addEventListener("resize", () => this.#resize()); // the browser's own zoom changes the device's pixels
    listen(this);
    this.#resize();
  }

  get info() {
    return this.tiles.shown;
  }

  /** @param {ImageInfo} info */
  show(info) {
    const fresh = this.#asked?.id !== info.id;
    this.#asked = info;
    if (fresh) this.fit();
    this.tiles.show(info);
    this.element.classList.toggle("dim", this.info !== null && this.info.id !== info.id);
  }

  clear() {
    this.#asked = null;
    this.tiles.show(null);
    this.setOverlay([]);
    this.element.classList.remove("dim");
  }

  /** @param {Layer[]} layers */
  setOverlay(layers) {
    this.#layers = layers;
    this.#invalidate();
  }

  /** @param {Partial<Window>} window */
  setWindow(window) {
    this.#window = { ...this.#window, ...window };
    this.#invalidate();
  }

  /**
   * @param {number} x
   * @param {number} y
   * @returns {[number, number]}
   */
  toScreen(x, y) {
    return [(x - this.x) * this.zoom + this.width / 2, (y - this.y) * this.zoom + this.height / 2];
  }

  /**
   * @param {number} x
   * @param {number} y
   * @returns {[number, number]}
   */
  toRaw(x, y) {
    return [(x - this.width / 2) / this.zoom + this.x, (y - this.height / 2) / this.zoom + this.y];
  }

  /** @returns {Box} */
  visible() {
    const shape = this.#shape;
    const [x0, y0] = this.toRaw(0, 0);
    const [x1, y1] = this.toRaw(this.width, this.height);
    return [Math.max(x0, -0.5), Math.max(y0, -0.5), Math.min(x1, shape[1] - 0.5), Math.min(y1, shape[0] - 0.5)];
  }

  fit() {
    const shape = this.#asked?.shape;
    if (!shape) return;
    this.#fitted = true;
    this.#setView((shape[1] - 1) / 2, (shape[0] - 1) / 2, this.#fitting());
  }

  /**
   * @param {number} factor
   * @param {[number, number]} centre
   */
  zoomBy(factor, centre = [this.width / 2, this.height / 2]) {
    if (!this.#asked) return;
    const [x, y] = centre;
    const [rawX, rawY] = this.toRaw(x, y);
    const zoom = this.#within(this.zoom * factor);
    this.#fitted = false;
    this.#setView(rawX - (x - this.width / 2) / zoom, rawY - (y - this.height / 2) / zoom, zoom);
  }

  /**
   * @param {number} x
   * @param {number} y
   */
  panBy(x, y) {
    if (!this.#asked) return;
    this.#fitted = false;
    this.#setView(this.x - x / this.zoom, this.y - y / this.zoom, this.zoom);
  }

  /**
   * @param {number} x
   * @param {number} y
   * @param {number} [zoom]
   */
  centreOn(x, y, zoom = this.zoom) {
    this.#fitted = false;
    this.#setView(x, y, this.#within(zoom));
  }

  get #shape() {
    return this.#asked?.shape ?? [1, 1];
  }

  #fitting() {
    const [rows, columns] = this.#shape;
    return Math.min((this.width - 16) / columns, (this.height - 16) / rows, CLOSEST);
  }

  /** @param {number} zoom */
  #within(zoom) {
    return Math.min(Math.max(zoom, this.#fitting() * FURTHEST), CLOSEST);
  }

  /**
   * Some of the micrograph always stays in sight.
   * @param {number} x
   * @param {number} y
   * @param {number} zoom
   */
  #setView(x, y, zoom) {
    const [rows, columns] = this.#shape;
    this.zoom = Math.max(zoom, 1e-4);
    this.x = Math.min(Math.max(x, 0), columns - 1);
    this.y = Math.min(Math.max(y, 0), rows - 1);
    this.#invalidate();
    this.onView?.();
  }

  /** Note where the viewer is on the page: asking for it at each event would lay the page out each time. */
  locate() {
    ({ left: this.left, top: this.top } = this.element.getBoundingClientRect());
  }

  #resize() {
    const { clientWidth, clientHeight } = this.element;
    const ratio = window.devicePixelRatio || 1;
    const sizes = [Math.max(1, Math.round(clientWidth * ratio)), Math.max(1, Math.round(clientHeight * ratio))];
    this.ratio = ratio;
    this.locate();
    this.width = Math.max(1, clientWidth);
    this.height = Math.max(1, clientHeight);
    const { canvas } = this.#context;
    if (canvas.width !== sizes[0] || canvas.height !== sizes[1]) [canvas.width, canvas.height] = sizes;
    this.#invalidate();
    if (this.#fitted && this.#asked) this.fit();
    else this.onView?.();
    this.#paint(); // at once: a canvas whose size was set is empty
  }

  #invalidate() {
    if (!this.#frame) this.#frame = requestAnimationFrame(() => this.#paint());
  }

  #paint() {
    cancelAnimationFrame(this.#frame);
    this.#frame = 0;
    const { width, height } = this.#context.canvas;
    this.#context.setTransform(1, 0, 0, 1, 0, 0);
    this.#context.globalAlpha = 1;
    this.#context.fillStyle = BACKGROUND;
    this.#context.fillRect(0, 0, width, height);
    this.tiles.draw(this.#context, { zoom: this.zoom * this.ratio, x: this.x, y: this.y, width, height }, this.#window);
    drawMarks(this.#context, this.#layers, this);
    if (this.info && this.info === this.#asked) this.element.classList.remove("dim");
  }
}
