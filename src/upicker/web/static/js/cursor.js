/**
 * A cursor for those who label with the keyboard: C shows it, arrows move it, Enter clicks, Space takes and drops.
 *
 *   const cursor = new Cursor(editor)
 *   cursor.toggle(), cursor.active
 *   cursor.move(x, y, finely)        steps of a quarter of a diameter, or of a pixel of the screen
 *   cursor.click(), cursor.hold()
 */

export class Cursor {
  #editor;
  /** @type {Drag | null} */
  #drag = null;

  /** @param {import("./editor.js").Editor} editor */
  constructor(editor) {
    this.#editor = editor;
  }

  get active() {
    return this.#editor.cursor !== null;
  }

  toggle() {
    this.#drag?.cancel();
    this.#drag = null;
    const { viewer } = this.#editor;
    viewer.keyboard = !this.active;
    this.#editor.cursor = this.active ? null : { x: viewer.x, y: viewer.y };
    this.#editor.tool?.hover?.(null);
    this.#editor.paint();
  }

  /**
   * @param {number} x
   * @param {number} y
   * @param {boolean} finely
   */
  move(x, y, finely) {
    const editor = this.#editor;
    const { viewer } = editor;
    const step = finely ? 1 / viewer.zoom : Math.max(editor.radius / 2, 4 / viewer.zoom);
    const [rows, columns] = editor.present.info.shape;
    const from = this.#point;
    /** @type {(value: number, most: number) => number} */
    const clamp = (value, most) => Math.min(Math.max(value, 0), most - 1);
    editor.cursor = { x: clamp(from.x + x * step, columns), y: clamp(from.y + y * step, rows) };
    const { x: cx, y: cy, sx, sy } = this.#point;
    const margin = 40;
    if (sx < margin || sy < margin || sx > viewer.width - margin || sy > viewer.height - margin) viewer.centreOn(cx, cy);
    if (this.#drag) this.#drag.move(this.#point);
    else editor.tool?.hover?.(this.#point);
    editor.paint();
    return this.#point;
  }

  click() {
    if (this.#drag) this.hold();
    else this.#editor.tool?.click(this.#point);
  }

  hold() {
    if (this.#drag) {
      const drag = this.#drag;
      this.#drag = null;
      drag.end(this.#point);
      return;
    }
    this.#drag = this.#editor.tool?.press(this.#point) ?? null;
    if (this.#drag) this.#drag.move(this.#point);
    else this.#editor.tool?.click(this.#point);
  }

  get #point() {
    const { x, y } = this.#editor.cursor ?? this.#editor.viewer;
    const [sx, sy] = this.#editor.viewer.toScreen(x, y);
    return { x, y, sx, sy };
  }
}
