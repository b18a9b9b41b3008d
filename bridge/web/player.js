/* Sound: an AudioContext at the stream's own rate, the voice, and an analyser for the picture.
 *
 *     secure page (https, localhost)    the voice in the audio thread, an AudioWorklet
 *     plain http from elsewhere         browsers offer none there: the voice in the page, a ScriptProcessor
 *
 * Rules: owns the audio graph, knows no socket and no DOM; the audio itself goes past it, from feed.js to voice.js.
 * `start` must be called from a user's gesture, as browsers demand. Tells "report" (buffer, peaks, underruns) 25 times a
 * second while it runs.
 */

import { OutputClock } from "./clock.js";
import { Voice } from "./voice.js";

const SPECTRUM_SAMPLES = 4096;
// A sound system fills its own buffer at once, two reports long, and may then rest for a second before it plays.
const REPORTS_UNTIL_STEADY = 5;
const SILENT_MS = 8000; // without a report after the gesture: there will be no sound
const PAGE_BLOCK = 2048; // frames that the page makes at once: what it does meanwhile must be shorter
const PAGE_DELAY_SECONDS = 0.2; // it makes them two blocks ahead, and shares its time with all that is drawn

export class Player extends EventTarget {
  #context = null;
  #node = null;
  #held = true;
  #steady = null; // kept when the sound system takes audio as it plays it
  #clock = new OutputClock();
  #feed;
  analyser = null;
  report = { bufferedSeconds: 0, starvedSeconds: 0, skippedSeconds: 0, peak: [0, 0], underruns: 0, ratio: 1, heard: 0, waiting: true, delay: 0, lateness: 0 };

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

  /** Open the sound at a rate, or resume it. A stream of another rate gets a new context.
   *
   * Done when audio is taken at a steady pace: a browser says "running" a good while before that on its first start, and
   * what its clock shows meanwhile is not what will be heard. Fails where the browser gives no sound. */
  async start(rateHz) {
    if (this.#context && this.#context.sampleRate !== rateHz) await this.close();
    if (!this.#context) await this.#open(rateHz);
    const silent = new Promise((_, fail) => setTimeout(() => fail(new Error("the browser gives no sound")), SILENT_MS));
    await Promise.race([this.#sounding(), silent]);
    this.#clock.reset();
  }

  async #sounding() {
    if (this.#context.state !== "running") await this.#context.resume();
    await this.#steady;
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
    this.#steady = this.#reports(REPORTS_UNTIL_STEADY);
    this.#readAnewAfterInterruptions(context);
    const node = context.audioWorklet ? await inTheAudioThread(context) : inThePage(context);
    this.analyser = new AnalyserNode(context, { fftSize: SPECTRUM_SAMPLES, smoothingTimeConstant: 0.72 });
    node.connect(this.analyser).connect(context.destination);
    node.port.onmessage = ({ data }) => this.#reported(data);
    node.port.postMessage({ order: "hold", held: this.#held });
    const { port1, port2 } = new MessageChannel();
    node.port.postMessage({ order: "feed", port: port1 }, [port1]);
    this.#feed(port2, rateHz);
    this.#node = node;
  }

  async #reports(count) {
    for (let i = 0; i < count; i++) await new Promise((done) => this.addEventListener("report", done, { once: true }));
  }

  /** While a phone call or the like held the sound, the context's time stood still: go on with what is due then. */
  #readAnewAfterInterruptions(context) {
    context.onstatechange = () => {
      this.#clock.reset();
      this.#node?.port.postMessage({ order: "heard", offsetMs: NaN });
    };
  }

  /** Tell the audio thread when what it makes is heard. */
  #setClock() {
    const context = this.#context;
    if (context?.state !== "running") return;
    const { contextTime, performanceTime } = context.getOutputTimestamp?.() ?? now(context);
    if (!contextTime || !performanceTime) return; // nothing was heard yet
    this.#clock.note(contextTime, performance.timeOrigin + performanceTime);
    this.#node?.port.postMessage({ order: "heard", offsetMs: this.#clock.offsetMs });
  }

  #reported(data) {
    this.report = data;
    this.#setClock();
    this.dispatchEvent(new CustomEvent("report", { detail: data }));
  }
}

async function inTheAudioThread(context) {
  await context.audioWorklet.addModule(new URL("./worklet.js", import.meta.url));
  return new AudioWorkletNode(context, "streamgen-player", { numberOfInputs: 0, outputChannelCount: [2] });
}

/** A node with a port, as the worklet's is. */
function inThePage(context) {
  const node = context.createScriptProcessor(PAGE_BLOCK, 0, 2);
  const { port1, port2 } = new MessageChannel();
  const voice = new Voice(context.sampleRate, (report) => port2.postMessage(report), PAGE_DELAY_SECONDS);
  port2.onmessage = ({ data }) => voice.order(data);
  node.onaudioprocess = ({ outputBuffer, playbackTime }) =>
    voice.render(outputBuffer.getChannelData(0), outputBuffer.getChannelData(1), playbackTime);
  node.port = port1;
  return node;
}

/** For a browser that does not say what is heard: as if it were what is made now, and the latency it knows of. */
function now({ currentTime, baseLatency = 0, outputLatency = 0 }) {
  return { contextTime: currentTime, performanceTime: performance.now() + 1000 * (baseLatency + outputLatency) };
}
