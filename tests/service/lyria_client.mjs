/* Google's own SDK for JavaScript, unmodified, at a streamgen over plain ws. Prints what it heard.
 *
 *   node lyria_client.mjs http://127.0.0.1:8711 8          with @google/genai beside it
 */

import { GoogleGenAI, Scale } from "@google/genai";

const [, , baseUrl, seconds] = process.argv;
const ms = 1000 * Number(seconds);
const wait = (time) => new Promise((done) => setTimeout(done, time));
const told = { seconds: 0, empty: 0, closed: "" };

console.warn = () => {};
const client = new GoogleGenAI({ apiKey: "any", apiVersion: "v1alpha", httpOptions: { baseUrl } });
const session = await client.live.music.connect({
  model: "models/lyria-realtime-exp",
  callbacks: {
    onmessage: (message) => {
      if (message.setupComplete) return;
      const chunk = message.serverContent?.audioChunks?.[0];
      if (!chunk?.data) told.empty += 1;
      else told.seconds += Buffer.from(chunk.data, "base64").length / 4 / 48000;
    },
    onclose: ({ code, reason }) => (told.closed = `${code} ${reason}`),
  },
});
await session.setWeightedPrompts({ weightedPrompts: [{ text: "Piano", weight: 1.0 }] });
await session.setMusicGenerationConfig({ musicGenerationConfig: { bpm: 94, temperature: 1.0 } });
await session.play();
await wait(ms / 2);
await session.setWeightedPrompts({ weightedPrompts: [{ text: "Drums", weight: 1.5 }, { text: "Bass", weight: 0.3 }] });
await session.setMusicGenerationConfig({ musicGenerationConfig: { bpm: 125, scale: Scale.C_MAJOR_A_MINOR, muteDrums: true } });
await session.resetContext();
await session.setMusicGenerationConfig({ musicGenerationConfig: {} });
await wait(ms / 2);
await session.pause();
await wait(1000);
const paused = told.seconds;
await wait(1000);
told.paused = paused === told.seconds;
await session.stop();
told.open = told.closed === "";
session.close();
console.log(JSON.stringify(told));
process.exit(0);
