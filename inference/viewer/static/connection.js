/* The WebSocket to the server: opened, heard, and opened again after it was lost.

   Hands on what arrives (`hello`, `status`, `view`, `refused`) and how the connection stands; knows no pixel. One view
   is under way at a time: the server sends the next after `acknowledge`. A server that says nothing for SILENCE_MS,
   though it speaks each second, is given up, as after a laptop's sleep or a pulled cable. */

import { decodeView } from "./message.js";

const FIRST_WAIT_MS = 250;
const LONGEST_WAIT_MS = 5000;
const BACKOFF = 1.7;
const SILENCE_MS = 10000;
const CHECK_MS = 2000;
const SERVER_ENDED = 1012; // how a server that is closed in an orderly way ends its connections
const FEW = 4; // attempts, before the token is suspected

export class Connection {
  /* `listener` has onHello, onStatus, onView, onRefused and onState(state, words). */
  constructor(listener) {
    this.listener = listener;
    this.wait = FIRST_WAIT_MS;
    this.failures = 0;
    this.socket = null;
    this.heard = 0;
    setInterval(() => this.checkSilence(), CHECK_MS);
    this.open();
  }

  open() {
    this.listener.onState("connecting", "connecting");
    const address = new URL("ws", document.baseURI);
    address.protocol = address.protocol === "https:" ? "wss:" : "ws:";
    address.search = address.hash = "";
    const socket = new WebSocket(address);
    socket.binaryType = "arraybuffer";
    socket.onmessage = (event) => this.receive(event.data);
    socket.onclose = (event) => this.lose(socket, event);
    this.socket = socket;
    this.heard = performance.now();
  }

  receive(data) {
    this.heard = performance.now();
    if (typeof data !== "string") return this.listener.onView(decodeView(data), this.heard);
    const message = JSON.parse(data);
    if (message.type === "hello") this.greet(message);
    else if (message.type === "status") this.listener.onStatus(message);
    else if (message.type === "refused") this.listener.onRefused(message.reason);
  }

  greet(hello) {
    this.wait = FIRST_WAIT_MS;
    this.failures = 0;
    this.listener.onState("open", "connected");
    this.listener.onHello(hello);
  }

  lose(socket, event) {
    if (socket !== this.socket) return;
    this.socket = null;
    const said = event.reason || (event.code === SERVER_ENDED ? "the program has ended" : "");
    const why = said && `: ${said}`;
    // A server that was started anew may have another token, and tells a socket nothing.
    const hint = ++this.failures > FEW ? "; was it started anew? Open the link that it printed" : "";
    this.listener.onState("lost", `connection lost${why}; trying again${hint}`);
    // A little chance keeps several viewers of a restarted server apart.
    setTimeout(() => this.open(), this.wait * (0.8 + 0.4 * Math.random()));
    this.wait = Math.min(this.wait * BACKOFF, LONGEST_WAIT_MS);
  }

  checkSilence() {
    if (!this.socket || performance.now() - this.heard < SILENCE_MS) return;
    const socket = this.socket;
    socket.onmessage = socket.onclose = null;
    socket.close();
    this.lose(socket, { reason: `no word for ${SILENCE_MS / 1000} s` });
  }

  send(message) {
    if (this.socket?.readyState === WebSocket.OPEN) this.socket.send(JSON.stringify(message));
  }

  /* Ask for series, at an index or (null) the newest. */
  show(series, at) {
    this.send({ type: "show", series, at });
  }

  /* Say that a view was drawn, so that the next may come. */
  acknowledge(id) {
    this.send({ type: "ack", id });
  }
}

/* Ask the server to do something; returns the answer, or throws an Error with the server's own words. */
export async function post(path, body) {
  const address = new URL(path, document.baseURI);
  const headers = { "Content-Type": "application/json" };
  const answer = await fetch(address, { method: "POST", headers, body: JSON.stringify(body) });
  if (!answer.ok) throw new Error(reasonIn(await answer.text()) || `${answer.status} ${answer.statusText}`);
  return answer;
}

function reasonIn(text) {
  try {
    const said = JSON.parse(text);
    return String(said.reason ?? said.error ?? said.detail ?? text);
  } catch {
    return text.slice(0, 300);
  }
}
