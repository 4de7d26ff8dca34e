"""Debian's Chromium, controlled with the DevTools protocol over a pipe. It needs no port, driver or download."""

import base64
import json
import os
import select
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

PATIENCE = 20.0
_FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-dev-shm-usage",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--remote-debugging-pipe",
)
_KEYS = {
    "Tab": (9, ""),
    "Enter": (13, "\r"),
    "Escape": (27, ""),
    " ": (32, " "),
}


class BrowserError(Exception):
    """The browser refused what it was asked."""


class Browser:
    """A process of its own with a fresh profile. `close` ends it and removes the profile."""

    def __init__(self) -> None:
        self._profile = Path(tempfile.mkdtemp(prefix="syncer-browser-"))
        to_browser, self._write = os.pipe()
        self._read, from_browser = os.pipe()
        # The protocol is spoken on descriptors 3 and 4.
        script = f'exec "$@" 3<&{to_browser} 4>&{from_browser}'
        self._process = subprocess.Popen(
            [
                *("setpriv", "--pdeathsig", "KILL", "bash", "-c", script, "bash"),
                *("chromium", *_FLAGS, f"--user-data-dir={self._profile}", "about:blank"),
            ],
            pass_fds=(to_browser, from_browser),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=os.environ | {"HOME": str(self._profile), "TZ": "UTC"},
            start_new_session=True,
        )
        os.close(to_browser)
        os.close(from_browser)
        self._rest = b""
        self._number = 0
        self._answers: dict[int, dict[str, Any]] = {}
        self.events: list[dict[str, Any]] = []

    def page(self) -> "Page":
        """A new tab in a context of its own: no cookie or cache of another one."""
        context = self.send("Target.createBrowserContext")["browserContextId"]
        target = self.send("Target.createTarget", url="about:blank", browserContextId=context)["targetId"]
        session = self.send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        return Page(self, session, context)

    def send(self, method: str, *, session: str | None = None, **parameters: Any) -> dict[str, Any]:
        """One command and its answer. Raises `BrowserError`."""
        self._number += 1
        number = self._number
        message = {"id": number, "method": method, "params": parameters}
        if session:
            message["sessionId"] = session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        end = time.monotonic() + PATIENCE
        while number not in self._answers:
            if time.monotonic() > end:
                raise BrowserError(f"no answer to {method}")
            self.listen(0.2)
        answer = self._answers.pop(number)
        if "error" in answer:
            raise BrowserError(f"{method}: {answer['error']}")
        found: dict[str, Any] = answer["result"]
        return found

    def listen(self, seconds: float) -> None:
        """Take what the browser tells, for so long at most."""
        if not select.select([self._read], [], [], seconds)[0]:
            return
        data = os.read(self._read, 1 << 20)
        if not data:
            raise BrowserError("the browser is gone")
        *messages, self._rest = (self._rest + data).split(b"\0")
        for text in messages:
            message = json.loads(text)
            if "id" in message:
                self._answers[message["id"]] = message
            else:
                self.events.append(message)

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._write)
        os.close(self._read)
        shutil.rmtree(self._profile, ignore_errors=True)


