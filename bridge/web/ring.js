/* The jitter buffer: stereo frames by stream position in, a smooth signal out.
 *
 * Rules: pure arithmetic on preallocated arrays, for it runs inside the audio callback: no allocation in `read`, no clock,
 * no messages. Counts are frames, positions are samples of the session.
 *
 *     position    … 96000 ─────────── heard ──────────────── end …
 *     absolute       (kept)           next       fill        write          index in the arrays = absolute % capacity
 *
 * Server and sound card run on two crystals, some 50 ppm apart. The fill is smoothed; when it drifts from where it
 * settled, reading is a little faster or slower (at most 0.1 %, 1.7 cents). Until then it copies bit for bit.
 */

const CAPACITY_SECONDS = 24;
const FADE_SECONDS = 0.008;
// The server sends 0.1 s at a time, a quarter of a second before it is due; a browser takes as much at once. Either may
// come late where the processor is shared: a few times 0.1 s cover what was seen on two cores, no bound is known.
const START_SECONDS = 0.4;
const START_LIMIT_SECONDS = 1.2;
const SMOOTHING_SECONDS = 8;
const HURRY_SECONDS = 0.4;
const SETTLE_SECONDS = 4;
// Crystals need minutes to drift this far; a busy machine jitters by half of it and must not bend the pitch.
const DEAD_BAND_SECONDS = 0.04;
const MAX_BEND = 0.001;
const BEND_PER_SECOND = 0.02;
// A fill that moved by this much did not drift: the server changed its lead or made up for a stall.
const RELEARN_SECONDS = 0.4;

export class Ring {
  constructor(rateHz, capacitySeconds = CAPACITY_SECONDS) {
    this.rateHz = rateHz;
    this.capacity = Math.ceil(rateHz * capacitySeconds);
    this.fade = Math.round(rateHz * FADE_SECONDS);
    this.left = new Float32Array(this.capacity);
    this.right = new Float32Array(this.capacity);
    this.underruns = 0;
    this.starvedFrames = 0;
    this.skippedFrames = 0;
    this.ratio = 1;
    this.held = true;
    this.startFrames = rateHz * START_SECONDS;
    this.flush();
  }

  /** Frames waiting to be heard. */
  get fill() {
    return this.write - this.next;
  }

  /** Session position of the next frame to be heard; exact for the newest run of positions. */
  get heard() {
    return this.next + this.offset;
  }

  get waiting() {
    return !this.flowing;
  }

  /** Forget everything. */
  flush() {
    this.write = 0;
    this.next = 0;
    this.phase = 0;
    this.offset = 0;
    this.skip = 0;
    this.joints = [];
    this.flowing = this.started = false;
    this.level = 0;
    this.#unsettle();
  }

  /** Stop or go, with a fade; held frames stay where they are. */
  hold(held) {
    this.held = held;
  }

  /** Take interleaved stereo float32 that begins at a session position. */
  push(samples, position, discontinuity = false) {
    let from = 0;
    const frames = samples.length / 2;
    const expected = this.write + this.offset;
    if (this.write === 0) this.offset = position;
    else if (this.skip > 0) from = Math.min(frames, this.#skipped(position, frames));
    else if (position < expected && !discontinuity && position + frames > this.heard - this.rateHz * CAPACITY_SECONDS) {
      from = Math.min(frames, expected - position); // known already: a burst after reconnecting
    } else if (position !== expected) this.#join(position);
    this.#makeRoom(frames - from);
    for (let i = from; i < frames; i++) {
      const at = this.write++ % this.capacity;
      this.left[at] = samples[2 * i];
      this.right[at] = samples[2 * i + 1];
    }
  }

  /** Forget what is buffered from a position on; newer audio for it follows. */
  discard(position) {
    const target = position - this.offset;
    const kept = Math.max(target, Math.ceil(this.next) + this.fade);
    if (kept >= this.write) return;
    this.skip = kept - target; // these were heard in their old form: their new form comes too late
    this.write = kept;
    this.joints = this.joints.filter((at) => at < kept);
    if (this.skip > 0) this.joints.push(kept);
    this.#unsettle();
  }

  /** Fill one block of output; true if anything but silence was written. */
  read(left, right) {
    this.#start(left.length);
    let sounding = false;
    for (let i = 0; i < left.length; i++) {
      const gain = this.#gain();
      if (gain > 0) {
        left[i] = gain * this.#sample(this.left);
        right[i] = gain * this.#sample(this.right);
        this.#advance();
        sounding = true;
      } else {
        left[i] = right[i] = 0;
      }
    }
    this.#steer(left.length);
    return sounding;
  }

  #join(position) {
    this.joints.push(this.write);
    this.offset = position - this.write;
  }

