/* Pictures of the sound that is heard: spectrum and level.
 *
 * Rules: draws from the player's analyser when the player reports, 25 times a second or, where less motion is preferred,
 * eight times; where this page makes no sound, the level alone, as often as the server tells it. A browser without a graphics card paints with the processor that makes the music, and the screen's rate
 * is more than that can spare. Draws nothing while the page is hidden, or once silence is drawn.
 */

const LOWEST_HZ = 40;
const FLOOR_DB = -92;
const CEILING_DB = -18;
const METER_FLOOR_DB = -54;
const CALM_MS = 125;
const FALL_DB_PER_SECOND = 26;
const HOLD_SECONDS = 1.2;

const calm = matchMedia("(prefers-reduced-motion: reduce)");

export class Meters {
  #spectrum;
  #level;
  #player;
  #peaks;
  #bins = null;
  #shown = [METER_FLOOR_DB, METER_FLOOR_DB];
  #held = [{ db: METER_FLOOR_DB, at: 0 }, { db: METER_FLOOR_DB, at: 0 }];
  #drawnAt = 0;
  #frame = 0;
  #still = false;
  colours = ["#fff", "#fff"];
  topHz = 16_000; // where the music ends

  /** peaks(): [left, right] of what is heard now, 0 … 1. */
  constructor(spectrum, level, player, peaks) {
    this.#spectrum = spectrum;
    this.#level = level;
    this.#player = player;
    this.#peaks = peaks;
    new ResizeObserver(() => this.#resized()).observe(spectrum.parentElement);
    player.addEventListener("report", () => this.drawSoon());
  }

  #resized() {
    [this.#spectrum, this.#level].forEach(fit);
    this.#still = false; // resizing wiped them
    this.drawSoon();
  }

  drawSoon() {
    this.#frame ||= requestAnimationFrame((now) => this.#draw(now));
  }

  #draw(now) {
    this.#frame = 0;
    if (calm.matches && now - this.#drawnAt < CALM_MS) return;
    const seconds = Math.min(0.2, (now - this.#drawnAt) / 1000);
    this.#drawnAt = now;
    this.#peaks().forEach((peak, channel) => this.#follow(channel, peak, seconds, now / 1000));
    const count = Math.max(24, Math.min(112, Math.floor(this.#spectrum.width / (8 * (devicePixelRatio || 1)))));
    const bars = this.#bars(count);
    const silent = bars.every((share) => share === 0) && this.#held.every(({ db }) => db === METER_FLOOR_DB);
    if (silent && this.#still) return;
    this.#still = silent;
    this.#drawSpectrum(bars);
    this.#drawLevel();
  }

  #drawSpectrum(bars) {
    const { width, height } = this.#spectrum;
    const brush = this.#spectrum.getContext("2d");
    const ratio = devicePixelRatio || 1;
    const step = width / bars.length;
    brush.clearRect(0, 0, width, height);
    brush.fillStyle = this.#gradient(brush, width);
    brush.beginPath();
    bars.forEach((share, i) => {
      const tall = Math.max(2.5 * ratio, share * height);
      brush.roundRect(i * step + step * 0.19, height - tall, step * 0.62, tall, [step * 0.3, step * 0.3, 0, 0]);
    });
    brush.fill();
  }

  #gradient(brush, width) {
    const gradient = brush.createLinearGradient(0, 0, width, 0);
    this.colours.forEach((colour, i) => gradient.addColorStop(this.colours.length > 1 ? i / (this.colours.length - 1) : 0, colour));
    return gradient;
  }

  /** Loudest bin of each bar, bars evenly spaced in pitch; 0 … 1. */
  #bars(count) {
    const analyser = this.#player.analyser;
    if (!analyser) return new Array(count).fill(0);
    if (this.#bins?.length !== analyser.frequencyBinCount) this.#bins = new Float32Array(analyser.frequencyBinCount);
    analyser.getFloatFrequencyData(this.#bins);
    const edge = (i) => (LOWEST_HZ * (this.topHz / LOWEST_HZ) ** (i / count) * this.#bins.length) / (this.#player.rateHz / 2);
    return Array.from({ length: count }, (_, i) => {
      let loudest = -Infinity;
      for (let bin = Math.floor(edge(i)); bin <= Math.min(this.#bins.length - 1, edge(i + 1)); bin++) loudest = Math.max(loudest, this.#bins[bin]);
      // Music falls by some 4.5 dB an octave; lifting the top by it lets the whole width move.
      const lifted = loudest + 4 * Math.log2(edge(i + 0.5) / edge(count / 3));
      return Math.min(1, Math.max(0, (lifted - FLOOR_DB) / (CEILING_DB - FLOOR_DB)));
    });
  }

  #drawLevel() {
    const { width, height } = this.#level;
    const brush = this.#level.getContext("2d");
    const upright = height > width;
    const thick = (upright ? width : height) / 2 - 2;
    brush.clearRect(0, 0, width, height);
    for (const channel of [0, 1]) this.#bar(brush, upright, channel * (thick + 4), thick, upright ? height : width, channel);
  }

  #follow(channel, peak, seconds, now) {
    const db = peak > 0 ? Math.max(METER_FLOOR_DB, 20 * Math.log10(peak)) : METER_FLOOR_DB;
    this.#shown[channel] = Math.max(db, this.#shown[channel] - FALL_DB_PER_SECOND * seconds);
    if (db >= this.#held[channel].db || now - this.#held[channel].at > HOLD_SECONDS) this.#held[channel] = { db: this.#shown[channel], at: now };
  }

  #bar(brush, upright, at, thick, long, channel) {
    const segments = Math.max(12, Math.round(long / (7 * (devicePixelRatio || 1))));
    const step = long / segments;
    for (let i = 0; i < segments; i++) {
      const db = METER_FLOOR_DB * (1 - (i + 1) / segments);
      const held = Math.abs(this.#held[channel].db - db) < -METER_FLOOR_DB / segments / 2 && this.#held[channel].db > METER_FLOOR_DB + 1;
      brush.globalAlpha = db <= this.#shown[channel] && this.#shown[channel] > METER_FLOOR_DB ? 1 : held ? 0.75 : 0.13;
      brush.fillStyle = db > -3 ? "#ff6b5e" : db > -12 ? "#ffd166" : "#5fe3a8";
      const along = i * step;
      if (upright) brush.fillRect(at, long - along - step * 0.8, thick, step * 0.72);
      else brush.fillRect(along, at, step * 0.72, thick);
    }
    brush.globalAlpha = 1;
  }
}

function fit(canvas) {
  const ratio = devicePixelRatio || 1;
  canvas.width = Math.round(canvas.clientWidth * ratio);
  canvas.height = Math.round(canvas.clientHeight * ratio);
}
