/* The 2-D surface: prompts are points, a cursor blends them by inverse distance into weights.
 *
 * Rules: places live in this browser (they are how this hand plays), weights in the session. `blend` is pure. Points and
 * cursor are focusable elements over a canvas, so that keys and screen readers reach what a finger reaches.
 */

import { colour } from "./slots.js";

const STORE = "streamgen.surface.v1";
const FIELD = 56; // pixels a side of the colour field; the browser smooths it up
const NUDGE = 0.02;
const NUDGE_FINE = 0.004;
const SILENT = 0.015; // less than this share of the loudest is 0: the engine drops the row

/** Weights 0 … 1 of points seen from a place, the nearest 1: inverse square of distance (Shepard). */
export function blend(place, points) {
  const pulls = points.map(({ x, y }) => 1 / Math.max(1e-9, (x - place.x) ** 2 + (y - place.y) ** 2));
  const strongest = Math.max(...pulls);
  return pulls.map((pull) => (pull / strongest < SILENT ? 0 : pull / strongest));
}

/** Mix colours [[r, g, b]] by weights; squares, for light adds up so. */
export function mixColours(colours, weights) {
  const sum = weights.reduce((a, b) => a + b, 0) || 1;
  return [0, 1, 2].map((i) => Math.sqrt(colours.reduce((total, each, n) => total + (weights[n] / sum) * each[i] ** 2, 0)));
}

export const rgb = (hex) => [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16));

export class Surface {
  #box;
  #canvas;
  #state;
  #slots;
  #points = new Map(); // number → element
  #places;
  #cursor;
  #drag = null;
  level = 0;

