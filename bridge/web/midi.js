/* MIDI: any controller's knob turns any knob of the page, learned by touching both.
 *
 * Rules: optional. Without Web MIDI there is no button; access is asked for by a press on it. What was learned
 * stays in this browser, and is followed again after a reload.
 */

import { announce, toast } from "./announce.js";
import { fromUnit, label } from "./state.js";

const STORE = "streamgen.midi.v1";
const CONTROL_CHANGE = 0xb0;

export class Midi {
  #button;
  #state;
  #learning = false;
  #touched = null;
  #learned = new Map();

  constructor(button, state) {
    this.#button = button;
    this.#state = state;
    button.hidden = !navigator.requestMIDIAccess;
    button.setAttribute("aria-pressed", "false");
    button.addEventListener("click", () => this.#toggle());
    document.addEventListener("focusin", ({ target }) => (this.#touched = target.dataset?.parameter ?? this.#touched));
  }

  /** Forget what a new session has no parameter for; hear again what was learned, where that was allowed once. */
  async build() {
    this.#learned = new Map(stored().filter(([, name]) => this.#state.has(name)));
    this.#show();
    if (!this.#learned.size || this.#button.hidden) return;
    const allowed = await navigator.permissions?.query({ name: "midi" }).catch(() => null);
    if (allowed?.state === "granted") await this.#hear();
  }

  async #hear() {
    const access = await navigator.requestMIDIAccess();
    for (const input of access.inputs.values()) input.onmidimessage = ({ data }) => this.#received(data);
    access.onstatechange = ({ port }) => port.type === "input" && (port.onmidimessage = ({ data }) => this.#received(data));
    return access;
  }

  #show() {
    this.#button.textContent = this.#learned.size ? `MIDI · ${this.#learned.size}` : "MIDI";
    this.#button.title = [...this.#learned].map(([source, name]) => `${source.split("/")[1]}: ${label(this.#state.parameters.get(name))}`).join("\n");
  }

  async #toggle() {
    if (this.#learning) return this.#learn(false);
    try {
      const access = await this.#hear();
      this.#learn(true);
      toast(access.inputs.size ? "MIDI: touch a knob here, then turn one there" : "MIDI: no controller is plugged in yet");
    } catch (error) {
      toast(`MIDI is not available: ${error.message}`);
    }
  }

  #learn(on) {
    this.#learning = on;
    this.#touched = null;
    this.#button.setAttribute("aria-pressed", String(on));
    document.body.classList.toggle("is-learning", on);
    if (!on) announce("MIDI learning is over");
  }

  #received([status, control, value]) {
    if ((status & 0xf0) !== CONTROL_CHANGE) return;
    const source = `${status & 0x0f}/${control}`;
    if (this.#learning && this.#touched) this.#assign(source, this.#touched);
    const row = this.#state.parameters.get(this.#learned.get(source));
    if (row && row.type !== "string") this.#state.set(row.name, row.type === "bool" ? value >= 64 : fromUnit(row, value / 127));
  }

  #assign(source, name) {
    this.#learned.set(source, name);
    this.#touched = null;
    localStorage.setItem(STORE, JSON.stringify([...this.#learned]));
    this.#show();
    toast(`MIDI: ${label(this.#state.parameters.get(name))} follows controller ${source.split("/")[1]}`);
  }
}

function stored() {
  try {
    return JSON.parse(localStorage.getItem(STORE) ?? "[]");
  } catch {
    return []; // storage is shut off or holds something else: nothing is learned yet
  }
}
