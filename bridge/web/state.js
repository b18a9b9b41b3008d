/* What every control shows: the session's values, and this hand's on top of them while it moves.
 *
 * Rules: no DOM, no socket. Names, ranges and defaults come from the server's `hello`; none is spelled here. A value this
 * hand sets is shown at once and sent in turns (the last one always); a value from elsewhere never moves a control under
 * a finger: it waits until the hand has let go and the server has answered.
 */

const SEND_EVERY_MS = 40; // 25 a second: what a hand can tell apart, and a tenth of what the server takes
const SETTLE_MS = 250;

export class State extends EventTarget {
  parameters = new Map();
  #session = new Map(); // as the server last told
  #hand = new Map(); // name → {value, heldBy, until}: shown in place of the session's
  #pending = new Map();
  #asked = new Map(); // message id → names
  #timer = 0;
  #sentAt = -Infinity;
  #send;

  /** send(values) gives the message's id, or 0 if it could not be sent. */
  constructor(send) {
    super();
    this.#send = send;
  }

  /** Take a new session: its parameters and its values. What was not sent before is forgotten: the session is right. */
  load(parameters, values) {
    this.parameters = new Map(parameters.map((parameter) => [parameter.name, parameter]));
    this.#session = new Map(parameters.map(({ name, default: value }) => [name, value]));
    for (const map of [this.#hand, this.#pending, this.#asked]) map.clear();
    clearTimeout(this.#timer);
    this.#timer = 0;
    for (const [name, value] of Object.entries(values)) if (this.parameters.has(name)) this.#session.set(name, value);
  }

  /** Take another table: the rack was edited. What stays is left alone, under whatever finger it may be. */
  retable(parameters, values) {
    this.parameters = new Map(parameters.map((parameter) => [parameter.name, parameter]));
    for (const map of [this.#session, this.#hand, this.#pending]) {
      for (const name of map.keys()) if (!this.has(name)) map.delete(name);
    }
    this.changed(values);
  }

  has(name) {
    return this.parameters.has(name);
  }

  get(name) {
    return this.#hand.has(name) ? this.#hand.get(name).value : this.#session.get(name);
  }

  /** This hand sets a value: shown now, sent soon. */
  set(name, value) {
    const row = this.parameters.get(name);
    const fit = clamp(row, value);
    if (fit === this.get(name)) return;
    this.#hand.set(name, { ...this.#hand.get(name), value: fit });
    this.#pending.set(name, fit);
    this.#tell(name, true);
    this.#schedule();
  }

  /** A finger rests on a control: nobody else moves it. */
  hold(name) {
    this.#hand.set(name, { value: this.get(name), held: true });
  }

  release(name) {
    const hand = this.#hand.get(name);
    if (!hand) return;
    hand.held = false;
    this.#settleSoon([name]);
  }

  /** The server told of changes, whoever made them. */
  changed(values) {
    for (const [name, value] of Object.entries(values)) {
      if (!this.has(name)) continue;
      this.#session.set(name, value);
      if (!this.#hand.has(name)) this.#tell(name, false);
    }
  }

  acknowledged(id) {
    const names = this.#asked.get(id) ?? [];
    this.#asked.delete(id);
    this.#settleSoon(names);
    return names;
  }

  /** The server refused: the controls go back to what is. */
  refused(id) {
    const names = this.#asked.get(id) ?? [];
    this.#asked.delete(id);
    for (const name of names) this.#settle(name);
    return names;
  }

  #schedule() {
    if (this.#timer) return;
    const wait = Math.max(0, this.#sentAt + SEND_EVERY_MS - performance.now());
    this.#timer = setTimeout(() => this.#flush(), wait);
  }

  #flush() {
    this.#timer = 0;
    if (this.#pending.size === 0) return;
    const names = [...this.#pending.keys()];
    const id = this.#send(Object.fromEntries(this.#pending));
    this.#pending.clear();
    this.#sentAt = performance.now();
    if (id) this.#asked.set(id, names);
    else names.forEach((name) => this.#settle(name)); // offline: show what is
  }

  #settleSoon(names) {
    setTimeout(() => names.forEach((name) => this.#isFree(name) && this.#settle(name)), SETTLE_MS);
  }

  #isFree(name) {
    const asked = [...this.#asked.values()].some((names) => names.includes(name));
    return !asked && !this.#pending.has(name) && !this.#hand.get(name)?.held;
  }

  #settle(name) {
    const hand = this.#hand.get(name);
    if (!hand) return;
    this.#hand.delete(name);
    if (hand.value !== this.#session.get(name)) this.#tell(name, false);
  }

  #tell(name, mine) {
    this.dispatchEvent(new CustomEvent("value", { detail: { name, value: this.get(name), mine } }));
  }
}

/** The nearest value a parameter allows. */
export function clamp({ type, min, max }, value) {
  if (type === "string") return String(value);
  if (type === "bool") return Boolean(value);
  const number = Math.min(max, Math.max(min, Number(value)));
  return type === "int" ? Math.round(number) : number;
}

/** Position 0 … 1 of a value on a control. Wide ranges of whole numbers are bent: their small values matter most. */
export function toUnit(row, value) {
  return Math.pow((value - row.min) / (row.max - row.min), 1 / bend(row));
}

export function fromUnit(row, unit) {
  return clamp(row, row.min + (row.max - row.min) * Math.pow(Math.min(1, Math.max(0, unit)), bend(row)));
}

function bend({ type, min, max }) {
  return type === "int" && max - min > 500 ? 3 : 1;
}

/** A value as people read it, without its unit. */
export function format(row, value) {
  if (row.type === "int") return String(value);
  const span = row.max - row.min;
  return value.toFixed(span <= 5 ? 2 : span <= 100 ? 1 : 0).replace("-", "−");
}

/** A value and its unit as people read them; a 0 that stands for something is that: "as the music goes", not "0 bpm". */
export function inWords(row, value) {
  const zero = value === 0 ? /\b0 (?:=|is) ([^;,]+)/.exec(row.description ?? "") : null;
  return zero ? { words: zero[1].trim(), unit: "" } : { words: format(row, value), unit: row.unit ?? "" };
}

/** A parameter's name as people say it. */
export function label({ name, unit }) {
  return name
    .replace(/^.*\//, "")
    .replace(/_(db|seconds|ms|hz)$/, (suffix) => (unit ? "" : suffix))
    .replaceAll("_", " ");
}
