/**
 * A cursor for those who label with the keyboard: C shows it, arrows move it, Enter clicks, Space takes and drops.
 *
 *   const cursor = new Cursor(desk)
 *   cursor.toggle(), cursor.active
 *   cursor.move(x, y, finely)        steps of a quarter of a diameter, or of a pixel of the screen
 *   cursor.click(), cursor.hold()
 */

export class Cursor {
  #desk;
  /** @type {Drag | null} */
  #drag = null;

  /** @param {import("./desk.js").Desk} desk */
  constructor(desk) {
    this.#desk = desk;
  }

  get active() {
    return this.#desk.cursor !== null;
  }

  toggle() {
    this.#drag?.cancel();
    this.#drag = null;
    const { viewer } = this.#desk;
    viewer.keyboard = !this.active;
    this.#desk.cursor = this.active ? null : { x: viewer.x, y: viewer.y };
    this.#desk.tool?.hover?.(null);
    this.#desk.paint();
  }

  /**
   * @param {number} x
   * @param {number} y
   * @param {boolean} finely
   */
  move(x, y, finely) {
    const desk = this.#desk;
    const { viewer } = desk;
    const step = finely ? 1 / viewer.zoom : Math.max(desk.radius / 2, 4 / viewer.zoom);
    const [rows, columns] = desk.present.info.shape;
    const from = this.#point;
    /** @type {(value: number, most: number) => number} */
    const clamp = (value, most) => Math.min(Math.max(value, 0), most - 1);
    desk.cursor = { x: clamp(from.x + x * step, columns), y: clamp(from.y + y * step, rows) };
    const { x: cx, y: cy, sx, sy } = this.#point;
    const margin = 40;
    if (sx < margin || sy < margin || sx > viewer.width - margin || sy > viewer.height - margin) viewer.centreOn(cx, cy);
    if (this.#drag) this.#drag.move(this.#point);
    else desk.tool?.hover?.(this.#point);
    desk.paint();
    return this.#point;
  }

  click() {
    if (this.#drag) this.hold();
    else this.#desk.tool?.click(this.#point);
  }

  hold() {
    if (this.#drag) {
      const drag = this.#drag;
      this.#drag = null;
      drag.end(this.#point);
      return;
    }
    this.#drag = this.#desk.tool?.press(this.#point) ?? null;
    if (this.#drag) this.#drag.move(this.#point);
    else this.#desk.tool?.click(this.#point);
  }

  get #point() {
    const { x, y } = this.#desk.cursor ?? this.#desk.viewer;
    const [sx, sy] = this.#desk.viewer.toScreen(x, y);
    return { x, y, sx, sy };
  }
}
