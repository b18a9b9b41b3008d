/* The page: joins connection, state, sound and controls.
 *
 * Rules: the only file that knows all the others. What the server says goes to the state and the player; what the hand
 * does goes to the server, and is seen and, where it can be, heard at once. Addresses: ?session=NAME#token=…
 */

import { announce, explainUnderFingers, toast, write } from "./announce.js";
import { BeatLight } from "./beat.js";
import { Controls } from "./controls.js";
import { Dropped } from "./dropped.js";
import { Figures } from "./figures.js";
import { listenForKeys } from "./keys.js";
import { Link } from "./link.js";
import { Meters } from "./meters.js";
import { Midi } from "./midi.js";
import { Player } from "./player.js";
import { plays, streamUrl } from "./protocol.js";
import { Rack } from "./rack.js";
import { Recorder } from "./recorder.js";
import { colour, Slots } from "./slots.js";
import { State } from "./state.js";
import { mixColours, rgb, Surface } from "./surface.js";

const CHUNK_MS = 40;
const FADE_MS = 60; // longer than the ring's own fade
const COMMITTED_SECONDS = 0.2; // the server tells of music that long before it is due
const PART_SECONDS = 3; // the name of a part that has begun is shown for so long

const $ = (id) => document.getElementById(id);
const glowing = [$("play"), $("surface").querySelector("canvas")];
const query = new URLSearchParams(location.search);
const access = { session: query.get("session"), token: takeToken() };

const connection = new Link();
const state = new State((values) => connection.send("set", { values }));
const player = new Player((port, rateHz) => connection.feed(port, rateHz));
const recorder = new Recorder();
const slots = new Slots($("slots"), state);
const surface = new Surface($("surface"), state, slots);
const elsewhere = /^(prompt|plugin)\/\d+\/|^midi\//;
const rare = /^(top_|context_|change_context_|lead_|audition|guard|on_bar)/;
const boxes = (prefix) => Object.fromEntries(["knobs", "words", "switches"].map((kind) => [kind, $(`${prefix}${kind}`)]));
const controls = [
  new Controls(boxes(""), state, (name) => !elsewhere.test(name) && !rare.test(name)),
  new Controls(boxes("advanced-"), state, (name) => rare.test(name)),
];
const rack = new Rack($("rack"), state, (type, fields) => connection.send(type, fields));
const midi = new Midi($("midi"), state);
const dropped = new Dropped((type, fields) => connection.send(type, fields), (bytes) => connection.upload(bytes));
const light = new BeatLight($("beat"), $("beat-words"));

const session = {
  rateHz: 0, playing: false, listening: sessionStorage.getItem("listening") !== "no", arrivesAt: 0, parts: [], greeted: false, eager: false, asked: null,
  peaks: [0, 0], told: { position: 0, atMs: 0 }, // as the server tells them
};
/** Whether this page makes the sound: else it shows the music as the server tells it. */
const soundsHere = () => session.listening && player.started;
const peaks = () => (soundsHere() ? player.report.peak : session.playing ? session.peaks : [0, 0]);
const meters = new Meters($("spectrum"), $("level"), player, peaks);
const figures = new Figures(player, slots, soundsHere);

/** Out of the address bar, where it would be read over a shoulder, kept in a history and sent along with a link. */
function takeToken() {
  const hash = new URLSearchParams(location.hash.slice(1));
  const given = hash.get("token") ?? query.get("token");
  if (given === null) return sessionStorage.getItem("token");
  query.delete("token");
  hash.delete("token");
  const rest = `${query.size ? `?${query}` : ""}${hash.size ? `#${hash}` : ""}`;
  history.replaceState(null, "", location.pathname + rest);
  sessionStorage.setItem("token", given); // for a reload; it ends with the tab
  return given;
}

// ---- the server speaks

