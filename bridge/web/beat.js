/* The beat light: flashes with each beat of the session when it is heard, brighter on the first of a bar.
 *
 * Rules: is told beats ahead of time, and which sample is heard now; knows no socket. Where this page makes no sound, a
 * beat is shown when it is told, a fifth of a second early.
 */

const AHEAD_SECONDS = 2; // what lies further behind what is heard was of another beginning

export class BeatLight {
  #box;
  #words;
  #waiting = [];

  constructor(box, words) {
    this.#box = box;
    this.#words = words;
  }

  /** Take a beat that is about to come. */
  told(beat, sounds) {
    if (sounds) this.#waiting.push(beat);
    else this.#show(beat);
  }

  /** Show what is heard by now. */
  heard(sample, rateHz) {
    while (this.#waiting.length > 0 && this.#waiting[0].applied_at_sample <= sample) {
      const beat = this.#waiting.shift();
      if (sample - beat.applied_at_sample < AHEAD_SECONDS * rateHz) this.#show(beat);
    }
  }

  clear() {
    this.#waiting.length = 0;
    this.#box.hidden = true;
  }

  #show({ beat, bar, tempo, phase, source }) {
    this.#box.hidden = false;
    this.#box.classList.toggle("is-downbeat", beat === bar * 4);
    this.#box.classList.toggle("is-odd", beat % 2 === 1); // two animations of one kind: each beat begins the other
    const words = `${tempo.toFixed(tempo % 1 < 0.05 ? 0 : 1)} bpm${source === "internal" ? "" : ` · ${source}`}`;
    if (this.#words.textContent !== words) this.#words.textContent = words;
    this.#box.title = phase === null ? "the session's beats" : `the session's beats; the music's bar is ${phase.toFixed(2)} beats ahead`;
  }
}
