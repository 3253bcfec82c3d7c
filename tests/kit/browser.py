"""A real headless Chromium, driven over its debugging pipe: opens pages, presses keys, takes pictures, hears errors."""

import base64
import json
import os
import select
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

FLAGS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--no-first-run", "--disable-extensions",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--mute-audio",
    "--disable-dev-shm-usage", "--force-color-profile=srgb", "--remote-debugging-pipe",
    # Nothing but loopback can be resolved: a foreign request fails and is heard.
    "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1",
)  # fmt: skip
WAIT_S = 30.0


@dataclass
class Browser:
    """One browser with one page. ``errors``: what its console said; ``requests``: every address it asked for."""

    process: "subprocess.Popen[bytes]"
    write: int
    read: int
    session: str = ""
    errors: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    _events: list[dict[str, Any]] = field(default_factory=list)
    _buffer: bytes = b""
    _last: int = 0

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """One command of the DevTools protocol and its result."""
        self._last += 1
        message = {"id": self._last, "method": method, "params": params}
        if self.session:
            message["sessionId"] = self.session
        os.write(self.write, json.dumps(message).encode() + b"\0")
        deadline = time.monotonic() + WAIT_S
        while True:
            answer = self._hear(deadline)
            if answer.get("id") == self._last:
                assert "error" not in answer, f"{method}: {answer['error']}"
                result: dict[str, Any] = answer.get("result", {})
                return result

    def _hear(self, deadline: float) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            left = deadline - time.monotonic()
            assert left > 0, "the browser does not answer"
            if select.select([self.read], [], [], left)[0]:
                piece = os.read(self.read, 1 << 20)
                assert piece, "the browser has ended"
                self._buffer += piece
        raw, _, self._buffer = self._buffer.partition(b"\0")
        message: dict[str, Any] = json.loads(raw)
        self._note(message.get("method", ""), message.get("params", {}))
        return message

    def _note(self, method: str, params: dict[str, Any]) -> None:
        if method == "Network.requestWillBeSent":
            self.requests.append(params["request"]["url"])
        elif method == "Log.entryAdded" and params["entry"]["level"] in ("error", "warning"):
            self.errors.append(f"{params['entry']['text']} {params['entry'].get('url', '')}")
        elif method == "Runtime.consoleAPICalled" and params["type"] in ("error", "warning", "assert"):
            self.errors.append(json.dumps(params["args"])[:300])
        elif method == "Runtime.exceptionThrown":
            self.errors.append(params["exceptionDetails"]["text"])
        elif method in ("Page.loadEventFired", "Page.frameStoppedLoading"):
            self._events.append({"method": method})

    def begin(self) -> None:
        """Open the one page."""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def look(self, width: int, dark: bool) -> None:
        """The window's width in CSS pixels, and the person's choice of light or dark."""
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
        self.call("Emulation.setDeviceMetricsOverride", **size)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])

    def open(self, address: str) -> None:
        """Go to an address and wait until it is there."""
        self._events.clear()
        failed = self.call("Page.navigate", url=address).get("errorText")
        assert not failed, f"{address}: {failed}"
        self.settle()

    def settle(self) -> None:
        """Wait until the page has loaded."""
        deadline = time.monotonic() + WAIT_S
        while not any(event["method"] == "Page.loadEventFired" for event in self._events):
            self._hear(deadline)

    def ask(self, expression: str) -> Any:
        """The value of a JavaScript expression in the page."""
        found = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def press(self, key: str, *, text: str = "", shift: bool = False) -> None:
        """One key, as a person presses it."""
        code = {"Tab": 9, "Enter": 13, " ": 32}.get(key, 0)
        base = {"key": key, "code": key, "windowsVirtualKeyCode": code, "modifiers": 8 if shift else 0}
        self.call("Input.dispatchKeyEvent", type="keyDown", text=text, **base)
        self.call("Input.dispatchKeyEvent", type="keyUp", **base)

    def type(self, text: str) -> None:
        """Text into the field that has the focus."""
        self.call("Input.insertText", text=text)

    def submit(self) -> None:
        """Press Enter where the focus is and wait for the page that follows."""
        self._events.clear()
        self.press("Enter", text="\r")
        self.settle()

    def cookie(self, name: str, value: str, address: str) -> None:
        """Set one cookie."""
        self.call("Network.setCookie", name=name, value=value, url=address, httpOnly=True)

    def photograph(self, path: Path) -> None:
        """The whole page as PNG."""
        size = self.call("Page.getLayoutMetrics")["cssContentSize"]
        clip = {"x": 0, "y": 0, "width": size["width"], "height": min(size["height"], 6000), "scale": 1}
        shot = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=True, clip=clip)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(base64.b64decode(shot["data"]))


@contextmanager
def chromium() -> Iterator[Browser]:
    """A browser of its own, gone at the end."""
    command = shutil.which("chromium")
    assert command, "marked with tool(chromium)"
    to_read, to_write = os.pipe()
    from_read, from_write = os.pipe()
    with tempfile.TemporaryDirectory(prefix="radfleet-chromium-", ignore_cleanup_errors=True) as folder:
        # The pipe is file descriptors 3 and 4 of the browser; the shell puts ours there.
        script = f'exec "$0" "$@" 3<&{to_read} 4>&{from_write}'
        argv = ["bash", "-c", script, command, *FLAGS, f"--user-data-dir={folder}", "about:blank"]
        process = subprocess.Popen(
            argv, pass_fds=(to_read, from_write), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            env={**os.environ, "HOME": folder}, start_new_session=True,
        )  # fmt: skip
        os.close(to_read)
        os.close(from_write)
        browser = Browser(process, to_write, from_read)
        try:
            browser.begin()
            yield browser
        finally:
            os.close(to_write)  # the browser ends when its pipe does
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(10)
            os.close(from_read)
