/* Controls for parameters, made from the server's table: nothing here knows a name or a range.
 *
 *     string → line of text, or choices     bool → switch     float, int → knob     int too wide for one → number, and a die
 */

import { toast } from "./announce.js";
import { Knob, typeOver } from "./knob.js";
import { inWords, label } from "./state.js";

const WIDEST_KNOB = 200_000;

export class Controls {
  #boxes;
  #state;
  #belongs;
  #show = new Map();
  #end = new AbortController();

  /** boxes: {knobs, words, switches}, the elements that hold each kind; belongs(name): which parameters. */
  constructor(boxes, state, belongs) {
    this.#boxes = boxes;
    this.#state = state;
    this.#belongs = belongs;
    state.addEventListener("value", ({ detail }) => this.#show.get(detail.name)?.(detail.value), { signal: this.#end.signal });
  }

  /** Follow the state no more. */
  close() {
    this.#end.abort();
  }

  build() {
    const rows = [...this.#state.parameters.values()].filter(({ name, supported }) => supported !== false && this.#belongs(name));
    const made = { knobs: [], words: [], switches: [] };
    this.#show.clear();
    for (const row of rows) made[kind(row)].push(this.#make(row));
    for (const [name, box] of Object.entries(this.#boxes)) box.replaceChildren(...made[name]);
    for (const row of rows) this.#show.get(row.name)(this.#state.get(row.name));
  }

  #make(row) {
    if (row.choices) return this.#choice(row);
    if (row.type === "string") return this.#words(row);
    if (row.type === "bool") return this.#switch(row);
    return row.max - row.min > WIDEST_KNOB ? this.#number(row) : this.#knob(row);
  }

  #knob(row) {
    const value = element("output", "control-value");
    value.ariaHidden = "true"; // the knob says it, and takes keys
    value.addEventListener("click", () => typeOver(value, row, label(row), this.#state.get(row.name), (number) => this.#state.set(row.name, number)));
    const knob = new Knob(row, {
      name: label(row),
      onInput: (number) => this.#state.set(row.name, number),
      onHold: () => this.#state.hold(row.name),
      onRelease: () => this.#state.release(row.name),
    });
    knob.element.dataset.parameter = row.name;
    this.#show.set(row.name, (number) => {
      knob.value = number;
      const { words, unit } = inWords(row, number);
      value.replaceChildren(words, unit ? element("small", "", ` ${unit}`) : "");
    });
    return box(row, "control control-knob", knob.element, element("span", "control-name", label(row)), value);
  }

  #switch(row) {
    const button = element("button", "switch", label(row));
    button.type = "button";
    button.setAttribute("role", "switch");
    button.title = row.description;
    button.dataset.parameter = row.name;
    button.addEventListener("click", () => this.#state.set(row.name, !this.#state.get(row.name)));
    this.#show.set(row.name, (on) => button.setAttribute("aria-checked", String(Boolean(on))));
    return box(row, "control control-switch", button);
  }

  #choice(row) {
    const select = element("select", "field");
    select.append(...row.choices.map((choice) => new Option(choice, choice)));
    select.title = row.description;
    select.dataset.parameter = row.name;
    select.addEventListener("change", () => this.#state.set(row.name, select.value));
    this.#show.set(row.name, (value) => (select.value = value));
    return labelled(row, "control control-words", select);
  }

  #words(row) {
    const input = this.#field(row, { type: "text", placeholder: row.description });
    input.addEventListener("change", () => this.#state.set(row.name, input.value.trim()));
    return labelled(row, "control control-words", input);
  }

  #number(row) {
    const input = this.#field(row, { type: "number", min: row.min, max: row.max, step: row.type === "int" ? 1 : "any", inputMode: "numeric" });
    input.addEventListener("change", () => {
      if (input.value !== "") this.#state.set(row.name, Number(input.value));
      this.#show.get(row.name)(this.#state.get(row.name));
    });
    const die = element("button", "die", "⚄");
    die.type = "button";
    die.setAttribute("aria-label", `Another ${label(row)}`);
    die.title = `another ${label(row)}`;
    die.addEventListener("click", () => this.#state.set(row.name, row.min + Math.floor(Math.random() * (row.max - row.min))));
    const control = labelled(row, "control control-number", input);
    control.append(die);
    return control;
  }

  #field(row, attributes) {
    const input = Object.assign(element("input", "field"), { spellcheck: false, autocomplete: "off", ...attributes });
    input.title = row.description;
    input.dataset.parameter = row.name;
    input.addEventListener("keydown", (event) => {
      if (event.key === "Escape") input.value = this.#state.get(row.name);
      if (event.key === "Escape" || event.key === "Enter") input.blur();
    });
    this.#show.set(row.name, (value) => document.activeElement !== input && (input.value = value));
    input.addEventListener("blur", () => (input.value = this.#state.get(row.name)));
    return input;
  }
}

function kind({ type, min, max }) {
  if (type === "bool") return "switches";
  return type === "string" || max - min > WIDEST_KNOB ? "words" : "knobs";
}

function box(row, name, ...children) {
  const made = element("div", name);
  made.title = row.description;
  made.append(...children);
  made.querySelector(".control-name")?.addEventListener("click", () => toast(row.description));
  return made;
}

function labelled(row, name, input) {
  const made = element("label", name);
  made.title = row.description;
  made.append(element("span", "control-name", label(row)), input);
  return made;
}

function element(tag, className, text = "") {
  return Object.assign(document.createElement(tag), { className, textContent: text });
}
