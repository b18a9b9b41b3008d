/* streamgen.v1 as the browser speaks it.
 *
 * Rules: bytes and messages only; no DOM, no audio graph: it runs in feed.js, a worker. `parseFrame` and `toFloat` do no
 * I/O. `Connection` owns the socket, reconnects by itself with back-off, and tells everything as events:
 *   "status"  {state: connecting | open | waiting | refused, reason: "" where none is known, inSeconds}
 *   "message" a JSON message of the server        "frame" a parsed binary frame
 */

export const PROTOCOL = "streamgen.v1";
export const HEADER_BYTES = 32;

const CODECS = ["s16le", "f32le", "opus"];
const SAMPLE_BYTES = { s16le: 2, f32le: 4 };
// A server on this network that is back is found within three seconds; one that was gone for minutes is asked seldom.
const BACK_OFF_SECONDS = [0.5, 1, 2];
const SELDOM_SECONDS = 15;
const TRIES_UNTIL_SELDOM = 150;
const FULL_SECONDS = 5;
// A socket that never answers looks like one that is still opening: give up on it, and count it as a failed try.
const OPEN_TIMEOUT_SECONDS = 8;
const NO_WORD = 1006; // the connection broke, and nobody said why
const POLICY_REFUSED = 1008;
const FULL = 1013;

/** Read a binary frame: 32 bytes of little-endian header, then interleaved PCM. Throws on bytes that are none. */
export function parseFrame(buffer) {
  if (buffer.byteLength < HEADER_BYTES) throw new Error(`frame of ${buffer.byteLength} bytes is shorter than a header`);
  const view = new DataView(buffer);
  if (view.getUint8(0) !== 1) throw new Error(`frame version ${view.getUint8(0)}, this page reads 1`);
  const frame = {
    codec: CODECS[view.getUint8(1)],
    channels: view.getUint8(2),
    discontinuity: (view.getUint8(3) & 1) !== 0,
    promptChange: (view.getUint8(3) & 2) !== 0,
    sequence: view.getUint32(4, true),
    position: Number(view.getBigUint64(8, true)),
    timeUs: Number(view.getBigUint64(16, true)),
    rateHz: view.getUint32(24, true),
    frames: view.getUint32(28, true),
    bytes: new Uint8Array(buffer, HEADER_BYTES),
  };
  const expected = frame.frames * frame.channels * (SAMPLE_BYTES[frame.codec] ?? NaN);
  if (expected !== frame.bytes.length) {
    throw new Error(`frame of ${frame.frames} × ${frame.channels} ${frame.codec} carries ${frame.bytes.length} bytes`);
  }
  return frame;
}

/** Give a frame's PCM as interleaved float32, [frames × 2]; mono is doubled. */
export function toFloat(frame) {
  const { bytes, frames, channels } = frame;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const read = frame.codec === "f32le" ? (i) => view.getFloat32(4 * i, true) : (i) => view.getInt16(2 * i, true) / 32768;
  const samples = new Float32Array(2 * frames);
  for (let i = 0; i < frames; i++) {
    samples[2 * i] = read(i * channels);
    samples[2 * i + 1] = read(i * channels + (channels > 1 ? 1 : 0));
  }
  return samples;
}

/** Whether a transport's state plays, as a button shows it: also while the first sound, or the next, is being made. */
export const plays = (state) => ["starting", "playing", "late"].includes(state);

/** Where the stream lives, seen from the page (behind a proxy's path too), with what is asked for; null is left out. */
export function streamUrl(page, fields) {
  const url = new URL("v1/stream", page);
  url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
  url.search = "";
  url.hash = "";
  for (const [name, value] of Object.entries(fields)) if (value != null) url.searchParams.set(name, value);
  return url.href;
}

export class Connection extends EventTarget {
  #address;
  #socket = null;
  #tries = 0;
  #timer = 0;

  /** address(): where to connect; asked anew for each try. */
  constructor(address) {
    super();
    this.#address = address;
  }

  get isOpen() {
    return this.#socket?.readyState === WebSocket.OPEN;
  }

  /** Connect now, whatever was waiting. */
  connect() {
    clearTimeout(this.#timer);
    this.#drop();
    this.#status({ state: "connecting" });
    const socket = new WebSocket(this.#address(), [PROTOCOL]);
    socket.binaryType = "arraybuffer";
    this.#socket = socket;
    this.#timer = setTimeout(() => this.#lost(socket, "no answer"), OPEN_TIMEOUT_SECONDS * 1000);
    socket.onopen = () => clearTimeout(this.#timer);
    socket.onmessage = ({ data }) => this.#received(data);
    socket.onclose = (event) => this.#lost(socket, event.reason || (event.code === NO_WORD ? "" : `code ${event.code}`), event.code);
  }

  /** Send a message, or bytes that one has announced, if there is a connection. */
  send(message) {
    if (this.isOpen) this.#socket.send(message instanceof ArrayBuffer ? message : JSON.stringify(message));
  }

  #received(data) {
    if (typeof data !== "string") return this.#frame(data);
    const message = JSON.parse(data);
    if (message.type === "hello") {
      this.#tries = 0; // only a session that speaks counts: a server that accepts and closes must not be hammered
      this.#status({ state: "open" });
    }
    this.dispatchEvent(new CustomEvent("message", { detail: message }));
  }

  #frame(buffer) {
    let frame;
    try {
      frame = parseFrame(buffer);
    } catch (error) {
      console.warn(`streamgen: ${error.message}; it is skipped`);
      return;
    }
    this.dispatchEvent(new CustomEvent("frame", { detail: frame }));
  }

  #lost(socket, reason, code = 0) {
    if (socket !== this.#socket) return;
    clearTimeout(this.#timer);
    this.#drop();
    if (code === POLICY_REFUSED) return this.#status({ state: "refused", reason });
    const step = code === FULL ? FULL_SECONDS : backOffSeconds(this.#tries++);
    // Pages that lost the same server must not all come back in the same instant.
    const inSeconds = step * (0.8 + 0.4 * Math.random());
    this.#timer = setTimeout(() => this.connect(), inSeconds * 1000);
    this.#status({ state: "waiting", reason, inSeconds });
  }

  #drop() {
    const socket = this.#socket;
    this.#socket = null;
    if (!socket) return;
    socket.onopen = socket.onmessage = socket.onclose = null;
    if (socket.readyState <= WebSocket.OPEN) socket.close(1000);
  }

  #status(detail) {
    this.dispatchEvent(new CustomEvent("status", { detail }));
  }
}

/** How long to wait before the next try, after so many in vain. */
function backOffSeconds(tries) {
  return tries < TRIES_UNTIL_SELDOM ? BACK_OFF_SECONDS[Math.min(tries, BACK_OFF_SECONDS.length - 1)] : SELDOM_SECONDS;
}
