/**
 * Types of what travels between the server and the page, and between the page's modules. Read by `tsc` only (see
 * tsconfig.json); no browser asks for this file. Names of fields are those of the server's JSON.
 */

/** A position, raw pixels of the micrograph; (0, 0) is the centre of the first pixel. */
interface Point {
  x: number;
  y: number;
}

/** A position under the pointer: raw pixels, and css pixels of the viewer. */
interface Pointed extends Point {
  sx: number;
  sy: number;
}

/** A rectangle [x0, y0, x1, y1], raw pixels. */
type Box = [number, number, number, number];

/** A circle, raw pixels; the layer's radius where it has none of its own. */
interface Circle extends Point {
  radius?: number;
}

/** What all layers of marks say: colour, width of lines and dashes in css px, alpha. */
interface Stroke {
  colour: string;
  width?: number;
  alpha?: number;
  dash?: number[];
}

/** Circles: `fill` is the alpha of the disc, `halo` that of a dark line below, `dot` the css px of a dot in the middle. */
interface CircleLayer extends Stroke {
  points: Circle[];
  radius?: number;
  fill?: number;
  halo?: number;
  dot?: number;
}

/** Rectangles; with `outside`, all but these is filled. */
interface BoxLayer extends Stroke {
  boxes: Box[];
  outside?: boolean;
  fill?: number;
}

/** Crosses with arms of `size` css px. */
interface CrossLayer extends Stroke {
  crosses: Point[];
  size: number;
}

/** What is drawn over a micrograph. */
type Layer = CircleLayer | BoxLayer | CrossLayer;

/** A drag that a tool has taken. */
interface Drag {
  move(point: Pointed, event?: PointerEvent): void;
  end(point: Pointed, event?: PointerEvent): void;
  cancel(): void;
}

/** Where an error is, what was found, and what to do about it. */
interface Problem {
  where: string;
  found: string;
  remedy: string;
}

/** One reduction of a micrograph: `scale` raw pixels a pixel, `shape` rows and columns, values at grey levels 0 and 255. */
interface Level {
  scale: number;
  shape: [number, number];
  range: [number, number];
}

/** Response of GET /api/micrographs/{id}/picture, with the micrograph's id; the finest level comes first. */
interface ImageInfo {
  id: number;
  view: string;
  version: string;
  shape: [number, number];
  pixel_size_A: number | null;
  diameter_px: number | null;
  tile: number;
  range: [number, number];
  fractional: boolean;
  cutoff_px: number | null;
  levels: Level[];
  error?: Problem;
}

/** Response of GET /api/session. */
interface Session {
  labels: string | null;
  picks: string | null;
  pixel_size_A: number | null;
}

/** A row of GET /api/micrographs. */
interface MicrographItem {
  id: number;
  name: string;
  labels: number;
  picks: number | null;
  opened: boolean;
  coverage: Coverage;
  bad: boolean;
  triage: { kind: string; score: number; reason: string } | null;
}

/** What the labels of a micrograph cover. */
type Coverage = "unset" | "complete" | "partial" | "regions";

/** A change of labels, as the server takes it; or of proposals ("reject"), which it never sees. */
type Change =
  | { op: "add" | "move"; key: string; x: number; y: number }
  | { op: "remove"; key: string }
  | { op: "diameter"; px: number }
  | { op: "coverage"; value: Coverage }
  | { op: "regions"; value: Box[] }
  | { op: "bad"; value: boolean }
  | { op: "reject"; index: number; value: boolean };

/** The labels of one micrograph, as far as a change can be taken back from them. */
interface LabelState {
  particles: Map<string, Point>;
  diameter_px: number | null;
  coverage: Coverage;
  regions: Box[];
  bad: boolean;
}

/** Response of GET /api/picks/summary once all picks are read. */
interface PickSummary {
  loading?: number;
  number: number;
  replaced: number;
  score: ScoreKind;
  threshold: number | null;
  picked_at: number | null;
  note: string;
  low: number;
  high: number;
  lowest: number | null;
  total: number;
  rejected: number;
  micrographs: number;
  labels: number;
  labelled: number;
  has_labels: boolean;
  problems: string[];
  more_problems: number;
  strangers: number;
}

/** What scores are: "template correlation", "σ", and both in words for an axis. */
interface ScoreKind {
  noun: string;
  unit: string;
  words: string;
}

/** Response of GET /api/picks/counts: by micrograph, null where there are no picks; means and f1s in detail only. */
interface PickCounts {
  counts: (number | null)[];
  total: number;
  why: Record<string, string>;
  means?: (number | null)[];
  f1s?: (number | null)[];
  score?: { precision: number; recall: number; f1: number };
}

/** Response of GET /api/picks/curve: a bin of the histogram lies between two thresholds. */
interface PickCurve {
  thresholds: number[];
  counts: number[];
  histogram: number[];
  precision?: number[];
  recall?: number[];
  f1?: number[];
}

/** What a press, a click and a drag do, by name; `step` makes it larger (1) or smaller (-1). See tools.js. */
interface Tool {
  name: string;
  key: string;
  title: string;
  icon: string;
  hint: string;
  press(point: Pointed, event?: PointerEvent): Drag | null;
  click(point: Pointed, event?: PointerEvent): void;
  layers(): Layer[];
  hover?(point: Pointed | null): void;
  step?(direction: number): void;
  begin?(): void;
}

/** All that belongs to one micrograph on the page for labelling. */
interface Sheet {
  id: number;
  labels: import("./labels.js").Labels | null;
  history: import("./history.js").History;
  proposals: import("./proposals.js").Proposals | null;
  info: ImageInfo | null;
}