class Page:
    """One tab. What goes wrong in it, scripts that break and policies that are violated, is in `complaints`."""

    def __init__(self, browser: Browser, session: str, context: str) -> None:
        self._browser = browser
        self._session = session
        self._context = context
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.send(f"{domain}.enable")
        self.send("Page.setLifecycleEventsEnabled", enabled=True)
        self.resize(1280, 900)

    def send(self, method: str, **parameters: Any) -> dict[str, Any]:
        return self._browser.send(method, session=self._session, **parameters)

    # --- how it is seen -------------------------------------------------------------------------------------------

    def resize(self, width: int, height: int, *, phone: bool = False, scale: float = 1) -> None:
        """In CSS pixels."""
        self.send(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=scale,
            mobile=phone,
        )

    def prefer(self, **features: str) -> None:
        """Media features with `_` for `-`, such as `prefers_color_scheme="dark"`."""
        named = [{"name": name.replace("_", "-"), "value": value} for name, value in features.items()]
        self.send("Emulation.setEmulatedMedia", features=named)

    def speak(self, language: str) -> None:
        """Ask for pages in this language: the value of `Accept-Language`."""
        self.send("Network.setExtraHTTPHeaders", headers={"accept-language": language})

    def set_timezone(self, name: str) -> None:
        self.send("Emulation.setTimezoneOverride", timezoneId=name)

    def disable_scripts(self) -> None:
        self.send("Emulation.setScriptExecutionDisabled", value=True)

    # --- doing ----------------------------------------------------------------------------------------------------

    def open(self, url: str) -> None:
        """Go there, and return when all is loaded."""
        self._browser.events.clear()
        answer = self.send("Page.navigate", url=url)
        if "errorText" in answer:
            raise BrowserError(f"{url}: {answer['errorText']}")
        self.until(lambda: self._loaded(answer["loaderId"]))

    def click(self, selector: str) -> None:
        """As a mouse does it: on what is at that place, in view or not before."""
        place = self.evaluate(
            f"(e => {{ e.scrollIntoView({{block: 'center'}}); const b = e.getBoundingClientRect();"
            f" return [b.x + b.width / 2, b.y + b.height / 2]; }})(document.querySelector({json.dumps(selector)}))"
        )
        for kind in ("mousePressed", "mouseReleased"):
            self.send(
                "Input.dispatchMouseEvent", type=kind, x=place[0], y=place[1], button="left", clickCount=1
            )

    def press(self, key: str) -> None:
        """`Tab`, `Enter`, `Escape` or a blank."""
        code, text = _KEYS[key]
        about = {"key": key, "code": key if key != " " else "Space", "windowsVirtualKeyCode": code}
        self.send("Input.dispatchKeyEvent", type="keyDown", text=text, **about)
        self.send("Input.dispatchKeyEvent", type="keyUp", **about)

    def type(self, text: str) -> None:
        self.send("Input.insertText", text=text)

    # --- looking --------------------------------------------------------------------------------------------------

    def evaluate(self, expression: str) -> Any:
        """The value of a JavaScript expression, which must be JSON."""
        answer = self.send("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in answer:
            raise BrowserError(f"{expression}: {answer['exceptionDetails']}")
        return answer["result"].get("value")

    def text(self, selector: str = "body") -> str:
        """What a reader sees of it; empty where there is none."""
        found = self.evaluate(f"document.querySelector({json.dumps(selector)})?.innerText ?? ''")
        return str(found)

    @property
    def url(self) -> str:
        return str(self.evaluate("location.href"))

    def until(self, condition: Callable[[], Any], *, patience: float = PATIENCE) -> Any:
        """Poll until there is something. Raises `AssertionError` after `patience` seconds."""
        end = time.monotonic() + patience
        while time.monotonic() < end:
            try:
                if found := condition():
                    return found
            except BrowserError:
                pass  # the page is on its way to another
            self._browser.listen(0.03)
        raise AssertionError(f"not within {patience} seconds; the page has:\n{self.text()}")

    def screenshot(self, path: Path, *, whole: bool = False) -> None:
        taken = self.send("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(taken["data"]))

    @property
    def complaints(self) -> list[str]:
        """Since the last `open`: messages of the console, errors of scripts, requests that failed."""
        found = []
        for event in self._mine():
            parameters = event["params"]
            match event["method"]:
                case "Runtime.consoleAPICalled":
                    found.append(str([each.get("value") for each in parameters["args"]]))
                case "Runtime.exceptionThrown":
                    found.append(str(parameters["exceptionDetails"]))
                case "Log.entryAdded":
                    entry = parameters["entry"]
                    found.append(f"{entry['source']}: {entry['text']} {entry.get('url', '')}")
        return found

    @property
    def requested(self) -> list[str]:
        """The addresses asked for since the last `open`."""
        return [
            event["params"]["request"]["url"]
            for event in self._mine()
            if event["method"] == "Network.requestWillBeSent"
        ]

    def close(self) -> None:
        self._browser.send("Target.disposeBrowserContext", browserContextId=self._context)

    def _mine(self) -> list[dict[str, Any]]:
        return [event for event in self._browser.events if event.get("sessionId") == self._session]

    def _loaded(self, loader: str) -> bool:
        """Whether that very document is there: not the one before it, which may still be on its way."""
        wanted = {"loaderId": loader, "name": "load"}
        return any(
            event["method"] == "Page.lifecycleEvent" and wanted.items() <= event["params"].items()
            for event in self._mine()
        )
