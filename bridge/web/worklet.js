/* The audio thread's end of the player.
 *
 * Rules: nothing but the frame around voice.js. Loaded by player.js as a worklet module, so that the page's own work can
 * never make the sound stutter.
 */

import { Voice } from "./voice.js";

class StreamgenPlayer extends AudioWorkletProcessor {
  #voice = new Voice(sampleRate, (report) => this.port.postMessage(report));

  constructor() {
    super();
    this.port.onmessage = ({ data }) => this.#voice.order(data);
  }

  process(_inputs, outputs) {
    this.#voice.render(...outputs[0], currentTime);
    return true;
  }
}

registerProcessor("streamgen-player", StreamgenPlayer);
