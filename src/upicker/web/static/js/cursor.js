// @ts-nocheck
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
  #drag = null;

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
    this.#desk.tool.hover?.(null);
    this.#desk.paint();
  }

  move(x, y, finely) {
    const desk = this.#desk;
    const { viewer } = desk;
    const step = finely ? 1 / viewer.zoom : Math.max(desk.radius / 2, 4 / viewer.zoom);
    const [rows, columns] = desk.sheet.info.shape;
    const clamp = (value, most) => Math.min(Math.max(value, 0), most - 1);
    desk.cursor = { x: clamp(desk.cursor.x + x * step, columns), y: clamp(desk.cursor.y + y * step, rows) };
    const [sx, sy] = viewer.toScreen(desk.cursor.x, desk.cursor.y);
    const margin = 40;
    if (sx < margin || sy < margin || sx > viewer.width - margin || sy > viewer.height - margin) viewer.centreOn(desk.cursor.x, desk.cursor.y);
    if (this.#drag) this.#drag.move(this.#point);
    else desk.tool.hover?.(this.#point);
    desk.paint();
    return this.#point;
  }

  click() {
    if (this.#drag) this.hold();
    else this.#desk.tool.click(this.#point);
  }

  hold() {
    if (this.#drag) {
      const drag = this.#drag;
      this.#drag = null;
      drag.end(this.#point);
      return;
    }
    this.#drag = this.#desk.tool.press(this.#point);
    if (this.#drag) this.#drag.move(this.#point);
    else this.#desk.tool.click(this.#point);
  }

  get #point() {
    const { x, y } = this.#desk.cursor;
    const [sx, sy] = this.#desk.viewer.toScreen(x, y);
    return { x, y, sx, sy };
  }
}
