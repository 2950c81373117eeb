"""A headless Chromium under the control of a test, over its debugging pipe: no port, no package."""

from __future__ import annotations

import base64
import json
import os
import re
import select
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from html import escape
from pathlib import Path
from typing import Any

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("chrome")

CODES = {"Enter": 13, "Tab": 9, "ArrowRight": 39, " ": 32}


def probed(text: str, probe: str, folder: Path) -> Any:
    """What a script finds of a page in a narrow and a wide window, side by side in frames.

    Args:
        text: the page.
        probe: HTML whose script leaves what it found, as base64 of JSON, in `<pre id="found">`.
        folder: for files of the browser.
    """
    frames = "".join(
        f'<iframe style="border: 0; width: {width}px; height: 900px" srcdoc="{escape(text)}">'
        "</iframe>"
        for width in (400, 1400)
    )
    (folder / "frames.html").write_text(f"<!doctype html><body>{probe}{frames}")
    browser = subprocess.run(
        [
            str(CHROMIUM),
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--window-size=1600,1000",
            f"--user-data-dir={folder / 'profile'}",
            "--virtual-time-budget=10000",
            "--dump-dom",
            f"file://{folder / 'frames.html'}",
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    said = re.search(r'<pre id="found">(.*?)</pre>', browser.stdout)
    assert said is not None
    return json.loads(base64.b64decode(said[1]))


class Tab:
    """One page.

    Attributes:
        asked: the address of every request that it made.
        problems: what stood on its console as an error, and what it threw.
    """

    def __init__(self, reads: int, writes: int) -> None:
        self.asked: list[str] = []
        self.problems: list[str] = []
        self._reads, self._writes = reads, writes
        self._session: str | None = None
        self._buffer = b""
        self._number = 0
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        attached = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **values: Any) -> dict[str, Any]:
        """Run one command of the debugging protocol; returns its result."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": values}
        if self._session is not None:
            message["sessionId"] = self._session
        os.write(self._writes, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == self._number:
                assert "error" not in answer, (method, answer["error"])
                return answer["result"]  # type: ignore[no-any-return]
            self._note(answer)

    def open(self, url: str) -> None:
        """Go to an address and wait until the page is there."""
        self.asked.clear()
        self.problems.clear()
        self.call("Page.navigate", url=url)
        self.wait("document.readyState === 'complete' && location.protocol !== 'about:'")

    def value(self, script: str) -> Any:
        """What a script comes to, in the page."""
        found = self.call(
            "Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in found, (script, found["exceptionDetails"])
        return found["result"].get("value")

    def wait(self, script: str, seconds: float = 60.0) -> Any:
        """Wait until a script comes to something true; returns that."""
        until = time.monotonic() + seconds
        while not (found := self.value(script)):
            assert time.monotonic() < until, (script, self.value("document.body.innerText"))
            time.sleep(0.05)
        return found

    def type(self, text: str) -> None:
        """Put text where the focus is, as a keyboard would."""
        self.call("Input.insertText", text=text)

    def press(self, key: str, *, control: bool = False) -> None:
        """Press a key."""
        about = {"key": key, "code": key, "windowsVirtualKeyCode": CODES[key]}
        about |= {"modifiers": 2 if control else 0}
        text = {"Enter": "\r", " ": " "}.get(key, "")
        self.call("Input.dispatchKeyEvent", type="keyDown", text=text, **about)
        self.call("Input.dispatchKeyEvent", type="keyUp", **about)

    def window(self, width: int, height: int = 900, *, dark: bool = False) -> None:
        """Set the window's size and the scheme of colours."""
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=False,
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._reads], [], [], 60)
            assert ready, "the browser does not answer"
            came = os.read(self._reads, 1 << 16)
            assert came, "the browser has ended"
            self._buffer += came
        message, _, self._buffer = self._buffer.partition(b"\0")
        return json.loads(message)  # type: ignore[no-any-return]

    def _note(self, event: dict[str, Any]) -> None:
        about = event.get("params", {})
        match event.get("method"):
            case "Network.requestWillBeSent":
                self.asked.append(about["request"]["url"])
            case "Runtime.exceptionThrown":
                self.problems.append(json.dumps(about["exceptionDetails"]))
            case "Runtime.consoleAPICalled":
                self.problems.append(json.dumps(about["args"]))
            case "Log.entryAdded" if about["entry"]["level"] in ("error", "warning"):
                self.problems.append(about["entry"]["text"])


@contextmanager
def browse(profile: Path) -> Iterator[Tab]:
    """Start a browser with a new profile; yields a tab."""
    (to_read, to_write), (from_read, from_write) = os.pipe(), os.pipe()
    flags = [
        *("--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"),
        *("--no-first-run", "--disable-background-networking", "--disable-component-update"),
        *("--remote-debugging-pipe", f"--user-data-dir={profile}", "about:blank"),
    ]
    # It reads commands from 3 and answers on 4.
    script = f'exec "$@" 3<&{to_read} 4>&{from_write}'
    process = subprocess.Popen(
        ["bash", "-c", script, "bash", str(CHROMIUM), *flags],
        pass_fds=(to_read, from_write),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    os.close(to_read)
    os.close(from_write)
    try:
        yield Tab(from_read, to_write)
    finally:
        os.close(to_write)  # it ends with its pipe
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        os.close(from_read)
