/* Sound: an AudioContext at the stream's own rate, the worklet, and an analyser for the picture.
 *
 * Rules: owns the audio graph, knows no socket and no DOM; the audio itself goes past it, from feed.js to worklet.js. `start` must be called from a user's gesture, as browsers
 * demand. Tells "report" (buffer, peaks, underruns) 25 times a second while it runs.
 */

const SPECTRUM_SAMPLES = 4096;

export class Player extends EventTarget {
  #context = null;
  #node = null;
  #held = true;
  #feed;
  analyser = null;
  report = { bufferedSeconds: 0, starvedSeconds: 0, skippedSeconds: 0, peak: [0, 0], underruns: 0, ratio: 1, heard: 0, waiting: true };

  /** feed(port, rateHz): called with the port that takes audio, whenever there is a new one. */
  constructor(feed) {
    super();
    this.#feed = feed;
  }

  /** Whether sound can be made now; false before the first gesture. */
  get started() {
    return this.#node !== null && this.#context.state !== "closed";
  }

  get rateHz() {
    return this.#context?.sampleRate ?? 0;
  }

  /** Open the sound at a rate, or resume it. A stream of another rate gets a new context. */
  async start(rateHz) {
    if (this.#context && this.#context.sampleRate !== rateHz) await this.close();
    if (!this.#context) await this.#open(rateHz);
    if (this.#context.state !== "running") await this.#context.resume();
  }

  async close() {
    const context = this.#context;
    this.#context = this.#node = this.analyser = null;
    await context?.close();
  }

  /** Fade out and keep what is buffered, or go on. */
  hold(held) {
    this.#held = held;
    this.#node?.port.postMessage({ order: "hold", held });
  }

  flush() {
    this.#node?.port.postMessage({ order: "flush" });
  }

  /** Phones suspend a page's sound when a call comes in; this brings it back. */
  async wake() {
    if (this.#context && this.#context.state !== "running") await this.#context.resume();
  }

  async #open(rateHz) {
    // "playback": the server's lead is seconds already, and a larger device buffer survives a busy machine.
    const context = new AudioContext({ sampleRate: rateHz, latencyHint: "playback" });
    this.#context = context;
    await context.audioWorklet.addModule(new URL("./worklet.js", import.meta.url));
    const node = new AudioWorkletNode(context, "streamgen-player", { numberOfInputs: 0, outputChannelCount: [2] });
    this.analyser = new AnalyserNode(context, { fftSize: SPECTRUM_SAMPLES, smoothingTimeConstant: 0.72 });
    node.connect(this.analyser).connect(context.destination);
    node.port.onmessage = ({ data }) => this.#reported(data);
    node.port.postMessage({ order: "hold", held: this.#held });
    const { port1, port2 } = new MessageChannel();
    node.port.postMessage({ order: "feed", port: port1 }, [port1]);
    this.#feed(port2, rateHz);
    this.#node = node;
  }

  #reported(data) {
    this.report = data;
    this.dispatchEvent(new CustomEvent("report", { detail: data }));
  }
}
