/* A client of a running service for pages and programs of yours: no npm, no build. Needs protocol.js beside it.
 *
 *   import { connect } from "./client.js";             // in a browser, or in Node 22
 *   const live = await connect(location.origin, { token: "…" });
 *   await live.set({ "prompt/1/text": "solo piano, 94 bpm" }, { quantize: "bar" });
 *   for await (const { samples, position } of live.chunks()) …   // Float32Array, left and right in turn
 *   const stop = await live.play(new AudioContext());            // or hear it
 *
 * Rules: the protocol and no page. One connection, never tried again: whoever needs that connects again. What the hand of
 * another changes is told as "changed", as every message is by its type, with the message as `detail`.
 */

import { parseFrame, PROTOCOL, streamUrl, toFloat } from "./protocol.js";

const KEPT_SECONDS = 10;
const BEHIND_SECONDS = 0.25; // what play() has in hand against a network that is late

/**
 * Connect. Throws if nobody answers within timeoutSeconds, or if it was refused: the message says why.
 * answerSeconds: how long each answer may take, a file's sending included; Infinity lets it take for ever.
 */
export function connect(url, { session = "live", token = null, timeoutSeconds = 10, answerSeconds = 60 } = {}) {
  const shown = new URL(url);
  const known = token ?? shown.searchParams.get("token") ?? new URLSearchParams(shown.hash.slice(1)).get("token");
  shown.search = shown.hash = "";
  if (!shown.pathname.endsWith("/")) shown.pathname += "/";
  if (!globalThis.WebSocket) throw new Error("there is no WebSocket here: take Node 22, or node --experimental-websocket");
  const socket = new WebSocket(streamUrl(shown, { session, token: known, enabled: false }), [PROTOCOL]);
  socket.binaryType = "arraybuffer";
  return new Promise((done, failed) => {
    const why = ({ code, reason }) => reason || `closed with ${code}; is "streamgen serve" running there?`;
    const fail = (text) => failed(new Error(`no streamgen answers at ${shown}: ${text}`)); // without the token
    const late = after(timeoutSeconds, () => {
      socket.close();
      fail(`nothing came within ${timeoutSeconds} s`);
    });
    socket.onclose = (event) => {
      clearTimeout(late);
      fail(why(event));
    };
    socket.onmessage = ({ data }) => {
      clearTimeout(late);
      if (typeof data === "string") done(new Live(socket, JSON.parse(data), answerSeconds));
    };
  });
}

/** A timer; none for ever, which setTimeout takes for at once. */
const after = (seconds, act) => (seconds < 1e6 ? setTimeout(act, seconds * 1000) : null);

class Live extends EventTarget {
  #socket;
  #answerSeconds;
  #asked = new Map();
  #lastId = 0;
  #sending = Promise.resolve(); // the service takes one file at a time
  #queue = null; // while somebody iterates over chunks
  #wake = () => {};
  #over = null;

  constructor(socket, hello, answerSeconds) {
    super();
    this.#socket = socket;
    this.#answerSeconds = answerSeconds;
    this.hello = hello;
    this.values = { ...hello.state.values };
    this.state = hello.state.state;
    this.missedFrames = 0;
    socket.onmessage = ({ data }) => (typeof data === "string" ? this.#told(JSON.parse(data)) : this.#heard(data));
    socket.onclose = ({ code, reason }) => this.#ended(new Error(`the connection ended: ${reason || code}`));
  }

  /** The session's rate, in which at_sample and every position in a message count. */
  get rateHz() {
    return this.hello.sample_rate_hz;
  }

  /**
   * Change parameters, all or none; when: at_sample (with rate_hz, where it counts at another than the session's),
   * at_beat, quantize or glide_seconds. Gives the sample it applies at.
   */
  async set(values, when = {}) {
    return (await this.ask("set", { values, ...when })).applied_at_sample;
  }

  /** play, pause, stop or reset. */
  async transport(action, when = {}) {
    return (await this.ask("transport", { action, ...when })).applied_at_sample;
  }

  /** Send any message of the protocol; gives its answer, or throws an error with its `code`. */
  ask(type, fields = {}) {
    const id = ++this.#lastId;
    return this.#answer(type, id, JSON.stringify({ type, id, ...fields }));
  }

  /**
   * Give the music audio of a kind: "audio_prompt", which it goes on from; or of those that hello.follows lists,
   * "melody" or "style". file: a WAV, FLAC or Ogg file's bytes (ArrayBuffer, a view of one, or Blob); of none, a melody
   * or style ends. when: for melody and style, as in set. Gives the sample it applies at.
   */
  sendAudio(kind, file, when = {}) {
    const sent = this.#sending.then(() => this.#sendFile(kind, file, when));
    this.#sending = sent.catch(() => {});
    return sent;
  }

  async #sendFile(kind, file, when) {
    const bytes = file instanceof Blob ? await file.arrayBuffer() : file;
    if (!(bytes instanceof ArrayBuffer || ArrayBuffer.isView(bytes)))
      throw new TypeError(`file is ${typeof file}, must be the bytes of an audio file: ArrayBuffer, a view of one, or Blob`);
    const told = await this.ask(kind, { bytes: bytes.byteLength, ...when });
    return (told.ready ? await this.#answer(kind, told.id, bytes) : told).applied_at_sample;
  }

  #answer(type, id, message) {
    if (this.#over) return Promise.reject(this.#over);
    this.#socket.send(message);
    return new Promise((done, failed) => {
      const late = after(this.#answerSeconds, () => {
        this.#asked.delete(id);
        failed(new Error(`the service has not answered "${type}" within ${this.#answerSeconds} s: it hangs, or has much to do`));
      });
      const settled = (act) => (value) => {
        clearTimeout(late);
        act(value);
      };
      this.#asked.set(id, { done: settled(done), failed: settled(failed) });
    });
  }

