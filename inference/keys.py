"""Key files: who may use a worker, and which worker a client believes.

Owns the key folders of a worker and of a client, and their files. A key file has two lines, a title that
says what it is and the key in ZeroMQ's Z85 text; a secret file has a third line, the secret, and is readable
by its owner only. `docs/many_workers.md` explains the folders to people. Knows no sockets: of ZeroMQ it takes
only the arithmetic that makes a key pair and finds the public key of a secret.

A worker's folder: worker.secret, worker.public, and clients/ with the public key of each client that may
come, under any name. A client's: client.secret, client.public, and worker.public, the key of its workers;
of a worker with a key of its own it lies in workers/HOST.public.
"""

import logging
import os
import re
import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Self

import zmq

from configs.document import WrongInputError

__all__ = ["ClientKeys", "WorkerKeys", "make_client_keys", "make_worker_keys"]

logger = logging.getLogger(__name__)

Role = Literal["worker", "client"]

_KEY = re.compile(r"[0-9a-zA-Z.\-:+=^!/*?&<>()\[\]{}@%$#]{40}")
_OTHERS_MAY_READ = stat.S_IRWXG | stat.S_IRWXO


@dataclass(frozen=True, slots=True)
class WorkerKeys:
    """A worker's key pair and its list of clients."""

    secret: bytes = field(repr=False)
    clients: Path
    """The folder of allowed public keys; read anew at each connection, so that a client can be added."""

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Read a worker's key folder; WrongInputError names the file that is missing or wrong."""
        secret = _read_secret(folder / "worker.secret", "worker")
        clients = folder / "clients"
        if not clients.is_dir():
            msg = f"{clients} is not there; make the folder and put the client.public of each client in"
            raise WrongInputError(msg)
        keys = cls(secret=secret, clients=clients)
        for file in keys.client_files():
            _read_public(file, "client")  # a wrong one is told at the start
        return keys

    def client_files(self) -> list[Path]:
        """Return the files of the clients that may come, as they are now."""
        return sorted(self.clients.glob("*.public"))

    def name_of(self, public: bytes) -> str | None:
        """Return the file name of the client with a public key; None where it is not on the list."""
        for file in self.client_files():
            try:
                if _read_public(file, "client") == public:
                    return file.name
            except WrongInputError as error:  # half copied, say: it keeps out nobody else
                logger.warning("not on the list of clients: %s", error)
        return None


@dataclass(frozen=True, slots=True)
class ClientKeys:
    """A client's key pair and the public keys of its workers."""

    public: bytes
    secret: bytes = field(repr=False)
    folder: Path

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Read a client's key folder; WrongInputError names the file that is missing or wrong."""
        secret = _read_secret(folder / "client.secret", "client")
        return cls(public=zmq.curve_public(secret), secret=secret, folder=folder)

    def worker_key(self, host: str) -> bytes:
        """Return the public key of the worker on a host."""
        own = self.folder / "workers" / f"{host}.public"
        return _read_public(own if own.exists() else self.folder / "worker.public", "worker")


def make_worker_keys(folder: Path) -> WorkerKeys:
    """Make the key folder of a worker; nothing is written over."""
    public, secret = zmq.curve_keypair()
    _refuse_existing(folder, "worker.secret", "worker.public")
    (folder / "clients").mkdir(parents=True, exist_ok=True)
    _write_pair(folder, "worker", public, secret)
    return WorkerKeys.read(folder)


def make_client_keys(folder: Path, worker: Path | None = None) -> ClientKeys:
    """Make the key folder of a client; nothing is written over.

    Parameters
    ----------
    worker
        The worker's worker.public, of which a copy is laid beside the client's keys.
    """
    worker_key = None if worker is None else _read_public(worker, "worker")
    public, secret = zmq.curve_keypair()
    _refuse_existing(folder, "client.secret", "client.public", *([] if worker is None else ["worker.public"]))
    folder.mkdir(parents=True, exist_ok=True)
    _write_pair(folder, "client", public, secret)
    if worker_key is not None:
        _write(folder / "worker.public", _title("worker", "public"), worker_key)
    return ClientKeys.read(folder)


def _title(role: Role, kind: Literal["public", "secret"]) -> str:
    return f"sharpscope {role} {kind} key"


def _refuse_existing(folder: Path, *names: str) -> None:
    for name in names:
        if (folder / name).exists():
            msg = f"{folder / name} is there already and keys are never written over; give another folder"
            raise WrongInputError(msg)


def _write_pair(folder: Path, role: Role, public: bytes, secret: bytes) -> None:
    _write(folder / f"{role}.secret", _title(role, "secret"), public, secret, mode=0o600)
    _write(folder / f"{role}.public", _title(role, "public"), public)


def _write(path: Path, title: str, *keys: bytes, mode: int = 0o644) -> None:
    # Born with its mode: at no moment can others open a secret.
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with open(descriptor, "w", encoding="ascii", newline="\n") as file:
        file.write("\n".join([title, *(key.decode("ascii") for key in keys), ""]))


def _read_public(path: Path, role: Role) -> bytes:
    return _read(path, _title(role, "public"), keys=1)[0]


def _read_secret(path: Path, role: Role) -> bytes:
    public, secret = _read(path, _title(role, "secret"), keys=2)
    if os.name == "posix" and path.stat().st_mode & _OTHERS_MAY_READ:
        raise WrongInputError(f"{path} can be read by others than its owner; chmod 600 it, or make new keys")
    try:
        fits = zmq.curve_public(secret) == public
    except zmq.ZMQError:  # not a number
        fits = False
    if not fits:
        raise WrongInputError(f"{path}: the two keys do not belong together; copy the file anew")
    return secret


def _read(path: Path, title: str, *, keys: int) -> list[bytes]:
    try:
        lines = path.read_text(encoding="ascii").splitlines()
    except FileNotFoundError as error:
        remedy = f"'sharpscope keys' makes a folder with a {title.removeprefix('sharpscope ')}"
        raise WrongInputError(f"{path} is not there; {remedy}") from error
    except (OSError, UnicodeDecodeError) as error:
        raise WrongInputError(f"{path} cannot be read as a key ({error}); copy the file anew") from error
    if not lines or lines[0] != title:
        got = repr(lines[0][:60]) if lines else "nothing"
        raise WrongInputError(
            f"{path}: a {title} is expected here, got {got}; put the right file in its place"
        )
    if len(lines) != 1 + keys or not all(_KEY.fullmatch(line) for line in lines[1:]):
        raise WrongInputError(
            f"{path}: {keys} line(s) of 40 letters must follow the title; copy the file anew"
        )
    return [line.encode("ascii") for line in lines[1:]]
