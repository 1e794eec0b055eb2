"""Feeds the wire's decoders and the reception with what atheris finds; prints what broke a promise.

That is whatever raises anything but a MessageError, or lets in more than its bound. The coverage of our own
code guides it; a first corpus of every kind of message shows it the way.
Needs `pip install atheris` (Linux and macOS).

    python bench/fuzz.py --minutes 10
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from output import bench_parser, publish

SEPARATOR = b"\n--part--\n"
SEEDS = [
    b'{"version":1,"kind":"hello","session":"a"}',
    b'{"version":1,"kind":"ping"}',
    b'{"version":1,"kind":"bye"}',
    b'{"version":1,"kind":"frame","session":"a","sequence":1,"shape_yx":[3,4],"dtype":"uint16","pixel_size_um":0.5,'
    b'"channel":"FITC","captured_ns":1,"sent_ns":2,"delivery":"record","allow_out_of_domain":false,"model":null,'
    b'"photometry":null,"deadline_ms":5.0}' + SEPARATOR + bytes(24),
    b'{"version":1,"kind":"enhanced","session":"a","sequence":1,"shape_yx":[3,2],"dtype":"float32",'
    b'"pixel_size_um":null,"channel":null,"delivery":"preview","model_name":"m","model_hash":"ab","out_of_domain":[],'
    b'"photometry":{"model_hash":"ab","background":0.0,"scale":1.0,"flux_gain":1.0},"received_ns":0,"started_ns":0,'
    b'"finished_ns":1}' + SEPARATOR + bytes(24),
    b'{"version":1,"kind":"failed","session":"a","sequence":1,"code":"no_model","reason":"r"}',
    b'{"version":1,"kind":"dropped","session":"a","sequence":1,"superseded_by":2}',
    b'{"version":1,"kind":"error","code":"bad_header","message":"m","session":null,"sequence":null}',
    b'{"version":1,"kind":"progress","worker":"w","answered":1,"waiting":0,"busy_s":0.0}',
]


def fuzz(folder: Path, seconds: int) -> None:
    """Be the fuzzing process; libFuzzer ends it."""
    import atheris

    with atheris.instrument_imports(include=["inference"]):
        from inference.messages import Info, ModelInfo, Progress
        from inference.protocol import MessageError, WireLimits, decode_reply, decode_request
        from inference.reception import Reception
        from inference.waiting import WaitingRoom
    limits = WireLimits(most_header_bytes=4096, most_pixel_bytes=4096)
    progress = Progress(worker="w", answered=0, waiting=0, busy_s=0.0)
    model = ModelInfo(name="m", model_hash="ab", factor=2, channel=None)
    info = Info(worker="w", models=(model,), record_credit=3, most_pixel_bytes=4096, busy_s=0.0)

    def test(octets: bytes) -> None:
        parts = octets.split(SEPARATOR)
        for decode in (decode_request, decode_reply):
            try:
                header, pixels = decode(parts, limits)
            except MessageError:
                continue
            assert pixels is None or pixels.shape == header.shape_yx
        room = WaitingRoom(3)
        reception = Reception(info, limits, room)
        reception.handle(b"client", [SEEDS[0]], progress)
        for _ in range(5):
            for _addressee, reply in reception.handle(b"client", parts, progress):
                reply.model_dump_json()
        assert len(room) <= 3 + 1

    arguments = [sys.argv[0], str(folder / "corpus"), f"-max_total_time={seconds}", "-max_len=5000"]
    arguments += [f"-artifact_prefix={folder}/", f"-dict={folder / 'words'}", "-print_final_stats=1"]
    atheris.Setup(arguments, test)
    atheris.Fuzz()


def _prepare(folder: Path) -> None:
    corpus = folder / "corpus"
    corpus.mkdir()
    for number, seed in enumerate(SEEDS):
        (corpus / str(number)).write_bytes(seed)
    words = {word for seed in SEEDS for word in seed.decode("latin-1").split('"') if word.isidentifier()}
    lines = [f'"{word}"' for word in sorted(words)]
    (folder / "words").write_text("\n".join([*lines, '"\\x0a--part--\\x0a"']) + "\n", encoding="ascii")


def main() -> int:
    """Run the bench."""
    parser = bench_parser(__doc__)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--in-folder", type=Path, help="be the fuzzing process")
    arguments = parser.parse_args()
    seconds = round(60 * arguments.minutes)
    if arguments.in_folder:
        fuzz(arguments.in_folder, seconds)
        return 0
    try:
        import atheris  # noqa: F401 - whether it is there
    except ImportError:
        print("atheris is not installed; pip install atheris (Linux, macOS)", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _prepare(folder)
        command = [sys.executable, str(Path(__file__).resolve()), "--in-folder", name]
        command += ["--minutes", str(arguments.minutes)]
        done = subprocess.run(command, stderr=subprocess.PIPE, text=True, env=os.environ, check=False)
        findings = sorted(
            path for path in folder.iterdir() if path.name.startswith(("crash", "oom", "timeout"))
        )
        stats = [line for line in done.stderr.splitlines() if line.startswith("stat::")]
        runs = next((int(line.split()[-1]) for line in stats if "executed_units" in line), 0)
        texts = [f"{path.name}: {path.read_bytes()!r}" for path in findings]
        failed = bool(findings) or done.returncode != 0
        tail = "\n".join(done.stderr.splitlines()[-30:]) if failed else ""
    text = "\n".join([f"{runs} inputs in {seconds} s; {len(texts)} finding(s).", *texts, tail]).rstrip()
    publish(arguments, "Fuzzing the wire", text, {"inputs": runs, "findings": len(texts)})
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