  /** Hear the session from now on: frames as protocol.js parses them, with `samples`. One iteration at a time. */
  async *chunks({ rateHz = this.rateHz, chunkMs = 40 } = {}) {
    if (this.#queue) throw new Error("chunks() is iterated over already: connect once more for a second stream");
    const queue = (this.#queue = []);
    try {
      await this.ask("audio", { enabled: true, codec: "s16le", sample_rate_hz: rateHz, chunk_ms: chunkMs });
      while (true) {
        while (queue.length) yield queue.shift();
        if (this.#over) throw this.#over;
        await new Promise((wake) => (this.#wake = wake));
      }
    } finally {
      this.#queue = null;
      if (!this.#over) await this.ask("audio", { enabled: false });
    }
  }

  /** Play it; gives what ends that. A browser wants a user's gesture before it makes a sound. */
  async play(context) {
    await context.resume();
    const chunks = this.chunks({ rateHz: context.sampleRate });
    const playing = { on: true };
    this.#schedule(context, chunks, playing).catch((error) => {
      if (playing.on) this.dispatchEvent(new CustomEvent("lost", { detail: error }));
    });
    return () => {
      playing.on = false;
    };
  }

  async #schedule(context, chunks, playing) {
    let at = 0;
    for await (const { samples, frames, rateHz } of chunks) {
      if (!playing.on) break;
      const buffer = context.createBuffer(2, frames, rateHz);
      for (const channel of [0, 1]) {
        const out = buffer.getChannelData(channel);
        for (let i = 0; i < frames; i++) out[i] = samples[2 * i + channel];
      }
      if (at < context.currentTime) at = context.currentTime + BEHIND_SECONDS;
      const source = new AudioBufferSourceNode(context, { buffer });
      source.connect(context.destination);
      source.start(at);
      at += frames / rateHz;
    }
  }

  close() {
    this.#socket.close(1000);
  }

  #heard(data) {
    if (!this.#queue) return;
    const frame = parseFrame(data);
    this.#queue.push({ ...frame, samples: toFloat(frame) });
    while (this.#queue.length * frame.frames > KEPT_SECONDS * frame.rateHz) this.missedFrames += this.#queue.shift().frames;
    this.#wake();
  }

  #told(message) {
    const asked = this.#asked.get(message.id);
    if (asked) {
      this.#asked.delete(message.id);
      if (message.type === "ack") asked.done(message);
      else asked.failed(Object.assign(new Error(message.message), { code: message.code }));
      return;
    }
    if (message.type === "changed" || message.type === "table") Object.assign(this.values, message.values);
    if (message.type === "transport") this.state = message.state;
    this.dispatchEvent(new CustomEvent(message.type, { detail: message }));
  }

  #ended(error) {
    this.#over = error;
    for (const { failed } of this.#asked.values()) failed(error);
    this.#asked.clear();
    this.#wake();
    this.dispatchEvent(new CustomEvent("closed", { detail: error }));
  }
}