  #skipped(position, frames) {
    const from = Math.max(0, this.write + this.offset - position);
    this.skip = Math.max(0, this.skip - frames);
    return from;
  }

  #makeRoom(frames) {
    const excess = this.fill + frames - this.capacity + this.rateHz;
    if (excess <= 0) return;
    this.next = Math.ceil(this.next + excess);
    this.skippedFrames += excess;
    this.joints.push(this.next);
    this.#unsettle();
  }

  #start(frames) {
    if (this.flowing || this.held) return;
    if (this.fill < Math.max(this.startFrames, frames + this.fade)) {
      if (this.started) this.starvedFrames += frames;
      return;
    }
    this.flowing = this.started = true;
    this.level = 0;
    this.#unsettle();
  }

  #gain() {
    if (!this.flowing) return 0;
    const remaining = this.write - this.next - 2;
    if (remaining <= 0) return this.#starve();
    const target = this.held ? 0 : 1;
    const slope = 1 / this.fade;
    this.level = Math.max(0, Math.min(1, this.level + (target ? slope : -slope)));
    if (this.held && this.level === 0) this.flowing = false;
    return Math.min(this.level, remaining / this.fade, this.#jointGain());
  }

  #starve() {
    this.flowing = false;
    this.level = 0;
    if (this.held) return 0;
    this.underruns += 1;
    this.startFrames = Math.min(this.startFrames * 1.5, this.rateHz * START_LIMIT_SECONDS);
    return 0;
  }

  #jointGain() {
    if (this.joints.length === 0) return 1;
    if (this.next > this.joints[0] + this.fade) this.joints.shift();
    const distance = this.joints.length ? Math.abs(this.next - this.joints[0]) : this.fade;
    return Math.max(0.0001, Math.min(1, distance / this.fade));
  }

  #sample(data) {
    const at = Math.floor(this.next);
    if (this.phase === 0) return data[at % this.capacity];
    const a = data[(at + this.capacity - 1) % this.capacity];
    const b = data[at % this.capacity];
    const c = data[(at + 1) % this.capacity];
    const d = data[(at + 2) % this.capacity];
    const t = this.phase; // Catmull-Rom; at work from the first bend on
    return b + 0.5 * t * (c - a + t * (2 * a - 5 * b + 4 * c - d + t * (3 * (b - c) + d - a)));
  }

  #advance() {
    this.phase += this.ratio;
    const whole = Math.floor(this.phase);
    this.phase -= whole;
    this.next += whole;
  }

  #unsettle() {
    this.settling = SETTLE_SECONDS * this.rateHz;
    this.smooth = this.target = -1;
    this.ratio = 1;
  }

  #steer(frames) {
    if (!this.flowing || this.held) return;
    // The first burst still arrives while sound begins: hurry, so that the target is where the fill comes to rest.
    const seconds = this.settling > 0 ? HURRY_SECONDS : SMOOTHING_SECONDS;
    const pull = frames / (seconds * this.rateHz);
    this.smooth = this.smooth < 0 ? this.fill : this.smooth + pull * (this.fill - this.smooth);
    this.settling -= frames;
    if (this.settling > 0) return;
    if (this.target < 0) this.target = this.smooth;
    const error = (this.smooth - this.target) / this.rateHz;
    if (Math.abs(error) > RELEARN_SECONDS) this.#unsettle();
    else this.ratio = this.#bend(error);
  }

  #bend(error) {
    // Wide to begin, narrow to end: without the difference it would switch to and fro at the edge of the band.
    const band = this.ratio === 1 ? DEAD_BAND_SECONDS : DEAD_BAND_SECONDS / 4;
    if (Math.abs(error) > band) return 1 + Math.max(-MAX_BEND, Math.min(MAX_BEND, error * BEND_PER_SECOND));
    return 1; // the phase stays where it is: rounding it would be a click
  }
}
