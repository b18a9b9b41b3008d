/* The audio thread's end of the player.
 *
 * Rules: owns the ring; takes orders by message, and both ends of the playback clock; tells 25 times a second how it is.
 * Loaded by player.js as a worklet module, so that the page's own work can never make the sound stutter.
 */

import { Ring } from "./ring.js";

const REPORTS_HZ = 25;

class StreamgenPlayer extends AudioWorkletProcessor {
  #ring = new Ring(sampleRate);
  #sinceReport = 0;
  #peak = [0, 0];
  #heardMs = NaN; // added to our time in milliseconds: when it is heard, by this machine's clock (clock.js)
  #serverMs = NaN; // added to that: by the server's

  constructor() {
    super();
    this.port.onmessage = ({ data }) => this.#order(data);
  }

  process(_inputs, outputs) {
    const [left, right] = outputs[0];
    this.#ring.read(left, right, currentTime + (this.#heardMs + this.#serverMs) / 1000);
    this.#measure(0, left);
    this.#measure(1, right);
    this.#sinceReport += left.length;
    if (this.#sinceReport >= sampleRate / REPORTS_HZ) this.#report();
    return true;
  }

  #order(data) {
    if (data.samples) this.#ring.push(data.samples, data.position, data.discontinuity, data.due);
    else if (data.order === "feed") data.port.onmessage = (event) => this.#order(event.data);
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
    this.port.postMessage({
      bufferedSeconds: fill / sampleRate,
      starvedSeconds: starvedFrames / sampleRate,
      skippedSeconds: skippedFrames / sampleRate,
      peak: [...this.#peak],
      underruns, ratio, waiting, heard, held, delay, lateness,
    });
    this.#sinceReport = 0;
    this.#peak.fill(0);
  }
}

registerProcessor("streamgen-player", StreamgenPlayer);
