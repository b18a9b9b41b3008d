/* The rack: effects in their order, each with its knobs; added, dragged, taken out, and the presets of the whole set.
 *
 * Rules: what there is comes from the server (`effects`, `slots`, `plugin/N/…`); an edit is asked for, and seen when the
 * server has told of it. Slots that stay keep their elements, so that a knob under a finger is not torn away.
 */

import { announce } from "./announce.js";
import { Controls } from "./controls.js";

const SHOWN_AT_FIRST = 8; // knobs of an effect's own: a plugin may have hundreds

export class Rack {
  #box;
  #state;
  #ask;
  #rateHz = 1;
  #units = new Map(); // slot → {element, name, controls, …}
  #loading = new Map(); // message id → its line in the list
  #drag = null;

  /** box: the panel; ask(type, fields) sends a request and returns its id. */
  constructor(box, state, ask) {
    this.#box = box;
    this.#state = state;
    this.#ask = ask;
    const add = this.#part("add");
    add.addEventListener("change", () => add.value && (this.#add(add.value), (add.value = "")));
    this.#part("recall").addEventListener("click", () => this.#preset("recall"));
    this.#part("save").addEventListener("click", () => this.#preset("save"));
    this.#part("name").addEventListener("keydown", (event) => event.key === "Enter" && this.#preset("recall"));
    this.#list.addEventListener("pointermove", (event) => this.#dragTo(event));
    for (const end of ["pointerup", "pointercancel"]) this.#list.addEventListener(end, () => this.#drop());
  }

  get #list() {
    return this.#part("units");
  }

  #part(name) {
    return this.#box.querySelector(`[data-rack="${name}"]`);
  }

  /** Take a new session: its effects, presets and slots. */
  greet({ effects = [], presets = [], state, sample_rate_hz: rateHz }) {
    this.#rateHz = rateHz;
    for (const { controls } of this.#units.values()) controls.close();
    this.#units.clear();
    this.#loading.clear();
    this.#part("add").replaceChildren(new Option("add an effect …", ""), ...effects.map((name) => new Option(name, name)));
    this.presets(presets);
    this.build(state.slots ?? []);
  }

  presets(names) {
    this.#part("names").replaceChildren(...names.map((name) => new Option(name)));
  }

  /** Show the slots that there are, in their order. */
  build(slots) {
    for (const [slot, unit] of this.#units) {
      const now = slots.find((each) => each.slot === slot);
      if (now?.name === unit.name) continue;
      unit.controls.close();
      this.#units.delete(slot);
    }
    for (const { slot, name } of slots) if (!this.#units.has(slot)) this.#units.set(slot, this.#unit(slot, name));
    const wanted = [...slots.map(({ slot }) => this.#units.get(slot).element), ...this.#loading.values()];
    this.#arrange(wanted);
    this.#box.classList.toggle("is-empty", wanted.length === 0);
    this.report(slots);
  }

  /** Put into the list what is wanted; what is in its place is not touched, and who has the focus keeps it. */
  #arrange(wanted) {
    const list = this.#list;
    const focused = list.contains(document.activeElement) ? document.activeElement : null;
    for (const child of [...list.children]) if (!wanted.includes(child)) child.remove();
    wanted.forEach((each, at) => list.children[at] !== each && list.insertBefore(each, list.children[at] ?? null));
    if (focused?.isConnected && document.activeElement !== focused) focused.focus({ preventScroll: true });
  }

  /** Show how the slots are doing. */
  report(slots = []) {
    for (const { slot, latency_samples: late, failed, strikes, load } of slots) {
      const unit = this.#units.get(slot);
      if (!unit) continue;
      const words = [`${Math.round(100 * load)} %`];
      if (late) words.push(`${((1000 * late) / this.#rateHz).toFixed(late * 100 < this.#rateHz ? 1 : 0)} ms`);
      if (strikes) words.push(strikes === 1 ? "1 strike" : `${strikes} strikes`);
      if (unit.about.textContent !== words.join(" · ")) unit.about.textContent = words.join(" · ");
      unit.element.classList.toggle("is-failed", failed);
      if (!failed) unit.fault.hidden = true;
    }
  }

  /** Show why an effect failed, or that it is back. */
  fault({ slot, reason, given_up: givenUp }) {
    const unit = this.#units.get(slot);
    if (!unit) return;
    unit.fault.hidden = !reason;
    unit.fault.textContent = givenUp ? `${reason}; bypass it and back to try again` : reason;
    unit.element.classList.toggle("is-failed", Boolean(reason));
  }

  /** A request was answered, one way or the other. */
  answered(id) {
    this.#loading.get(id)?.remove();
    this.#loading.delete(id);
    this.#box.classList.toggle("is-empty", this.#list.children.length === 0);
  }

  // ---- the hand acts

  #add(effect) {
    const id = this.#ask("rack", { action: "add", effect });
    if (!id) return;
    const line = element("div", "unit unit-loading", `loading ${effect} …`);
    this.#loading.set(id, line);
    this.#list.append(line);
    this.#box.classList.remove("is-empty");
  }

  #preset(action) {
    const name = this.#part("name").value.trim();
    if (!name) return this.#part("name").focus();
    this.#ask("preset", { action, name, ...(action === "recall" && { seconds: Number(this.#part("seconds").value) || 0 }) });
    announce(action === "save" ? `Saving ${name}` : `Recalling ${name}`);
  }

  #move(slot, index) {
    const last = this.#units.size - 1;
    if (index < 0 || index > last) return;
    this.#ask("rack", { action: "move", slot, index });
    announce(`${this.#units.get(slot).name}, place ${index + 1}`);
  }

