/** What the pointer does on a viewer: clicks, drags, panning, the wheel, two fingers. Hooks: see viewer.js. */

const STILL = 4; // css px that a click may move
const PER_LINE = 33; // css px that a wheel's line is taken for

/** @param {import("./viewer.js").Viewer} viewer */
export function listen(viewer) {
  const { element } = viewer;
  /** @type {Map<number, PointerEvent>} pointers that are down, by id */
  const held = new Map();
  /** @type {{point: Pointed, last: Pointed, pans: boolean, moved: boolean, drag: Drag | null} | null} */
  let press = null;
  let space = false;

  /** @type {(event: MouseEvent) => Pointed} */
  const pointOf = (event) => {
    const [sx, sy] = [event.clientX - viewer.left, event.clientY - viewer.top];
    const [x, y] = viewer.toRaw(sx, sy);
    return { x, y, sx, sy };
  };

  /** @param {PointerEvent} event */
  const down = (event) => {
    element.focus({ preventScroll: true });
    viewer.locate();
    held.set(event.pointerId, event);
    element.setPointerCapture(event.pointerId);
    event.preventDefault();
    if (held.size > 1) {
      press?.drag?.cancel();
      press = null;
      return;
    }
    const point = pointOf(event);
    const pans = space || event.button !== 0;
    press = { point, pans, last: point, moved: false, drag: (pans ? null : viewer.onPress?.(point, event)) || null };
  };

  /** @param {PointerEvent} event */
  const move = (event) => {
    if (held.size > 1) return pinch(event);
    const point = pointOf(event);
    if (!press) return viewer.onHover?.(point, event);
    if (!press.moved && Math.hypot(point.sx - press.point.sx, point.sy - press.point.sy) < STILL) return;
    press.moved = true;
    if (press.drag) press.drag.move(point, event);
    else {
      element.style.cursor = "grabbing";
      viewer.panBy(point.sx - press.last.sx, point.sy - press.last.sy);
      press.last = point;
    }
  };

  /** @param {PointerEvent} event */
  const pinch = (event) => {
    if (!held.has(event.pointerId)) return;
    const ends = () => [...held.values()].slice(0, 2).map(pointOf);
    const [a, b] = ends();
    held.set(event.pointerId, event);
    const [c, d] = ends();
    const factor = Math.hypot(c.sx - d.sx, c.sy - d.sy) / Math.max(1, Math.hypot(a.sx - b.sx, a.sy - b.sy));
    viewer.panBy((c.sx + d.sx - a.sx - b.sx) / 2, (c.sy + d.sy - a.sy - b.sy) / 2);
    viewer.zoomBy(factor, [(c.sx + d.sx) / 2, (c.sy + d.sy) / 2]);
  };

  /** @param {PointerEvent} event */
  const up = (event) => {
    if (!held.delete(event.pointerId) || !press) return;
    const { drag, moved, pans } = press;
    const point = pointOf(event);
    press = null;
    element.style.cursor = space ? "grab" : "";
    if (moved) drag?.end(point, event);
    else {
      drag?.cancel();
      if (!pans) viewer.onClick?.(point, event);
    }
    viewer.onHover?.(point, event);
  };

  /** @param {PointerEvent} event */
  const cancel = (event) => {
    if (!held.delete(event.pointerId)) return;
    press?.drag?.cancel();
    press = null;
    element.style.cursor = "";
  };

  /** @param {WheelEvent} event */
  const wheel = (event) => {
    event.preventDefault();
    const point = pointOf(event);
    const distance = event.deltaMode === 1 ? event.deltaY * PER_LINE : event.deltaMode === 2 ? event.deltaY * viewer.height : event.deltaY;
    const speed = event.ctrlKey ? 0.01 : 0.0018; // two fingers on a touch pad arrive as small steps with ctrl
    viewer.zoomBy(Math.exp(-Math.min(Math.max(distance, -400), 400) * speed), [point.sx, point.sy]);
    if (!press) viewer.onHover?.(pointOf(event), event);
  };

  element.addEventListener("pointerenter", () => viewer.locate());
  element.addEventListener("pointerdown", down);
  element.addEventListener("pointermove", move);
  element.addEventListener("pointerup", up);
  element.addEventListener("pointercancel", cancel);
  element.addEventListener("pointerleave", (event) => !press && viewer.onHover?.(null, event));
  element.addEventListener("wheel", wheel, { passive: false });
  element.addEventListener("contextmenu", (event) => event.preventDefault());
  element.addEventListener("auxclick", (event) => event.preventDefault());
  element.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && press) {
      press.drag?.cancel();
      press = null;
    }
    if (event.code !== "Space" || viewer.keyboard) return;
    event.preventDefault();
    space = true;
    if (!press) element.style.cursor = "grab";
  });
  /** @param {Event} event */
  const released = (event) => {
    if (event instanceof KeyboardEvent && event.code !== "Space") return;
    space = false;
    if (!press) element.style.cursor = "";
  };
  window.addEventListener("keyup", released);
  window.addEventListener("blur", released);
}
