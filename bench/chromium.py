"""A headless Chromium of the system with one page, spoken to by its DevTools protocol.

Playwright, which the tests use, has the browser send it a copy of every WebSocket message: of a page that
draws megabytes a second that copying would be measured too. Here nothing is asked of the browser but what a
caller asks. Knows no page in particular.
"""

import itertools
import json
import shutil
import subprocess
import tempfile
import time
import urllib.request
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psutil
from websockets.sync.client import connect

__all__ = ["Chromium"]

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
PATIENCE_S = 30.0
POLL_S = 0.05
MOST_BYTES = 64_000_000
OPTIONS = (
    "--headless=new",
    "--no-sandbox",  # a container's root has no other way
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-extensions",
    "--disable-features=SpareRendererForSitePerProcess",
    "--window-size=1280,800",
    "--remote-debugging-port=0",
)


class Chromium:
    """A browser with one page at `url`, while the context is open.

    Parameters
    ----------
    script
        Runs in the page before its own.
    """

    def __init__(self, url: str, script: str = "") -> None:
        executable = next(filter(None, map(shutil.which, NAMES)), None)
        if executable is None:
            raise SystemExit(f"none of {', '.join(NAMES)} is installed")
        self._ids = itertools.count(1)
        with ExitStack() as undo:
            profile = undo.enter_context(tempfile.TemporaryDirectory(ignore_cleanup_errors=True))
            command = [executable, *OPTIONS, f"--user-data-dir={profile}", "about:blank"]
            silent = subprocess.DEVNULL
            self._process = undo.enter_context(subprocess.Popen(command, stdout=silent, stderr=silent))
            undo.callback(self._process.terminate)
            address = _page_address(Path(profile))
            self._devtools = undo.enter_context(connect(address, max_size=MOST_BYTES, compression=None))
            self.send("Page.enable")
            if script:
                self.send("Page.addScriptToEvaluateOnNewDocument", source=script)
            self.send("Page.navigate", url=url)
            self.send("Page.disable")
            self._undo = undo.pop_all()

    def send(self, method: str, **parameters: Any) -> dict[str, Any]:  # noqa: ANN401 - JSON
        """Send a command; returns its result."""
        number = next(self._ids)
        self._devtools.send(json.dumps({"id": number, "method": method, "params": parameters}))
        while True:
            answer = json.loads(self._devtools.recv(timeout=PATIENCE_S))
            if answer.get("id") != number:
                continue
            if "error" in answer:
                raise RuntimeError(f"{method}: {answer['error']}")
            result: dict[str, Any] = answer["result"]
            return result

    def ask(self, expression: str) -> Any:  # noqa: ANN401 - any JSON
        """Return the value of an expression in the page."""
        answer = self.send("Runtime.evaluate", expression=expression, returnByValue=True)
        if "exceptionDetails" in answer:
            raise RuntimeError(f"{expression}: {answer['exceptionDetails']}")
        return answer["result"].get("value")

    def wait(self, condition: str) -> None:
        """Wait until an expression is true."""
        until_s = time.monotonic() + PATIENCE_S
        while not self.ask(condition):
            if time.monotonic() > until_s:
                raise TimeoutError(f"the page did not come to: {condition}")
            time.sleep(POLL_S)

    def memory(self) -> dict[str, float]:
        """Return what the page holds after its garbage was collected: MB, elements, listeners."""
        self.send("HeapProfiler.collectGarbage")
        self.send("Performance.enable")
        metrics = {each["name"]: each["value"] for each in self.send("Performance.getMetrics")["metrics"]}
        self.send("Performance.disable")
        buffers = self.send("Runtime.getHeapUsage").get("backingStorageSize", 0)
        return {
            "JS heap MB": metrics["JSHeapUsedSize"] / 1e6,
            "buffers MB": buffers / 1e6,
            "DOM nodes": metrics["Nodes"],
            "listeners": metrics["JSEventListeners"],
            "renderers MB": self._resident_mb("--type=renderer"),
            "GPU process MB": self._resident_mb("--type=gpu-process"),
        }

    def _resident_mb(self, kind: str) -> float:
        children = psutil.Process(self._process.pid).children(recursive=True)
        return sum(child.memory_info().rss for child in children if kind in child.cmdline()) / 1e6

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._undo.close()


def _page_address(profile: Path) -> str:
    """Return the WebSocket address of the browser's page."""
    until_s = time.monotonic() + PATIENCE_S
    while time.monotonic() < until_s:
        written = profile / "DevToolsActivePort"
        lines = written.read_text().split() if written.exists() else []
        if len(lines) > 1:
            with urllib.request.urlopen(
                f"http://127.0.0.1:{lines[0]}/json/list", timeout=PATIENCE_S
            ) as answer:
                pages = [each for each in json.load(answer) if each["type"] == "page"]
            if pages:
                return str(pages[0]["webSocketDebuggerUrl"])
        time.sleep(POLL_S)
    raise TimeoutError("the browser did not start")
