/* MIDI: any controller's knob turns any knob of the page, learned by touching both.
 *
 * Rules: optional. Without Web MIDI there is no button; access is asked for by a press on it, never on load. What was
 * learned stays in this browser, and goes on after a reload where the browser remembers that it may.
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
    this.#resume();
  }

  /** Forget what a new session has no parameter for. */
  build() {
    this.#learned = new Map(stored().filter(([, name]) => this.#state.has(name)));
  }

  /** Go on with what was learned here before, if that needs no question. */
  async #resume() {
    if (!navigator.requestMIDIAccess || stored().length === 0) return;
    const permission = await navigator.permissions?.query({ name: "midi" }).catch(() => null); // unknown: a press asks
    if (permission?.state === "granted") await this.#connect().catch(() => null); // no MIDI today: the button says why
  }

  async #connect() {
    const access = await navigator.requestMIDIAccess();
    for (const input of access.inputs.values()) input.onmidimessage = ({ data }) => this.#received(data);
    access.onstatechange = ({ port }) => port.type === "input" && (port.onmidimessage = ({ data }) => this.#received(data));
    return access;
  }

  async #toggle() {
    if (this.#learning) return this.#learn(false);
    try {
      const access = await this.#connect();
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
