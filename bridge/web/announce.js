/* Words to the musician: to screen readers through live regions, to eyes in a passing line.
 *
 * Rules: one line at a time; a change of a knob is never announced here, its own slider says it.
 */

const SHOWN_MS = 4200;
const REST_MS = 600; // longer than a tap
const TREMBLE_PX = 10;
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

/** A finger that rests on something is told what a mouse would read there; lifted again, it has pressed nothing. */
export function explainUnderFingers() {
  let resting = 0;
  let from = null;
  let explained = false;
  const end = () => clearTimeout(resting);
  document.addEventListener("pointerdown", ({ target, pointerType, clientX, clientY }) => {
    end();
    explained = false;
    const words = pointerType === "touch" ? target.closest("[title]")?.title : "";
    from = [clientX, clientY];
    if (words) resting = setTimeout(() => (explained = true) && toast(words), REST_MS);
  });
  document.addEventListener("pointermove", ({ clientX, clientY }) => {
    if (from && Math.hypot(clientX - from[0], clientY - from[1]) > TREMBLE_PX) end();
  });
  for (const kind of ["pointerup", "pointercancel"]) document.addEventListener(kind, end);
  document.addEventListener("contextmenu", (event) => explained && event.preventDefault());
  document.addEventListener("click", (event) => {
    if (!explained) return;
    explained = false;
    event.preventDefault();
    event.stopPropagation();
  }, { capture: true });
}
