/* A recording that is dropped on the page: the music goes on from it, follows its melody, or takes on its style.
 *
 * Rules: asks which only where the checkpoint follows audio; knows no socket. A message announces the bytes, which are sent
 * when the server is ready for them. Melody and style are everybody's, so anybody may end them.
 */

import { toast } from "./announce.js";

export class Dropped {
  #send;
  #upload;
  #dialog = document.getElementById("dropped");
  #end = document.getElementById("unfollow");
  #follows = [];
  #waiting = null; // {id, kind, bytes} of what was announced

  /** send(type, fields): gives the message's id, or 0; upload(bytes): sends what one has announced. */
  constructor(send, upload) {
    this.#send = send;
    this.#upload = upload;
    document.addEventListener("dragover", (event) => event.dataTransfer.types.includes("Files") && event.preventDefault());
    document.addEventListener("drop", (event) => {
      const [file] = event.dataTransfer.files;
      if (!file) return;
      event.preventDefault();
      this.#take(file);
    });
    this.#end.addEventListener("click", () => this.#follows.forEach((kind) => send(kind, { bytes: 0 })));
  }

  /** Take which kinds of audio the checkpoint follows. */
  greet(follows) {
    this.#follows = follows;
    this.#waiting = null;
    this.#end.hidden = follows.length === 0;
    this.#end.textContent = `No ${follows.join(", ")}`;
    for (const button of this.#dialog.querySelectorAll("[data-follows]")) button.hidden = !follows.includes(button.value);
  }

  /** The server is ready for bytes, or has done something. */
  acknowledged(id, ready) {
    if (!id || id !== this.#waiting?.id) return;
    const { kind, bytes } = this.#waiting;
    if (ready) return this.#upload(bytes);
    this.#waiting = null;
    if (kind === "audio_prompt") toast("The music goes on from what was dropped"); // of the others the server tells everybody
  }

  refused(id) {
    if (id && id === this.#waiting?.id) this.#waiting = null;
  }

  async #take(file) {
    const kind = this.#follows.length ? await this.#asked(file.name) : "audio_prompt";
    if (!kind) return;
    const bytes = await file.arrayBuffer();
    this.#waiting = { id: this.#send(kind, { bytes: bytes.byteLength }), kind, bytes };
    if (this.#waiting.id) toast(`Sending ${file.name}`);
  }

  /** Ask what the recording is for; "" is for nothing. */
  #asked(name) {
    const dialog = this.#dialog;
    if (dialog.open) return "";
    document.getElementById("dropped-name").textContent = name;
    dialog.returnValue = "";
    dialog.showModal();
    return new Promise((done) => dialog.addEventListener("close", () => done(dialog.returnValue), { once: true }));
  }
}
