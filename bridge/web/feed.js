/* The worker that holds the socket, so that the page's own work never holds up the sound.
 *
 *     server ──socket──► this worker ──port──► audio thread          audio, in order with `discard`
 *                          │    ▲
 *                     messages  orders, through link.js              the page: draws, records, may stall
 *
 * Rules: no DOM. Audio goes straight to the audio thread; the page gets the bytes too, for it records them.
 */

import { Connection, toFloat } from "./protocol.js";

let address = "";
let player = null; // {port, rateHz} once there is sound
const connection = new Connection(() => address);

const orders = {
  address: ({ url }) => (address = url),
  connect: () => connection.connect(),
  send: ({ message }) => connection.send(message),
  player: ({ port, rateHz }) => (player = port && { port, rateHz }),
};

onmessage = ({ data }) => orders[data.order](data);

connection.addEventListener("status", ({ detail }) => postMessage({ event: "status", detail }));
connection.addEventListener("message", ({ detail }) => {
  if (detail.type === "discard") player?.port.postMessage({ order: "discard", position: detail.from_sample });
  postMessage({ event: "message", detail });
});
connection.addEventListener("frame", ({ detail: frame }) => {
  if (player && frame.rateHz === player.rateHz) play(frame);
  postMessage({ event: "frame", detail: frame }, [frame.bytes.buffer]);
});

function play(frame) {
  const samples = toFloat(frame);
  player.port.postMessage({ samples, position: frame.position, discontinuity: frame.discontinuity }, [samples.buffer]);
}
