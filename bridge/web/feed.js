/* The worker that holds the socket, so that the page's own work never holds up the sound.
 *
 *     server ──socket──► this worker ──port──► audio thread          audio, and the server's clock
 *                          │    ▲
 *                     messages  orders, through link.js              the page: draws, records, may stall
 *
 * Rules: no DOM. Audio goes straight to the audio thread; the page gets the bytes too, for it records them.
 */

import { nowMs, ServerClock } from "./clock.js";
import { Connection, toFloat } from "./protocol.js";

const CLOCK = "clock"; // id of the pings that ask for the time; the page's own are numbers
const ASK_SOON_MS = 150;
const ASK_MS = 2000;

let address = "";
let player = null; // {port, rateHz} once there is sound
let clock = new ServerClock();
let asking = 0;
const connection = new Connection(() => address);

const orders = {
  address: ({ url }) => (address = url),
  connect: () => connection.connect(),
  send: ({ message }) => connection.send(message),
  player: ({ port, rateHz }) => {
    player = { port, rateHz };
    tellClock();
  },
};

onmessage = ({ data }) => orders[data.order](data);

connection.addEventListener("status", ({ detail }) => postMessage({ event: "status", detail }));
connection.addEventListener("message", ({ detail }) => {
  if (detail.type === "hello") startClock();
  if (detail.id === CLOCK) answered(detail);
  else postMessage({ event: "message", detail });
});
connection.addEventListener("frame", ({ detail: frame }) => {
  if (player && frame.rateHz === player.rateHz) play(frame);
  postMessage({ event: "frame", detail: frame }, [frame.bytes.buffer]);
});

self.addEventListener("online", () => connection.isOpen || connection.connect());

function play(frame) {
  const samples = toFloat(frame);
  const { position, discontinuity, timeUs } = frame;
  player.port.postMessage({ samples, position, discontinuity, due: timeUs / 1e6 }, [samples.buffer]);
}

// ---- the server's clock

/** Another server may have another clock. */
function startClock() {
  clock = new ServerClock();
  askTheTime();
}

function askTheTime() {
  clearTimeout(asking);
  connection.send({ type: "ping", id: CLOCK, t: nowMs() });
  asking = setTimeout(askTheTime, clock.settled ? ASK_MS : ASK_SOON_MS);
}

function answered({ t, server_time_us: serverUs }) {
  if (serverUs === undefined) return; // an error: asked again soon
  clock.note(t, serverUs, nowMs());
  tellClock();
}

function tellClock() {
  if (clock.offsetMs !== null) player?.port.postMessage({ order: "server", offsetMs: clock.offsetMs });
}

