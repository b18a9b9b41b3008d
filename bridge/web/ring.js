/* The jitter buffer: stereo frames by stream position in, a smooth signal out, each frame when it is due.
 *
 * Rules: pure arithmetic on preallocated arrays, for it runs inside the audio callback: no allocation in `read`, no clock
 * of its own, no messages. Counts are frames, positions are samples of the stream, times are seconds of the server's clock.
 *
 *     position    … 96000 ─────────── heard ──────────────── end …
 *     absolute       (kept)           next       fill        write          index in the arrays = absolute % capacity
 *     runs           ├── due 10.00 s ─┼──────────┼── due 12.51 s ──►        a gap, or a server that stood still, begins one
 *
 * A frame is played when it is due and `delay` later: as much as jitter on the way has been seen to need. It grows when
 * frames come too late, and shrinks again. Server and sound card run on two crystals, some 50 ppm apart, and what is read
 * from clocks jitters: the error is smoothed, and when it grows reading is a little faster or slower (at most 0.2 %, which
 * no ear takes for another pitch). Until then it copies bit for bit. An error too large for that is a jump, with a fade on
 * both sides.
 */

const CAPACITY_SECONDS = 12;
const FADE_SECONDS = 0.008;
// The server sends a fifth of a second before a frame is due: that is spare already, so little more is held back.
const LEAST_DELAY_SECONDS = 0.02;
const MOST_DELAY_SECONDS = 1.2;
const SPARE_SECONDS = 0.02; // kept beyond what was missing when something came too late, and aimed at before
const LITTLE_SECONDS = 0.005; // what nearly came too late asks for, at a time: reading a little slower gives it
const START_SECONDS = 0.06; // in hand when sound begins: the device takes some of it at once
const EASY_SECONDS = 0.06; // more than this to spare for SEEN_SECONDS, and the delay shrinks
const SEEN_SECONDS = 10;
const SHRINK = 0.0015; // of the time that passes, so that bending can follow
const SMOOTHING_SECONDS = 2;
const DEAD_BAND_SECONDS = 0.008; // clocks are read no better than this
const MAX_BEND = 0.002;
const BEND_PER_SECOND = 0.1;
const JUMP_SECONDS = 0.06;
const SHIFTED_SECONDS = 0.02; // the server's timeline stood still for as long: frames are due later than it had seemed
const FORESEEN_SECONDS = 2; // what came late so shortly before that was late for that, and will not be again

export class Ring {
  constructor(rateHz, leastDelay = LEAST_DELAY_SECONDS, capacitySeconds = CAPACITY_SECONDS) {
    this.rateHz = rateHz;
    this.leastDelay = leastDelay;
    this.capacity = Math.ceil(rateHz * capacitySeconds);
    this.fade = Math.round(rateHz * FADE_SECONDS);
    this.left = new Float32Array(this.capacity);
    this.right = new Float32Array(this.capacity);
    this.underruns = 0;
    this.starvedFrames = 0;
    this.skippedFrames = 0;
    this.ratio = 1;
    this.held = true;
    this.delay = leastDelay;
    this.before = { delay: leastDelay, at: -Infinity }; // the delay, and when it began to grow
    this.now = NaN; // server's time of what is heard next
    this.flush();
  }

  /** Frames waiting to be heard. */
  get fill() {
    return this.write - this.next;
  }

  /** Stream position of the next frame to be heard. */
  get heard() {
    return this.next + this.runs[0].offset;
  }

  get waiting() {
    return !this.flowing;
  }

  /** How much later than it was due the next frame is heard, in seconds; it should be `delay`. */
  get lateness() {
    return this.now - this.#due(this.runs[0], this.next);
  }

  /** Forget everything. */
  flush() {
    this.write = 0;
    this.next = 0;
    this.phase = 0;
    this.runs = [{ from: 0, offset: 0, due: 0 }];
    this.joints = [];
    this.flowing = this.started = this.leaving = false;
    this.level = 0;
    this.pause = 0; // frames of silence before the first is due
    this.spare = Infinity; // least that a frame came before it was needed, lately
    this.seen = 0; // frames since it was looked at
    this.#unsettle();
  }

  /** Stop or go, with a fade; held frames stay where they are. */
  hold(held) {
    this.held = held;
  }

  /** Take interleaved stereo float32 that begins at a stream position and is due at a time. */
  push(samples, position, discontinuity, due) {
    let from = 0;
    const frames = samples.length / 2;
    const run = this.runs.at(-1);
    const expected = this.write + run.offset;
    if (this.write === 0) Object.assign(run, { offset: position, due });
    else if (position < expected && !discontinuity && position + frames > this.heard - this.capacity) {
      from = Math.min(frames, expected - position); // known already: a burst after reconnecting
    } else if (position !== expected || Math.abs(due - this.#due(run, this.write)) > SHIFTED_SECONDS) {
      if (position === expected && this.now - this.before.at < FORESEEN_SECONDS) this.delay = this.before.delay;
      this.#begin(position, due);
    } else this.#watch(due);
    this.#makeRoom(frames - from);
    for (let i = from; i < frames; i++) {
      const at = this.write++ % this.capacity;
      this.left[at] = samples[2 * i];
      this.right[at] = samples[2 * i + 1];
    }
  }

  /** Fill one block of output, whose first frame is heard at a time (NaN: not known yet); true if it sounds. */
  read(left, right, now) {
    this.now = now;
    this.#place(left.length);
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
    this.#shrink(left.length);
    return sounding;
  }

  #due(run, at) {
    return run.due + (at - run.from) / this.rateHz;
  }