const told = {
  hello: greet,
  ack: ({ id, ready }) => {
    dropped.acknowledged(id, ready);
    state.acknowledged(id);
    rack.answered(id);
  },
  error: ({ id, message }) => {
    state.refused(id);
    rack.answered(id);
    if (id && id === session.asked?.id) showTransport(session.asked.before, true);
    dropped.refused(id);
    toast(message, { urgent: true });
  },
  changed: ({ values, applied_at_sample }) => {
    state.changed(values);
    if (values.arrange === false) session.parts = session.parts.slice(-1); // the one that stays was told just before
    if (Object.keys(values).some((name) => name.startsWith("prompt"))) session.arrivesAt = applied_at_sample ?? 0;
  },
  table: ({ parameters, values, slots: inRack }) => {
    state.retable(parameters, values);
    rack.build(inRack);
    midi.build();
  },
  slot_fault: (fault) => {
    rack.fault(fault);
    toast(fault.reason ? `${fault.name}: ${fault.reason}; its input is heard` : `${fault.name} is back`);
  },
  presets: ({ names, by }) => {
    rack.presets(names);
    if (by !== "resync") toast("The preset is saved");
  },
  transport: ({ action, state: now, applied_at_sample: position }) => {
    noteTime(position);
    if (action === "stop") setTimeout(() => player.flush(), FADE_MS);
    showTransport(plays(now));
  },
  gap: ({ samples, rate_hz, reason }) => {
    const ms = Math.ceil((1000 * samples) / rate_hz);
    const long = ms < 100 ? `${ms} ms` : `${(ms / 1000).toFixed(1)} s`;
    toast(reason === "slow_client" ? `This connection was too slow: ${long} of music are missing` : `The server was late: ${long} are missing`);
  },
  notice: ({ topic, text, applied_at_sample: at }) => (topic === "heard" ? showHeard(text) : topic === "part" ? noteParts(text, at) : toast(text)),
  beat: (beat) => light.told(beat, soundsHere()),
  meter: ({ left_db, right_db }) => {
    session.peaks = [left_db, right_db].map((db) => 10 ** (db / 20));
    if (!soundsHere()) showLevel();
  },
  stats: (stats) => {
    noteTime(stats.position_samples);
    figures.told(stats, session.playing);
    rack.report(stats.slots);
  },
  goaway: ({ reason }) => toast(`The server says goodbye: ${reason}`),
};

connection.addEventListener("message", ({ detail }) => told[detail.type]?.(detail));
connection.addEventListener("frame", ({ detail: frame }) => {
  recorder.take(frame, player.report.heard);
});
connection.addEventListener("status", ({ detail }) => showLink(detail));

function greet(hello) {
  const { session: name, model, sample_rate_hz: rateHz, model_rate_hz: modelRateHz, parameters, state: now } = hello;
  session.rateHz = rateHz;
  noteTime(now.position_samples);
  meters.topHz = Math.min(rateHz, modelRateHz) / 2;
  if (now.position_samples < player.report.heard) startOver();
  state.load(parameters, now.values);
  slots.build();
  surface.build();
  for (const each of controls) each.build();
  rack.greet(hello);
  dropped.greet(hello.follows);
  midi.build();
  $("model").textContent = name && name !== "live" ? `${model} · ${name}` : model;
  showHeard(now.heard);
  showTransport(plays(now.state), true);
  askForAudio();
  connection.send("beats", { enabled: true });
  showMix();
  if (session.greeted) announce("Connected again");
  session.greeted = true;
  if (session.eager) play();
  session.eager = false;
}

/** How audio shall come, once there is a gesture to play it after; the address says the same, for the next try. */
function audioFormat() {
  const format = { codec: "s16le", chunk_ms: CHUNK_MS, enabled: soundsHere() };
  connection.address = streamUrl(location.href, { ...access, ...format });
  return format;
}

/** At the session's own rate: nothing is resampled, and positions mean the same everywhere. */
function askForAudio() {
  connection.send("audio", { ...audioFormat(), sample_rate_hz: session.rateHz });
  connection.send("meters", { enabled: !soundsHere() });
}

/** A server that was started anew counts from zero: what is buffered belongs to music that no longer is. */
function startOver() {
  if (recorder.recording) save(recorder.stop(player.report.heard));
  recorder.clear();
  light.clear();
  player.flush();
  session.arrivesAt = 0;
  session.parts = [];
}

function showTransport(playing, quietly = false) {
  if (playing === session.playing && !quietly) return;
  session.playing = playing;
  player.hold(!playing);
  document.body.dataset.transport = playing ? "playing" : "paused";
  showPlay();
  if (!quietly) announce(playing ? "Playing" : "Paused");
}

// ---- the hand acts

