/* The line at the foot: connection, state, latency, rates and how many frames ended in which way. */

import { element, milliseconds, NOTHING, perSecond, say, whole } from "./words.js";

export class StatusBar {
  showConnection(state, words) {
    element("connection").dataset.state = state;
    document.body.dataset.connection = state;
    say(element("connection"), words);
  }

  /* Show the server's status. */
  show(status) {
    say(element("state"), status.state ?? NOTHING);
    element("state").dataset.state = status.state ?? "";
    say(element("state-reason"), status.reason ?? "");
    element("state-reason").title = status.reason ?? "";
    const percentiles = [status.latency_ms_p50, status.latency_ms_p99].map(milliseconds);
    say(element("latency-percentiles"), percentiles.join(" / "));
    say(element("camera-fps"), perSecond(status.camera_fps));
    say(element("fps"), perSecond(status.shown_fps));
    say(element("frames"), recorded(status));
    say(element("enhanced-count"), whole(status.enhanced));
    for (const [id, name] of [["drops", "dropped"], ["failed", "failed"], ["waiting", "waiting"], ["missed", "missed"]]) {
      say(element(id), whole(status[name]));
      element(id).classList.toggle("bad", status[name] > 0 && id !== "waiting");
    }
    say(element("worker"), status.worker ?? NOTHING);
    element("worker").title = status.worker ?? "";
  }

  /* Show how long the frame that is shown took from its capture to its enhanced image. */
  showFrame(image) {
    say(element("latency"), milliseconds(image.latency_ms));
  }
}

function recorded(status) {
  const { frames_in: taken, recorded: written } = status;
  if (typeof written !== "number" || written === taken) return whole(taken);
  return `${whole(taken)}, ${written} written`;
}
