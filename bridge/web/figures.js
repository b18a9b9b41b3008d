/* The figures: how the server and this page keep up, and what blending costs.
 *
 * Rules: the server tells its own once a second. A lead that shrinks is said before it is gone.
 */

import { toast, write } from "./announce.js";

const $ = (id) => document.getElementById(id);

export class Figures {
  #player;
  #slots;
  #soundsHere;
  #serverUnderruns = 0;
  #slow = false;
  listeners = 0;

  /** soundsHere(): whether this page makes the sound now. */
  constructor(player, slots, soundsHere) {
    this.#player = player;
    this.#slots = slots;
    this.#soundsHere = soundsHere;
  }

  /** Show what the server told. */
  told({ underruns, lead_seconds: lead, realtime_factor, listeners, window_position }, playing) {
    const factor = realtime_factor ?? 0; // 0 and null: not measured yet
    this.#serverUnderruns = underruns ?? 0;
    this.listeners = listeners;
    write("stat-lead", `${(lead ?? 0).toFixed(1)} s`);
    write("stat-factor", factor ? factor.toFixed(2) : "–");
    $("stat-factor").parentElement.classList.toggle("is-bad", factor > 0 && factor < 1);
    write("stat-buffer", `${this.#player.report.bufferedSeconds.toFixed(1)} s`);
    write("stat-listeners", String(listeners));
    write("stat-window", String(window_position ?? "–"));
    this.#showCost(factor, lead ?? 0, playing);
    this.showUnderruns();
  }

  /** Each prompt of a blend is a row more for the model. */
  #showCost(factor, lead, playing) {
    const count = this.#slots.filled.filter(({ weight }) => weight > 0).length;
    const slow = playing && factor > 0 && factor < 1;
    write("blend-cost", count > 1 && factor ? `${count} prompts at ${factor.toFixed(factor < 2 ? 2 : 1)} × real time` : "drag through the colours");
    $("blend-cost").classList.toggle("is-bad", slow);
    if (slow && !this.#slow) {
      const remedy = count > 1 ? `${count} prompts at once are too many here: fewer are faster` : "This machine is too slow for the model";
      toast(`${remedy}. The sound runs dry in ${Math.round(lead / (1 - factor))} s`, { urgent: true });
    }
    this.#slow = slow;
  }

  showUnderruns() {
    // Where the server was late the sound ran dry here too: one number, the ear's if there is one.
    const count = this.#soundsHere() ? this.#player.report.underruns : this.#serverUnderruns;
    const tile = $("stat-underruns").parentElement;
    write("stat-underruns", String(count));
    tile.classList.toggle("is-bad", count > 0);
    tile.title = `times the sound ran dry here; the server was late ${this.#serverUnderruns} times`;
  }
}
