/* A rotary knob: drag, wheel, arrows, double tap for the default. One look for weights and parameters.
 *
 * Rules: a slider to screen readers; ranges come with the parameter's row. It never sends: it calls `onInput`, and
 * `onHold`/`onRelease` around a gesture. A number whose row has suggestions stops at these and at its least alone.
 */

import { clamp, fromUnit, inWords, toUnit } from "./state.js";

const SVG = "http://www.w3.org/2000/svg";
const ARC = "M 18.2 81.8 A 45 45 0 1 1 81.8 81.8"; // 270 degrees, open at the bottom
const FULL_TURN_PX = 190;
const FINE = 0.15;
const STEPS = 100;

export class Knob {
  #row;
  #stops; // [] where it goes anywhere
  #unit = 0;
  #drag = null;
  #call;

  constructor(row, { name, onInput, onHold = () => {}, onRelease = () => {} }) {
    this.#row = row;
    this.#stops = row.suggestions ? [row.min, ...row.suggestions] : [];
    this.#call = { onInput, onHold, onRelease };
    this.element = this.#build(name);
    this.value = row.default;
    this.#listen();
  }

  get value() {
    return fromUnit(this.#row, this.#unit);
  }

  set value(value) {
    this.#unit = toUnit(this.#row, value);
    const { words, unit } = inWords(this.#row, value);
    this.element.style.setProperty("--turn", this.#unit);
    this.arc.setAttribute("stroke-dasharray", `${(this.#unit * 100).toFixed(2)} 200`);
    this.element.classList.toggle("is-zero", this.#unit === 0);
    this.element.setAttribute("aria-valuenow", Number(value.toFixed?.(3) ?? value));
    this.element.setAttribute("aria-valuetext", unit ? `${words} ${unit}` : words);
  }

  #build(name) {
    const element = document.createElement("div");
    element.className = "knob";
    element.tabIndex = 0;
    const { min, max, description } = this.#row;
    const attributes = { role: "slider", "aria-label": name, "aria-valuemin": min, "aria-valuemax": max, title: description };
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    const svg = document.createElementNS(SVG, "svg");
    svg.setAttribute("viewBox", "0 0 100 100");
    svg.setAttribute("aria-hidden", "true");
    svg.append(path("knob-track"), (this.arc = path("knob-arc")));
    const cap = document.createElement("span");
    cap.className = "knob-cap";
    element.append(svg, cap);
    return element;
  }

  #listen() {
    const { element } = this;
    element.addEventListener("pointerdown", (event) => this.#grab(event));
    element.addEventListener("pointermove", (event) => this.#turn(event));
    for (const end of ["pointerup", "pointercancel"]) element.addEventListener(end, () => this.#letGo());
    element.addEventListener("dblclick", () => this.#input(this.#row.default));
    element.addEventListener("keydown", (event) => this.#key(event));
    // Only the focused knob takes the wheel, or scrolling the page would turn whatever passes under the pointer.
    element.addEventListener("wheel", (event) => this.#wheel(event), { passive: false });
  }

  #grab(event) {
    if (event.button !== 0) return;
    this.element.setPointerCapture(event.pointerId);
    this.element.focus({ preventScroll: true });
    this.#drag = { x: event.clientX, y: event.clientY, unit: this.#unit };
    this.element.classList.add("is-held");
    this.#call.onHold();
    event.preventDefault();
  }

  #turn(event) {
    if (!this.#drag) return;
    const { x, y } = this.#drag;
    const way = (event.clientX - x + y - event.clientY) / FULL_TURN_PX;
    this.#drag = { x: event.clientX, y: event.clientY, unit: this.#drag.unit + way * (event.shiftKey ? FINE : 1) };
    this.#input(this.#nearestStop(fromUnit(this.#row, this.#drag.unit)));
  }

  #letGo() {
    if (!this.#drag) return;
    this.#drag = null;
    this.element.classList.remove("is-held");
    this.#call.onRelease();
  }

  #wheel(event) {
    if (document.activeElement !== this.element) return;
    event.preventDefault();
    this.#step(event.deltaY < 0 ? 2 : -2, event.shiftKey);
  }

  #key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const steps = { ArrowUp: 2, ArrowRight: 2, ArrowDown: -2, ArrowLeft: -2, PageUp: 10, PageDown: -10 }[event.key];
    const fixed = { Home: this.#row.min, End: this.#stops.at(-1) ?? this.#row.max, Delete: this.#row.default, Backspace: this.#row.default }[event.key];
    if (steps === undefined && fixed === undefined) return;
    event.preventDefault();
    event.stopPropagation();
    if (steps) this.#step(steps, event.shiftKey);
    else this.#input(fixed);
  }

  #nearestStop(value) {
    return this.#stops.toSorted((a, b) => Math.abs(a - value) - Math.abs(b - value))[0] ?? value;
  }

  #step(steps, fine) {
    if (this.#stops.length) return this.#input(this.#nextStop(steps));
    let value = fromUnit(this.#row, this.#unit + (steps / STEPS) * (fine ? FINE : 1));
    // A whole number's neighbour may be further away than a step of the knob.
    if (this.#row.type === "int" && value === this.value) value = clamp(this.#row, value + Math.sign(steps));
    this.#input(value);
  }

  #nextStop(steps) {
    const now = this.value;
    const found = steps > 0 ? this.#stops.find((stop) => stop > now + 0.01) : this.#stops.findLast((stop) => stop < now - 0.01);
    return found ?? now;
  }

  #input(value) {
    this.value = value;
    this.#call.onInput(value);
  }
}

/** Let a number be typed in place of the shown one. */
export function typeOver(shown, { min, max, type }, name, now, take) {
  const input = Object.assign(document.createElement("input"), { className: "control-typed", type: "number", inputMode: "decimal", min, max, step: type === "int" ? 1 : "any", value: now });
  input.setAttribute("aria-label", name);
  const end = (taken) => {
    input.onblur = null;
    if (taken && input.value !== "") take(Number(input.value));
    input.replaceWith(shown);
  };
  input.onblur = () => end(true);
  input.addEventListener("keydown", ({ key }) => (key === "Enter" || key === "Escape") && end(key === "Enter"));
  shown.replaceWith(input);
  input.focus();
  input.select();
}

function path(name) {
  const element = document.createElementNS(SVG, "path");
  element.setAttribute("d", ARC);
  element.setAttribute("pathLength", 100);
  element.setAttribute("class", name);
  return element;
}
