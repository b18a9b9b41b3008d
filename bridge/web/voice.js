/* What makes the sound, wherever it runs: in the audio thread (worklet.js), or in the page (player.js) where the browser
 * offers no AudioWorklet, which is on every plain http page of another machine.
 *
 * Rules: owns the ring; takes orders by message, and both ends of the playback clock; tells 25 times a second how it is.
 */

import { Ring } from "./ring.js";

const REPORTS_HZ = 25;

export class Voice {
  #rateHz;
  #ring;
  #tell;
  #sinceReport = 0;
  #peak = [0, 0];
  #heardMs = NaN; // added to our time in milliseconds: when it is heard, by this machine's clock (clock.js)
  #serverMs = NaN; // added to that: by the server's

  /** tell(report): how it is; leastDelay: seconds to hold back at least, where blocks are long and late. */
  constructor(rateHz, tell, leastDelay) {
    this.#rateHz = rateHz;
    this.#ring = new Ring(rateHz, leastDelay);
    this.#tell = tell;
  }

  /** Fill a block of output whose first frame is at a time of the audio context, in seconds. */
  render(left, right, time) {
    this.#ring.read(left, right, time + (this.#heardMs + this.#serverMs) / 1000);
    this.#measure(0, left);
    this.#measure(1, right);
    this.#sinceReport += left.length;
    if (this.#sinceReport >= this.#rateHz / REPORTS_HZ) this.#report();
  }

  order(data) {
    if (data.samples) this.#ring.push(data.samples, data.position, data.discontinuity, data.due);
    else if (data.order === "feed") data.port.onmessage = (event) => this.order(event.data);
    else if (data.order === "hold") this.#ring.hold(data.held);
    else if (data.order === "heard") this.#heardMs = data.offsetMs;
    else if (data.order === "server") this.#serverMs = data.offsetMs;
    else if (data.order === "flush") this.#ring.flush();
  }

  #measure(channel, samples) {
    let peak = this.#peak[channel];
    for (let i = 0; i < samples.length; i++) peak = Math.max(peak, Math.abs(samples[i]));
    this.#peak[channel] = peak;
  }

  #report() {
    const { fill, underruns, starvedFrames, skippedFrames, ratio, waiting, heard, held, delay, lateness } = this.#ring;
    this.#tell({
      bufferedSeconds: fill / this.#rateHz,
      starvedSeconds: starvedFrames / this.#rateHz,
      skippedSeconds: skippedFrames / this.#rateHz,
      peak: [...this.#peak],
      underruns, ratio, waiting, heard, held, delay, lateness,
    });
    this.#sinceReport = 0;
    this.#peak.fill(0);
  }
}
