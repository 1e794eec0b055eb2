"""Log lines as JSON, as a program that collects them reads them."""

import json
import subprocess
import sys

SCRIPT = """
import logging, threading, warnings
from sharpscope.console import say
from sharpscope.json_logs import use_json_logs
use_json_logs()
log = logging.getLogger("inference.x")
log.info("frame %d", 3, extra={"session": "s", "sequence": 3})
log.debug("not told")
try:
    1 / 0
except ZeroDivisionError:
    log.exception("bad\\nframe")
say("a line for people [bold]", error=True)
warnings.warn("careful")
thread = threading.Thread(target=lambda: [][0], name="t")
thread.start()
thread.join()
raise SystemError("the end")
"""


def test_every_line_is_one_json_object_with_what_is_known():
    result = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=False)
    lines = [json.loads(line) for line in result.stderr.splitlines()]
    first, second, third, warning, thread, last = lines
    assert (first["level"], first["logger"], first["message"]) == ("info", "inference.x", "frame 3")
    assert (first["session"], first["sequence"]) == ("s", 3)
    assert (second["message"], "ZeroDivisionError" in second["error"]) == ("bad\nframe", True)
    assert (third["level"], third["message"]) == ("error", "a line for people [bold]")
    assert "careful" in warning["message"]
    assert "thread t" in thread["message"]
    assert (last["level"], "the end" in last["error"]) == ("critical", True)
    assert result.stdout == ""
