/* The playback clock: what the server's clock shows when a sample is heard here.
 *
 *     AudioContext's time ── OutputClock ──► this machine's clock ── ServerClock ──► server's clock ──► due samples
 *           (worklet.js)      (player.js)       (performance)          (feed.js)        (frames tell)     (ring.js)
 *
 * Rules: arithmetic on readings that are given; no timer, no socket, no audio graph. Times of this machine are
 * milliseconds since the epoch, from the clock that is the same in the page and in its workers.
 */

const PINGS_KEPT = 16;
const STEADY_READINGS = 75; // three seconds: one alone is off by as much as the sound system takes at a time
const STRAY_MS = 40;
const STRAYS = 12; // in a row: the sound was interrupted, it is no jitter

export const nowMs = () => performance.timeOrigin + performance.now();

/** How far the server's clock is ahead of ours, from pings: the quickest of the newest errs least. */
export class ServerClock {
  #pings = [];

  /** A ping left and came back at our times; the server noted its own in between. */
  note(sentMs, serverUs, receivedMs) {
    this.#pings.push({ roundTripMs: receivedMs - sentMs, offsetMs: serverUs / 1000 - (sentMs + receivedMs) / 2 });
    if (this.#pings.length > PINGS_KEPT) this.#pings.shift();
  }

  /** To be added to our time; null before the first ping. */
  get offsetMs() {
    if (this.#pings.length === 0) return null;
    return this.#pings.reduce((best, ping) => (ping.roundTripMs < best.roundTripMs ? ping : best)).offsetMs;
  }

  get settled() {
    return this.#pings.length >= 4;
  }
}

/** When the sound system lets us hear a moment of an AudioContext, smoothed. */
export class OutputClock {
  #offsetMs = 0;
  #readings = 0;
  #strays = 0;

  /** A moment of the context is heard at a time of ours. */
  note(contextSeconds, heardMs) {
    const offsetMs = heardMs - 1000 * contextSeconds;
    const error = offsetMs - this.#offsetMs;
    this.#strays = this.#readings > 0 && Math.abs(error) > STRAY_MS ? this.#strays + 1 : 0;
    if (this.#strays > STRAYS) this.reset();
    else if (this.#strays > 0) return;
    this.#readings = Math.min(this.#readings + 1, STEADY_READINGS);
    this.#offsetMs = this.#readings === 1 ? offsetMs : this.#offsetMs + error / this.#readings;
  }

  reset() {
    this.#readings = this.#strays = 0;
  }

  /** To be added to the context's time in milliseconds; null before the first reading. */
  get offsetMs() {
    return this.#readings > 0 ? this.#offsetMs : null;
  }
}