  /** Absolute index that should be heard now, by a run's times. */
  #wanted(run) {
    return run.from + (this.now - run.due - this.delay) * this.rateHz;
  }

  #begin(position, due) {
    this.runs.push({ from: this.write, offset: position - this.write, due });
    this.joints.push(this.write);
  }

  /** Note how early a frame came that follows on; what came too late was needed already, so all after it is late too. */
  #watch(due) {
    if (!this.started || this.held || !(this.now > 0)) return;
    const spare = due + this.delay - this.now;
    this.spare = Math.min(this.spare, spare);
    if (spare >= SPARE_SECONDS) return;
    if (this.now - this.before.at > FORESEEN_SECONDS) this.before = { delay: this.delay, at: this.now };
    const more = spare < 0 ? SPARE_SECONDS - spare : LITTLE_SECONDS;
    this.delay = Math.min(MOST_DELAY_SECONDS, this.delay + more);
    this.#look();
  }

  #look() {
    this.spare = Infinity;
    this.seen = 0;
  }

  /** Hold back less once all has come early for a while. */
  #shrink(frames) {
    if (!this.flowing || this.held) return;
    this.seen += frames;
    const easy = this.spare > EASY_SECONDS && this.spare < Infinity;
    if (easy && this.seen > SEEN_SECONDS * this.rateHz) {
      this.delay = Math.max(this.leastDelay, this.delay - (SHRINK * frames) / this.rateHz);
    } else if (this.seen > 2 * SEEN_SECONDS * this.rateHz) this.#look();
  }

  #makeRoom(frames) {
    const excess = this.fill + frames - this.capacity + this.rateHz;
    if (excess <= 0) return;
    this.#skipTo(Math.ceil(this.next + excess));
    this.skippedFrames += excess;
  }

  #skipTo(at) {
    this.next = at;
    this.phase = 0;
    this.joints = this.joints.filter((joint) => joint > at);
    this.joints.unshift(at);
    this.#cross();
    this.#unsettle();
  }

  /** Leave the runs that were played. */
  #cross() {
    while (this.runs.length > 1 && this.next >= this.runs[1].from) this.runs.shift();
  }

  /** See where reading is, and where it should be. */
  #place(frames) {
    if (this.held || this.write === 0 || !(this.now > 0)) return;
    this.#cross();
    const error = (this.next - this.#wanted(this.runs[0])) / this.rateHz; // early is positive
    if (!this.flowing) this.#start(frames, error);
    else if (Math.abs(error) > JUMP_SECONDS) this.leaving = true; // it starts anew where it should be, or when
    else this.#steer(frames, error);
  }

  #start(frames, error) {
    if (error > frames / this.rateHz) return; // not due yet
    const end = this.runs.length > 1 ? this.runs[1].from : this.write;
    const due = Math.min(end, Math.ceil(this.next - error * this.rateHz));
    if (due > this.next) this.#skipTo(due);
    if (this.fill < Math.max(START_SECONDS * this.rateHz, frames + this.fade)) {
      if (this.started) this.starvedFrames += frames;
      else if (this.fill > 0) this.delay = Math.min(MOST_DELAY_SECONDS, this.delay + START_SECONDS - this.fill / this.rateHz);
      return;
    }
    this.flowing = this.started = true;
    this.level = 0;
    this.pause = Math.max(0, Math.round(error * this.rateHz));
    this.#unsettle();
  }

  #gain() {
    if (!this.flowing) return 0;
    if (this.pause > 0) {
      this.pause -= 1;
      return 0;
    }
    const remaining = this.write - this.next - 2;
    if (remaining <= 0) return this.#starve();
    const slope = 1 / this.fade;
    const ends = this.held || this.leaving;
    this.level = Math.max(0, Math.min(1, this.level + (ends ? -slope : slope)));
    if (ends && this.level === 0) return this.#stop();
    return Math.min(this.level, remaining / this.fade, this.#jointGain());
  }

  #stop() {
    this.flowing = this.leaving = false;
    this.level = 0;
    return 0;
  }

  #starve() {
    if (!this.held) this.underruns += 1;
    return this.#stop();
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
    if (this.runs.length > 1 && this.next >= this.runs[1].from) this.#enter();
  }

  /** Begin another run: at once, or when it is due. */
  #enter() {
    this.#cross();
    if (this.next - this.#wanted(this.runs[0]) > JUMP_SECONDS * this.rateHz) this.#stop();
  }

  #unsettle() {
    this.error = 0;
    this.ratio = 1;
  }

  #steer(frames, error) {
    this.error += (frames / (SMOOTHING_SECONDS * this.rateHz)) * (error - this.error);
    // Wide to begin, narrow to end: without the difference it would switch to and fro at the edge of the band.
    const band = this.ratio === 1 ? DEAD_BAND_SECONDS : DEAD_BAND_SECONDS / 4;
    if (Math.abs(this.error) <= band) this.ratio = 1; // the phase stays where it is: rounding it would be a click
    else this.ratio = 1 - Math.max(-MAX_BEND, Math.min(MAX_BEND, this.error * BEND_PER_SECOND));
  }
}
