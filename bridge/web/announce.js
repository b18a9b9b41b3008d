/* Words to the musician: to screen readers through live regions, to eyes in a passing line.
 *
 * Rules: one line at a time; a change of a knob is never announced here, its own slider says it.
 */

const SHOWN_MS = 4200;
let timer = 0;

/** Say it to screen readers only: what the eye sees anyway. */
export function announce(words, { urgent = false } = {}) {
  document.getElementById(urgent ? "alert" : "said").textContent = words;
}

/** Write only what is new: the same words once more would be laid out and painted all the same. */
export function write(id, words) {
  const place = document.getElementById(id);
  if (place.textContent !== words) place.textContent = words;
}

/** Say it to everyone. */
export function toast(words, { urgent = false } = {}) {
  announce(words, { urgent });
  const line = document.getElementById("toast");
  line.textContent = words;
  line.classList.toggle("is-urgent", urgent);
  line.classList.add("is-shown");
  clearTimeout(timer);
  timer = setTimeout(() => line.classList.remove("is-shown"), SHOWN_MS);
}
