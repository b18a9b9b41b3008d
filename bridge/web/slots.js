/* The prompt slots: a knob for the share, words edited in place, a colour each.
 *
 * Rules: how many slots there are, and what an empty one suggests, is what the parameters say (`prompt/N/text`,
 * `prompt/N/weight`). Values live in the state; this file shows and changes them.
 */

import { toast } from "./announce.js";
import { Knob, typeOver } from "./knob.js";
import { format } from "./state.js";

export const COLOURS = ["#ff7d68", "#ffb84d", "#c9e265", "#5fe3a8", "#52d3ea", "#74a6ff", "#b590ff", "#ff88c9"];
const SUGGESTED = 6;

export const colour = (number) => COLOURS[(number - 1) % COLOURS.length];

export class Slots {
  #list;
  #state;
  #slots = new Map();
  selected = 1;

  constructor(list, state) {
    this.#list = list;
    this.#state = state;
    state.addEventListener("value", ({ detail }) => {
      this.#show(detail.name);
      this.#adopt(detail);
    });
  }

  /** Slots that have words, each {number, text, weight}. */
  get filled() {
    return this.all.filter(({ text }) => text.trim() !== "");
  }

  get all() {
    return [...this.#slots.keys()].map((number) => ({
      number,
      text: this.#state.get(`prompt/${number}/text`) ?? "",
      weight: this.#state.get(`prompt/${number}/weight`) ?? 0,
    }));
  }

  /** Make the slots that a session has. */
  build() {
    const numbers = [...this.#state.parameters.keys()].map((name) => name.match(/^prompt\/(\d+)\/weight$/)?.[1]);
    this.#slots.clear();
    for (const number of numbers.filter(Boolean).map(Number)) this.#slots.set(number, this.#build(number));
    this.#list.replaceChildren(...[...this.#slots.values()].map((slot) => slot.element));
    for (const name of this.#state.parameters.keys()) this.#show(name);
    this.select(this.selected, false);
  }

  /** Write words into the first slots, for a start. */
  suggest() {
    for (const { number } of this.all.slice(0, SUGGESTED)) this.#state.set(`prompt/${number}/text`, this.#suggestion(number));
  }

  select(number, focus = true) {
    if (!this.#slots.has(number)) return false;
    this.selected = number;
    for (const [each, slot] of this.#slots) slot.element.classList.toggle("is-selected", each === number);
    if (focus) this.#slots.get(number).knob.element.focus();
    return true;
  }

  edit(number = this.selected) {
    this.#slots.get(number)?.text.select();
  }

  #build(number) {
    const element = document.createElement("div");
    element.className = "slot";
    element.style.setProperty("--colour", colour(number));
    element.setAttribute("role", "group");
    element.setAttribute("aria-label", `Slot ${number}`);
    element.addEventListener("focusin", () => this.select(number, false));
    const slot = { element, knob: this.#knob(number), text: this.#text(number), value: document.createElement("output") };
    const badge = document.createElement("span");
    badge.className = "slot-number";
    badge.textContent = number;
    badge.ariaHidden = "true";
    slot.value.className = "slot-value";
    slot.value.ariaHidden = "true"; // the knob says it
    const name = `prompt/${number}/weight`;
    slot.value.addEventListener("click", () => {
      typeOver(slot.value, this.#state.parameters.get(name), `Slot ${number} weight`, this.#state.get(name), (value) => this.#state.set(name, value));
    });
    element.append(slot.knob.element, badge, slot.text, slot.value);
    return slot;
  }

  #knob(number) {
    const name = `prompt/${number}/weight`;
    const knob = new Knob(this.#state.parameters.get(name), {
      name: `Slot ${number} weight`,
      onInput: (value) => this.#state.set(name, value),
      onHold: () => this.#state.hold(name),
      onRelease: () => this.#state.release(name),
    });
    knob.element.dataset.parameter = name;
    knob.element.addEventListener("keydown", (event) => event.key === "Enter" && (event.preventDefault(), this.edit(number)));
    return knob;
  }

  /** What the loaded model knows to play here; "" where nothing was told. */
  #suggestion(number) {
    return this.#state.parameters.get(`prompt/${number}/text`)?.suggestions?.[0] ?? "";
  }

  /** Turned up by this hand, on the page or over MIDI, an empty slot plays what it suggests; else it is said why not. */
  #adopt({ name, value, mine }) {
    const number = name.match(/^prompt\/(\d+)\/weight$/)?.[1];
    const slot = this.#slots.get(Number(number));
    if (!slot) return;
    const silent = value === 0 || this.#state.get(`prompt/${number}/text`).trim() !== "";
    const suggestion = mine ? this.#suggestion(number) : "";
    if (!silent && suggestion) this.#state.set(`prompt/${number}/text`, suggestion);
    else if (!silent && !slot.told) toast(`Slot ${number} is turned up and has no words: write some, or nothing is heard of it`);
    slot.told = !silent;
  }

  #text(number) {
    const text = document.createElement("textarea");
    Object.assign(text, { className: "slot-text", rows: 2, spellcheck: false, placeholder: this.#suggestion(number) || "what to play" });
    text.setAttribute("aria-label", `Slot ${number} prompt`);
    text.setAttribute("enterkeyhint", "done");
    text.dataset.parameter = `prompt/${number}/text`;
    text.addEventListener("keydown", (event) => this.#textKey(event, number));
    text.addEventListener("change", () => this.#commit(number, text));
    return text;
  }

  #textKey(event, number) {
    const slot = this.#slots.get(number);
    if (event.key === "Escape") slot.text.value = this.#state.get(`prompt/${number}/text`);
    if (event.key !== "Escape" && event.key !== "Enter") return;
    event.preventDefault();
    event.stopPropagation();
    slot.knob.element.focus(); // leaving it commits it
  }

  #commit(number, text) {
    this.#state.set(text.dataset.parameter, text.value.replace(/\s+/g, " ").trim());
    this.#show(text.dataset.parameter);
    this.#state.release(text.dataset.parameter);
  }

  #show(name) {
    const [, number, part] = name.match(/^prompt\/(\d+)\/(text|weight)$/) ?? [];
    const slot = this.#slots.get(Number(number));
    if (!slot) return;
    const value = this.#state.get(name);
    if (part === "weight") {
      slot.knob.value = value;
      slot.value.textContent = format(this.#state.parameters.get(name), value);
    } else if (document.activeElement !== slot.text) slot.text.value = value; // words being typed are left alone
    const { text, weight } = this.all.find((each) => each.number === Number(number));
    slot.element.classList.toggle("is-silent", text.trim() === "" || weight === 0);
    slot.element.classList.toggle("is-empty", text.trim() === "");
  }
}