  constructor(box, state, slots) {
    this.#box = box;
    this.#state = state;
    this.#slots = slots;
    this.#canvas = box.querySelector("canvas");
    this.#canvas.width = this.#canvas.height = FIELD;
    this.#cursor = box.querySelector(".cursor");
    this.#places = stored();
    this.#listen();
    state.addEventListener("value", ({ detail }) => this.#changed(detail));
  }

  /** Show the points of a session's slots. */
  build() {
    for (const point of this.#points.values()) point.remove();
    this.#points.clear();
    const all = this.#slots.all;
    all.forEach(({ number }, index) => (this.#places[number] ??= onCircle(index, all.length)));
    for (const { number } of all) this.#points.set(number, this.#point(number));
    this.#box.append(...this.#points.values());
    this.#follows(false);
    this.#refresh();
  }

  /** Move the cursor, play what it blends. */
  moveTo(place) {
    const points = this.#slots.filled;
    this.#places.cursor = inside(place);
    this.#follows(true);
    const weights = blend(this.#places.cursor, points.map(({ number }) => this.#places[number]));
    points.forEach(({ number }, i) => this.#setWeight(number, weights[i]));
    this.#refresh();
  }

  nudge(key, fine) {
    this.moveTo(moved(this.#places.cursor, key, fine));
  }

  #setWeight(number, share) {
    const name = `prompt/${number}/weight`;
    this.#state.set(name, Math.round(share * 1000) / 1000);
    this.#state.release(name);
  }

  #listen() {
    const box = this.#box;
    box.addEventListener("pointerdown", (event) => this.#grab(event));
    box.addEventListener("pointermove", (event) => this.#move(event));
    for (const end of ["pointerup", "pointercancel"]) box.addEventListener(end, () => this.#letGo());
    box.addEventListener("dblclick", (event) => this.#alone(event.target));
    box.addEventListener("keydown", (event) => this.#key(event));
  }

  #grab(event) {
    if (event.button !== 0 || this.#box.classList.contains("is-empty")) return;
    const number = Number(event.target.closest(".point")?.dataset.number ?? 0);
    this.#box.setPointerCapture(event.pointerId);
    this.#drag = { number, moved: false };
    (number ? this.#points.get(number) : this.#cursor).focus({ preventScroll: true });
    this.#box.classList.add("is-held");
    if (number) this.#slots.select(number, false);
    else this.moveTo(this.#placeOf(event));
    event.preventDefault();
  }

  #move(event) {
    if (!this.#drag) return;
    const place = this.#placeOf(event);
    if (this.#drag.number) this.#movePoint(this.#drag.number, place);
    else this.moveTo(place);
  }

  #letGo() {
    if (!this.#drag) return;
    this.#drag = null;
    this.#box.classList.remove("is-held");
    store(this.#places);
  }

  #movePoint(number, place) {
    this.#places[number] = inside(place);
    if (this.#box.classList.contains("is-followed")) this.moveTo(this.#places.cursor);
    else this.#refresh();
  }

  #alone(target) {
    const number = target.closest(".point")?.dataset.number;
    if (number) this.moveTo(this.#places[number]);
  }

  #key(event) {
    const number = event.target.dataset.number;
    if (number && (event.key === "Enter" || event.key === " ")) {
      this.#alone(event.target);
    } else if (event.key.startsWith("Arrow") && !event.ctrlKey && !event.metaKey && !event.altKey) {
      if (number) this.#movePoint(number, moved(this.#places[number], event.key, event.shiftKey));
      else this.nudge(event.key, event.shiftKey);
    } else return;
    store(this.#places);
    event.preventDefault();
    event.stopPropagation();
  }

  #placeOf({ clientX, clientY }) {
    const { left, top, width, height } = this.#box.getBoundingClientRect();
    return { x: (clientX - left) / width, y: (clientY - top) / height };
  }

  #point(number) {
    const point = document.createElement("button");
    point.type = "button";
    point.className = "point";
    point.dataset.number = number;
    point.style.setProperty("--colour", colour(number));
    const name = document.createElement("span");
    name.className = "point-name";
    const badge = document.createElement("span");
    badge.className = "point-badge";
    badge.textContent = number;
    point.append(badge, name);
    return point;
  }

  #changed({ name, mine }) {
    if (!name.startsWith("prompt/")) return;
    // Someone else's weights, or a knob's: the cursor no longer says what plays, and shows so.
    if (name.endsWith("/weight") && !this.#drag && !(mine && document.activeElement === this.#cursor)) this.#follows(false);
    this.#refresh();
  }

  #follows(followed) {
    this.#box.classList.toggle("is-followed", followed);
  }

  #refresh() {
    if (this.#drawing) return;
    this.#drawing = requestAnimationFrame(() => {
      this.#drawing = 0;
      this.#place();
      this.#paint();
    });
  }
  #drawing = 0;

  #place() {
    const slots = this.#slots.all;
    const sum = slots.reduce((total, { text, weight }) => total + (text.trim() ? weight : 0), 0) || 1;
    const said = [];
    for (const { number, text, weight } of slots) {
      const point = this.#points.get(number);
      const share = text.trim() ? weight / sum : 0;
      point.hidden = text.trim() === "";
      setPlace(point, this.#places[number]);
      point.style.setProperty("--share", share.toFixed(3));
      point.lastChild.textContent = text;
      point.setAttribute("aria-label", `Slot ${number}, ${text}, ${percent(share)} of the mix. Arrows move it, Enter plays it alone.`);
      if (share > 0.005) said.push([share, `${text} ${percent(share)}`]);
    }
    setPlace(this.#cursor, this.#places.cursor);
    said.sort((a, b) => b[0] - a[0]);
    this.#cursor.setAttribute("aria-valuetext", said.map(([, words]) => words).join(", ") || "nothing");
    this.#cursor.setAttribute("aria-valuenow", Math.round(100 * this.#places.cursor.x));
    this.#box.classList.toggle("is-empty", slots.every(({ text }) => !text.trim()));
  }

  #paint() {
    const brush = this.#canvas.getContext("2d");
    const points = this.#slots.filled;
    brush.clearRect(0, 0, FIELD, FIELD);
    if (points.length === 0) return;
    const places = points.map(({ number }) => this.#places[number]);
    const colours = points.map(({ number }) => rgb(colour(number)));
    const field = brush.createImageData(FIELD, FIELD);
    for (let i = 0; i < FIELD * FIELD; i++) {
      const place = { x: ((i % FIELD) + 0.5) / FIELD, y: (Math.floor(i / FIELD) + 0.5) / FIELD };
      field.data.set(mixColours(colours, blend(place, places)), 4 * i);
      field.data[4 * i + 3] = glow(place, places);
    }
    brush.putImageData(field, 0, 0);
  }
}

/** Brighter near a point: 40 … 215 of 255. */
function glow(place, places) {
  const nearest = Math.min(...places.map(({ x, y }) => (x - place.x) ** 2 + (y - place.y) ** 2));
  return 40 + 175 * Math.exp(-nearest * 26);
}

const percent = (share) => `${Math.round(100 * share)} %`;
const inside = ({ x, y }) => ({ x: Math.min(0.96, Math.max(0.04, x)), y: Math.min(0.95, Math.max(0.05, y)) });

function moved({ x, y }, key, fine) {
  const step = fine ? NUDGE_FINE : NUDGE;
  const [right, down] = { ArrowRight: [1, 0], ArrowLeft: [-1, 0], ArrowDown: [0, 1], ArrowUp: [0, -1] }[key];
  return { x: x + right * step, y: y + down * step };
}

function setPlace(element, { x, y }) {
  element.style.left = `${(100 * x).toFixed(2)}%`;
  element.style.top = `${(100 * y).toFixed(2)}%`;
  element.classList.toggle("is-low", y > 0.8); // its name is written above it then, and stays on the surface
}

function onCircle(index, count) {
  const angle = 2 * Math.PI * (index / count) - (3 * Math.PI) / 4;
  return { x: 0.5 + 0.37 * Math.cos(angle), y: 0.5 + 0.38 * Math.sin(angle) };
}

function stored() {
  try {
    return { cursor: { x: 0.5, y: 0.5 }, ...JSON.parse(localStorage.getItem(STORE) ?? "{}") };
  } catch {
    return { cursor: { x: 0.5, y: 0.5 } }; // storage is shut off or holds something else: begin from the circle
  }
}

function store(places) {
  try {
    localStorage.setItem(STORE, JSON.stringify(places));
  } catch {
    // Private windows refuse to store; the places then last as long as the page.
  }
}