async function play() {
  const joins = session.listening && !player.started;
  if (!session.greeted) return playOnceConnected();
  if (!connection.isOpen) return;
  if (joins) document.body.classList.add("is-buffering"); // until the player reports
  if (session.listening && !(await startSound())) return;
  if (joins) askForAudio();
  if (joins && session.playing) return showPlay(); // it plays already, elsewhere: only join in
  const before = session.playing;
  session.asked = { id: connection.send("transport", { action: before ? "pause" : "play" }), before };
  showTransport(!before);
  if (before && figures.listeners > 1) toast(`Paused for all ${figures.listeners} who listen`);
}

/** Open the sound; tells what is wrong if there will be none. */
async function startSound() {
  try {
    await player.start(session.rateHz);
  } catch (fault) {
    document.body.classList.remove("is-buffering");
    await player.close();
    toast(`There is no sound here: ${fault.message}. Try again, or another browser; Listen off makes this a remote control`, { urgent: true });
  }
  return player.started;
}

/** Pressed before the server has answered, as on a browser's first, slow start: it plays as soon as it can. */
function playOnceConnected() {
  session.eager = !session.eager;
  announce(session.eager ? "Playing as soon as the server answers" : "Not playing");
}

async function toggleListening() {
  session.listening = !session.listening;
  sessionStorage.setItem("listening", session.listening ? "yes" : "no"); // for a reload
  showListening();
  if (session.listening && session.rateHz) await startSound();
  player.hold(!session.listening || !session.playing);
  if (!session.listening) {
    document.body.classList.remove("is-buffering");
    setTimeout(() => player.flush(), FADE_MS);
  }
  askForAudio();
  showPlay();
  announce(session.listening ? "Sound on this device is on" : "Sound on this device is off");
}

async function toggleRecording() {
  if (recorder.recording) return save(recorder.stop(player.report.heard));
  if (!player.started) await play();
  if (!player.started) return toast("Nothing is received yet: connect and play first");
  recorder.start(player.report.heard);
  showRecording();
  announce("Recording");
}

/** Keep what was heard last: the server writes it, and tells its name to everybody. */
function keep() {
  connection.send("keep");
}

function save(file) {
  showRecording();
  if (!file) return toast("Nothing was heard, so nothing was recorded");
  const link = document.createElement("a");
  link.href = URL.createObjectURL(file);
  link.download = `streamgen ${new Date().toISOString().slice(0, 19).replaceAll(":", ".").replace("T", " ")}.wav`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
  toast(`Saved ${link.download}`);
}

$("play").addEventListener("click", play);
$("listen").addEventListener("click", toggleListening);
$("record").addEventListener("click", toggleRecording);
$("keep").addEventListener("click", keep);
for (const action of ["stop", "reset"]) $(action).addEventListener("click", () => connection.send("transport", { action }));
$("full").hidden = !document.fullscreenEnabled;
$("full").addEventListener("click", () => (document.fullscreenElement ? document.exitFullscreen() : document.documentElement.requestFullscreen()));
$("suggest").addEventListener("click", () => {
  slots.suggest();
  slots.select(1);
});
$("help").addEventListener("click", () => $("hints").showModal());
$("retry").addEventListener("click", () => connection.connect());
$("token-form").addEventListener("submit", (event) => {
  event.preventDefault();
  access.token = $("token").value;
  sessionStorage.setItem("token", access.token);
  audioFormat();
  connection.connect();
});
document.addEventListener("visibilitychange", () => !document.hidden && session.playing && session.listening && player.wake());
listenForKeys({
  play,
  record: toggleRecording,
  keep,
  listen: toggleListening,
  slot: (number) => slots.select(number),
  blend: () => $("surface").querySelector(".cursor").focus(),
  nudge: (key, fine) => surface.nudge(key, fine),
  help: () => $("hints").showModal(),
});

// ---- what is seen

function showListening() {
  $("listen").setAttribute("aria-checked", session.listening);
}

function showPlay() {
  if (!player.started) write("arrival", session.playing && session.listening ? "playing: press to join" : "");
  const sounding = session.playing && (player.started || !session.listening);
  $("play").classList.toggle("is-playing", sounding);
  $("play").setAttribute("aria-label", sounding ? "Pause" : session.playing ? "Join the music" : "Play");
}

function showLink({ state: link, reason, inSeconds }) {
  document.body.dataset.link = link;
  const seconds = inSeconds < 1 ? "a moment" : `${Math.round(inSeconds)} s`;
  const words = { connecting: "connecting", open: "connected", waiting: "reconnecting", refused: "refused" }[link];
  const notice = { waiting: `The connection is lost${reason && ` (${reason})`}. Trying again in ${seconds}.`, refused: `The server refused: ${reason}` }[link];
  $("link-words").textContent = words;
  if (link === "connecting") return;
  $("notice").hidden = !notice;
  $("token-form").hidden = link !== "refused";
  $("notice-words").textContent = notice ?? "";
  if (notice) announce(notice);
}

