/* Keys that play the whole instrument, wherever the focus is.
 *
 * Rules: a text field keeps every key, a focused control keeps its own (knobs and points stop their arrows from coming
 * here), and chords with Ctrl, Alt or Meta belong to the browser.
 */

const TEXT = "textarea, input, select, [contenteditable]";

/** act: {play, record, keep, listen, slot(n), blend, nudge(key, fine), help}. */
export function listenForKeys(act) {
  const named = { r: act.record, k: act.keep, l: act.listen, b: act.blend, "?": act.help };
  document.addEventListener("keydown", (event) => {
    if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.target.closest(TEXT) || document.querySelector("dialog[open]")) return;
    if (does(event)) event.preventDefault();
  });

  function does({ key, shiftKey, target, repeat }) {
    if (key === " ") return !repeat && !isPressable(target) && (act.play(), true);
    if (/^[1-9]$/.test(key)) return act.slot(Number(key));
    if (key.startsWith("Arrow")) return target === document.body && (act.nudge(key, shiftKey), true);
    const action = !repeat && named[key.toLowerCase()];
    return action && (action(), true);
  }
}

/** Space presses a focused button, except where it is a knob. */
const isPressable = (target) => target.closest("button, a, summary") !== null;
