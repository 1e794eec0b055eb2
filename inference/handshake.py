"""Why a client does not get through to a worker that is there: what the transport tells of the handshake.

Owns the monitor of one socket and the words for its events. Two ends with and without keys, or with keys that
do not fit, part without a message of ours: without this the client could only say that nobody answers.
Knows no frames.
"""

from contextlib import suppress

import zmq
from zmq.utils.monitor import parse_monitor_message

__all__ = ["HandshakeWatch"]

FAILURES = (
    zmq.EVENT_HANDSHAKE_FAILED_AUTH
    | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
    | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
)


class HandshakeWatch:
    """Listens to one socket's handshakes.

    Parameters
    ----------
    socket
        Not yet connected.
    address
        Where it will be connected to.
    with_keys
        Whether the socket has keys.
    """

    def __init__(self, socket: "zmq.Socket[bytes]", address: str, *, with_keys: bool) -> None:
        self._socket = socket
        self._address = address
        self._with_keys = with_keys
        self.receiver = socket.get_monitor_socket(FAILURES)
        """To be polled; when something is there, ask `refusal`."""
        self.gave_up = False
        """The transport does not try again by itself: the socket is to be opened anew."""

    def refusal(self) -> str | None:
        """Return why the last handshake failed; None when none failed since this was asked last."""
        reason = None
        with suppress(zmq.Again):
            while True:
                event = parse_monitor_message(self.receiver.recv_multipart(zmq.NOBLOCK))["event"]
                self.gave_up |= event != zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
                reason = self._reason(event)
        return reason

    def _reason(self, event: int) -> str:
        who = f"the worker at {self._address}"
        if event == zmq.EVENT_HANDSHAKE_FAILED_AUTH:
            return f"{who} refuses this client's key; put client.public into the worker's clients folder"
        # The other two come in either order for the same cause, as the two ends race to hang up.
        if self._with_keys:
            cause = "worker.public here is not its key, or it serves without keys"
        else:
            cause = "it asks for a key (give --keys), or is no worker (a tunnel without one at its end?)"
        return f"{who} breaks off the handshake: {cause}"

    def close(self) -> None:
        """Stop listening; before the socket is closed."""
        self._socket.disable_monitor()