/** What the model understood of the prompts; nothing where it reads them as they are typed. */
function showHeard(line) {
  write("heard", line ? `heard: ${line}` : "");
}

function showRecording() {
  $("record").setAttribute("aria-pressed", recorder.recording);
  if (!recorder.recording) $("record-name").textContent = "Rec";
}

const clock = (seconds) => `${Math.floor(seconds / 60)}:${String(Math.floor(seconds % 60)).padStart(2, "0")}`;

/** Where the session is, by the server; what it tells of is heard COMMITTED_SECONDS later. */
function noteTime(position) {
  session.told = { position, atMs: performance.now() };
}

/** The clock and the level where this page makes no sound. */
function showFromAfar() {
  if (soundsHere() || !session.rateHz) return;
  const { position, atMs } = session.told;
  const since = session.playing ? (performance.now() - atMs) / 1000 : 0;
  const seconds = Math.max(0, position / session.rateHz - COMMITTED_SECONDS + since);
  write("clock", clock(seconds));
  if (player.started || !session.listening) write("arrival", partBegun(seconds * session.rateHz, session.rateHz));
  showLevel();
}

function showLevel() {
  meters.drawSoon();
  pulse(Math.max(...peaks()));
}

player.addEventListener("report", ({ detail: report }) => {
  if (!soundsHere()) return;
  const rate = player.rateHz || 1;
  write("clock", clock(report.heard / rate));
  light.heard(report.heard, rate);
  document.body.classList.toggle("is-buffering", session.playing && session.listening && report.waiting);
  if (recorder.recording) write("record-name", clock(recorder.seconds(report.heard)));
  showArrival(report.heard, rate);
  figures.showUnderruns();
  pulse(Math.max(...report.peak));
});

/** Glow with the music, in ten shades: each new one paints a good part of the page. */
function pulse(peak) {
  const shade = Math.min(1, peak).toFixed(1);
  for (const lit of glowing) if (lit.style.getPropertyValue("--pulse") !== shade) lit.style.setProperty("--pulse", shade);
}

function showArrival(heard, rate) {
  const seconds = (session.arrivesAt - heard) / rate;
  write("arrival", session.playing && seconds > 0.05 && seconds < 60 ? `change heard in ${seconds.toFixed(1)} s` : partBegun(heard, rate));
}

/** Keep a part of the scene until it is heard: it is told as far ahead as music is made. */
function noteParts(text, at) {
  session.parts = [...session.parts.filter((part) => part.at < at).slice(-7), { text, at }];
}

/** The part that has just begun, for as long as it takes to read. */
function partBegun(heard, rate) {
  const part = session.parts.findLast(({ at }) => at <= heard);
  return session.playing && part && heard - part.at < PART_SECONDS * rate ? part.text : "";
}

setInterval(() => {
  const peak = Math.max(...peaks());
  const db = peak > 0 ? Math.max(-60, Math.round(20 * Math.log10(peak))) : -60;
  $("level").setAttribute("aria-valuenow", db);
  $("level").setAttribute("aria-valuetext", db > -60 ? `${db} dB` : "silent");
}, 500);

setInterval(showFromAfar, 200);

/** The whole instrument takes the colour of what plays. */
function showMix() {
  const heard = slots.filled.filter(({ weight }) => weight > 0);
  const mix = heard.length ? mixColours(heard.map(({ number }) => rgb(colour(number))), heard.map(({ weight }) => weight)) : [150, 156, 176];
  const words = `rgb(${mix.map(Math.round).join(" ")})`;
  document.body.style.setProperty("--mix", words);
  const parts = heard.toSorted((a, b) => b.weight - a.weight).slice(0, 3).map(({ number }) => colour(number));
  meters.colours = parts.length ? [parts[0], words, parts.at(-1)] : [words, words];
}

state.addEventListener("value", ({ detail }) => detail.name.startsWith("prompt/") && showMix());

// For tests and the curious: nothing in the page reads it.
globalThis.streamgen = { connection, state, player, recorder, slots, surface, session };

showListening();
explainUnderFingers();
audioFormat();
connection.connect();
