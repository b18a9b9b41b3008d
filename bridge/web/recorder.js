/* Records exactly what was received, from what is heard when it starts to what is heard when it stops.
 *
 * Rules: keeps the bytes as they came, never decodes or resamples them. A session's samples have positions, and the
 * buffer runs ahead of the ear: frames not heard yet are always kept, so that a take begins on the note that was meant.
 */

const WAV_HEADER_BYTES = 44;
const WAV_FORMAT = { s16le: { tag: 1, bytes: 2 }, f32le: { tag: 3, bytes: 4 } };

/** Head of a WAV file for so many bytes of PCM. */
export function wavHeader(dataBytes, { codec, channels, rateHz }) {
  const { tag, bytes } = WAV_FORMAT[codec];
  const view = new DataView(new ArrayBuffer(WAV_HEADER_BYTES));
  const text = (at, word) => [...word].forEach((letter, i) => view.setUint8(at + i, letter.charCodeAt(0)));
  text(0, "RIFF");
  view.setUint32(4, WAV_HEADER_BYTES - 8 + dataBytes, true);
  text(8, "WAVEfmt ");
  view.setUint32(16, 16, true);
  view.setUint16(20, tag, true);
  view.setUint16(22, channels, true);
  view.setUint32(24, rateHz, true);
  view.setUint32(28, rateHz * channels * bytes, true);
  view.setUint16(32, channels * bytes, true);
  view.setUint16(34, 8 * bytes, true);
  text(36, "data");
  view.setUint32(40, dataBytes, true);
  return view.buffer;
}

export class Recorder {
  #frames = [];
  #format = null;
  recording = false;

  /** Seconds on tape that were heard. */
  seconds(heard) {
    const first = this.#frames[0];
    return this.recording && first ? Math.max(0, heard - first.position) / first.rateHz : 0;
  }

  /** Take every frame that arrives; while not recording, only what is still to be heard is kept. */
  take(frame, heard) {
    this.#format ??= { codec: frame.codec, channels: frame.channels, rateHz: frame.rateHz };
    const last = this.#frames.at(-1);
    const end = last ? last.position + last.frames : frame.position;
    if (!frame.discontinuity && frame.position < end) this.#cutAt(frame.position); // newer wins, nothing is doubled
    this.#frames.push(frame);
    if (!this.recording) this.#forget(heard);
  }

  /** Forget what is kept from a position on. */
  #cutAt(position) {
    while (this.#frames.length && this.#frames.at(-1).position >= position) this.#frames.pop();
    const last = this.#frames.at(-1);
    if (last && last.position + last.frames > position) this.#frames.push(cut(this.#frames.pop(), last.position, position));
  }

  /** Forget what is still to be heard: it never will be. */
  clear() {
    this.#frames = [];
  }

  start(heard) {
    this.#forget(heard);
    this.recording = true;
  }

  /** End the take at what is heard now; a WAV file as Blob, or null if nothing was recorded. */
  stop(heard) {
    this.recording = false;
    const taken = this.#frames.filter((frame) => frame.position < heard).map((frame) => cut(frame, frame.position, heard));
    this.#forget(heard);
    if (taken.length === 0) return null;
    const pieces = taken.map((frame) => frame.bytes);
    const bytes = pieces.reduce((sum, piece) => sum + piece.length, 0);
    return new Blob([wavHeader(bytes, this.#format), ...pieces], { type: "audio/wav" });
  }

  #forget(heard) {
    let gone = 0;
    while (gone < this.#frames.length && this.#frames[gone].position + this.#frames[gone].frames <= heard) gone++;
    if (gone) this.#frames.splice(0, gone);
    if (this.#frames.length) this.#frames[0] = cut(this.#frames[0], heard, Infinity);
  }
}

/** The part of a frame between two positions. */
function cut(frame, from, to) {
  const first = Math.max(0, Math.round(from - frame.position));
  const stop = Math.min(frame.frames, Math.round(to - frame.position));
  if (first === 0 && stop === frame.frames) return frame;
  const bytes = frame.bytes.length / frame.frames;
  const frames = Math.max(0, stop - first);
  return { ...frame, position: frame.position + first, frames, bytes: frame.bytes.subarray(first * bytes, (first + frames) * bytes) };
}