  #places() {
    return [...this.#list.children].filter((each) => each.dataset.slot);
  }

  #grab(event, unit) {
    if (event.button !== 0) return;
    event.preventDefault();
    this.#list.setPointerCapture(event.pointerId);
    this.#drag = { unit, from: this.#places().indexOf(unit.element) };
    unit.element.classList.add("is-dragged");
  }

  /** Let the dragged effect take the place of the one under the pointer. */
  #dragTo({ clientX: x, clientY: y }) {
    if (!this.#drag) return;
    const { element: dragged } = this.#drag.unit;
    const places = this.#places();
    const under = places.find((each) => {
      const { left, right, top, bottom } = each.getBoundingClientRect();
      return x >= left && x <= right && y >= top && y <= bottom;
    });
    if (!under || under === dragged) return;
    if (places.indexOf(under) > places.indexOf(dragged)) under.after(dragged);
    else under.before(dragged);
  }

  #drop() {
    if (!this.#drag) return;
    const { unit, from } = this.#drag;
    this.#drag = null;
    unit.element.classList.remove("is-dragged");
    unit.handle.focus({ preventScroll: true }); // what is moved in the list has lost it
    const index = this.#places().indexOf(unit.element);
    if (index !== from) this.#move(unit.slot, index);
  }

  #handleKey(event, unit) {
    const way = { ArrowLeft: -1, ArrowUp: -1, ArrowRight: 1, ArrowDown: 1 }[event.key];
    if (!way) return;
    event.preventDefault();
    event.stopPropagation();
    this.#move(unit.slot, this.#places().indexOf(unit.element) + way);
  }

  // ---- what is seen

  #unit(slot, name) {
    const unit = { slot, name, element: element("div", "unit"), about: element("span", "unit-about"), fault: element("p", "unit-fault") };
    unit.element.dataset.slot = slot;
    unit.element.setAttribute("role", "group");
    unit.element.setAttribute("aria-label", `Effect ${slot}, ${name}`);
    unit.fault.hidden = true;
    unit.handle = this.#button("unit-handle", String(slot), `Move ${name}: drag, or press arrows`);
    unit.handle.addEventListener("pointerdown", (event) => this.#grab(event, unit));
    unit.handle.addEventListener("keydown", (event) => this.#handleKey(event, unit));
    const out = this.#button("unit-out", "×", `Take ${name} out`);
    out.addEventListener("click", () => this.#ask("rack", { action: "remove", slot }));
    const head = element("div", "unit-head");
    head.append(unit.handle, element("h3", "unit-name", name), unit.about, out);
    unit.element.append(head, unit.fault, ...this.#controls(unit));
    return unit;
  }

  #controls(unit) {
    const boxes = { switches: element("div", "switches"), words: element("div", "words"), knobs: element("div", "knobs") };
    const prefix = `plugin/${unit.slot}/`;
    const names = [...this.#state.parameters.keys()].filter((name) => name.startsWith(prefix));
    const owned = new Set(names.slice(0, names.indexOf(`${prefix}bypass`))); // what every slot has comes behind
    unit.controls = new Controls(boxes, this.#state, (name) => name.startsWith(prefix));
    unit.controls.build();
    const made = [boxes.knobs, boxes.words, boxes.switches];
    const knobs = [...boxes.knobs.children].filter((each) => owned.has(each.querySelector("[data-parameter]").dataset.parameter));
    const hidden = knobs.slice(SHOWN_AT_FIRST);
    if (hidden.length > 1) made.splice(1, 0, this.#more(hidden));
    return made;
  }

  #more(hidden) {
    const more = this.#button("quiet unit-more", `${hidden.length} more`, "");
    more.removeAttribute("aria-label");
    const show = (all) => {
      hidden.forEach((each) => (each.hidden = !all));
      more.setAttribute("aria-expanded", String(all));
      more.textContent = all ? "fewer" : `${hidden.length} more`;
    };
    more.addEventListener("click", () => show(more.getAttribute("aria-expanded") !== "true"));
    show(false);
    return more;
  }

  #button(className, text, label) {
    const button = Object.assign(element("button", className, text), { type: "button", title: label });
    button.setAttribute("aria-label", label);
    return button;
  }
}

function element(tag, className, text = "") {
  return Object.assign(document.createElement(tag), { className, textContent: text });
}
