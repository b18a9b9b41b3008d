/* The page's end of feed.js: the connection as the page sees it.
 *
 * Rules: no socket here. Ids of messages are given here, so that whoever asks can wait for the answer at once. Tells
 * "status", "message" and "frame", as protocol.js describes them.
 */

export class Link extends EventTarget {
  #worker = new Worker(new URL("./feed.js", import.meta.url), { type: "module" });
  #lastId = 0;
  isOpen = false;

  constructor() {
    super();
    this.#worker.onmessage = ({ data }) => this.#told(data);
  }

  /** Where to connect from now on; a connection that stands is kept. */
  set address(url) {
    this.#worker.postMessage({ order: "address", url });
  }

  connect() {
    this.#worker.postMessage({ order: "connect" });
  }

  /** Send a message; returns its id, or 0 while there is no connection. */
  send(type, fields = {}) {
    if (!this.isOpen) return 0;
    const id = ++this.#lastId;
    this.#worker.postMessage({ order: "send", message: { type, id, ...fields } });
    return id;
  }

  /** Send what a message has announced. */
  upload(bytes) {
    this.#worker.postMessage({ order: "send", message: bytes }, [bytes]);
  }

  /** Give audio to the audio thread's port from now on, without passing through the page. */
  feed(port, rateHz) {
    this.#worker.postMessage({ order: "player", port, rateHz }, [port]);
  }

  #told({ event, detail }) {
    if (event === "status") this.isOpen = detail.state === "open";
    this.dispatchEvent(new CustomEvent(event, { detail }));
  }
}
