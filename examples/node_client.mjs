/* Hear a running `streamgen serve` from Node, turn its prompt, and write what was heard as 16-bit PCM.
 *
 *   node examples/node_client.mjs http://127.0.0.1:8711 4 heard.pcm        Node 22; before, node --experimental-websocket
 *   ffplay -f s16le -ar 48000 -ac 2 heard.pcm
 */

import { createWriteStream } from "node:fs";

import { connect } from "../bridge/web/client.js";

const [url = "http://127.0.0.1:8711", seconds = "4", out = "heard.pcm"] = process.argv.slice(2);

const live = await connect(url);
console.log(`${live.hello.model} is ${live.state}, ${live.rateHz} Hz`);
live.addEventListener("changed", ({ detail }) => console.log(`${detail.by} set ${JSON.stringify(detail.values)}`));
await live.set({ "prompt/1/text": "solo piano, 94 bpm" });

const file = createWriteStream(out);
let heard = 0;
for await (const { samples, frames, rateHz } of live.chunks()) {
  file.write(Buffer.from(Int16Array.from(samples, (x) => Math.max(-32768, Math.min(32767, Math.round(32768 * x)))).buffer));
  heard += frames / rateHz;
  if (heard >= Number(seconds)) break;
}
file.end();
live.close();
console.log(`${heard.toFixed(1)} s in ${out}, ${live.missedFrames} frames missed`);
