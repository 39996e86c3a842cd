"""Headless Chromium with one page, driven over a pipe (the DevTools protocol, with --remote-debugging-pipe).

Needs Python and Chromium, which is on the path or named by $CHROMIUM.
"""

import base64
import json
import os
import pathlib
import select
import shutil
import subprocess
import sys
import tempfile
import time

PATIENCE = 300  # seconds for anything; it only ends a check that hangs
TALLEST = 16000  # pixels of a screenshot


def check(condition, what):
    if not condition:
        raise AssertionError(what)
    print(f"  ok: {what}", flush=True)


class Browser:
    """A page in headless Chromium, with a profile of its own and screenshots in a folder."""

    def __init__(self, folder):
        program = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
        if not program:
            sys.exit("error: Chromium was not found\n  hint: apt-get install chromium, or name one in CHROMIUM")
        self.folder = pathlib.Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.profile = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        self.width, self.scale = 0, 1
        self.buffer, self.events, self.number, self.session, self.answer = b"", [], 0, None, None
        command_read, self.write_end = os.pipe()
        self.read_end, answer_write = os.pipe()
        # Chromium reads commands from 3 and answers on 4.
        script = f'exec "$@" 3<&{command_read} 4>&{answer_write}'
        flags = ["--headless=new", "--remote-debugging-pipe", "--no-first-run", "--disable-gpu", "--hide-scrollbars",
                 "--disable-dev-shm-usage", "--disable-background-networking", f"--user-data-dir={self.profile.name}"]
        if os.geteuid() == 0:
            flags.append("--no-sandbox")  # not available as root
        self.process = subprocess.Popen(["bash", "-c", script, "bash", program, *flags, "about:blank"],
                                        pass_fds=[command_read, answer_write],
                                        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        os.close(command_read)
        os.close(answer_write)
        targets = self.call("Target.getTargets")["targetInfos"]
        page = next(target for target in targets if target["type"] == "page")
        self.session = self.call("Target.attachToTarget", targetId=page["targetId"], flatten=True)["sessionId"]
        for domain in ["Page", "Runtime", "Log", "Network", "DOM"]:
            self.call(f"{domain}.enable")

    def __enter__(self):
        return self

    def __exit__(self, kind, error, _):
        failed = isinstance(error, (AssertionError, RuntimeError))
        try:
            if failed:
                print(f"error: {error}", file=sys.stderr)
                print(f"  on the page: {self.faults()}", file=sys.stderr)
                self.screenshot("failed")
        except (OSError, RuntimeError) as other:
            print(f"  and {other}", file=sys.stderr)
        finally:
            self.close()
        if failed:
            sys.exit(1)

    def close(self):
        try:
            self.session = None
            self.call("Browser.close")
            self.process.wait(10)
        except (OSError, RuntimeError, subprocess.TimeoutExpired):
            self.process.kill()
            self.process.wait()
        self.profile.cleanup()

    # The protocol.

    def message(self):
        deadline = time.monotonic() + PATIENCE
        while b"\0" not in self.buffer:
            if not select.select([self.read_end], [], [], max(0, deadline - time.monotonic()))[0]:
                raise RuntimeError("Chromium does not answer")
            piece = os.read(self.read_end, 1 << 20)
            if not piece:
                raise RuntimeError("Chromium has ended")
            self.buffer += piece
        message, self.buffer = self.buffer.split(b"\0", 1)
        return json.loads(message)

    def send(self, method, **parameters):
        self.number += 1
        call = {"id": self.number, "method": method, "params": parameters}
        if self.session:
            call["sessionId"] = self.session
        data = json.dumps(call).encode() + b"\0"
        while data:
            data = data[os.write(self.write_end, data):]
        return self.number

    def call(self, method, **parameters):
        number = self.send(method, **parameters)
        while True:
            message = self.message()
            if message.get("id") == number:
                if "error" in message:
                    raise RuntimeError(f"{method}: {message['error']['message']}")
                return message["result"]
            if message.get("method") == "Fetch.requestPaused":
                request = message["params"]["requestId"]
                if self.answer is None:
                    self.send("Fetch.continueRequest", requestId=request)
                else:
                    self.send("Fetch.fulfillRequest", requestId=request, **self.answer)
            elif "method" in message:
                self.events.append(message)

    def run(self, script):
        """The value of a JavaScript expression, awaited."""
        result = self.call("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True, userGesture=True)
        if "exceptionDetails" in result:
            details = result["exceptionDetails"]
            raise RuntimeError(details.get("exception", {}).get("description", details["text"]))
        return result["result"].get("value")

    def until(self, condition, what):
        """Waits until a JavaScript expression is true."""
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                value = self.run(condition)
            except RuntimeError:
                value = None  # the page may not be there yet
            if value:
                return value
            if time.monotonic() > deadline:
                raise AssertionError(f"{what}: did not happen")
            time.sleep(0.05)

    # Pages.

    def open(self, url, condition="true"):
        self.events.clear()
        self.call("Page.navigate", url=url)
        self.until(f"location.href === {json.dumps(url)} && document.readyState === 'complete' && ({condition})", url)

    def view(self, width, height, dark=False, phone=False):
        self.width, self.scale = width, 1.5 if phone else 1
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=self.scale,
                  mobile=phone)
        self.call("Emulation.setTouchEmulationEnabled", enabled=phone)
        scheme = "dark" if dark else "light"
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])

    def answer_with(self, pattern=None, status=200, content=None):
        """Answers requests to matching addresses with this from now on; without a pattern, stops doing so."""
        if pattern is None:
            self.answer = None
            self.call("Fetch.disable")
            return
        body = base64.b64encode(json.dumps(content).encode()).decode()
        headers = [{"name": "Content-Type", "value": "application/json"}]
        self.answer = {"responseCode": status, "responseHeaders": headers, "body": body}
        self.call("Fetch.enable", patterns=[{"urlPattern": pattern}])

    def faults(self):
        """What went wrong since the last call: exceptions, errors and warnings on the console, dialogs."""
        self.run("0")
        found = []
        for event in self.events:
            parameters = event["params"]
            if event["method"] == "Runtime.exceptionThrown":
                found.append(parameters["exceptionDetails"].get("exception", {}).get("description", "exception"))
            elif event["method"] == "Runtime.consoleAPICalled" and parameters["type"] in ("error", "warning", "assert"):
                found.append(str([part.get("value") for part in parameters["args"]]))
            elif event["method"] == "Log.entryAdded" and parameters["entry"]["level"] in ("error", "warning"):
                found.append(f"{parameters['entry']['text']} ({parameters['entry'].get('url', '')})")
            elif event["method"] == "Page.javascriptDialogOpening":
                found.append(f"a dialog: {parameters['message']}")
        self.events = [event for event in self.events if event["method"] == "Network.requestWillBeSent"]
        return found

    def requests(self):
        """The addresses that the page requested since it was opened, without data: and blob: ones."""
        self.run("0")
        asked = (event["params"]["request"]["url"] for event in self.events
                 if event["method"] == "Network.requestWillBeSent")
        return [url for url in asked if not url.startswith(("data:", "blob:"))]

    def check_faults(self, when):
        found = self.faults()
        check(not found, f"no error on the console {when} {found or ''}".rstrip())

    def check_width(self, when):
        """Checks that the page does not scroll sideways."""
        wide = self.run("document.documentElement.scrollWidth") - self.width
        check(wide <= 0, f"nothing to scroll sideways {when}" + (f": {wide} px" if wide > 0 else ""))

    def screenshot(self, name, whole=False):
        more = {}
        if whole:
            size = self.call("Page.getLayoutMetrics")["cssContentSize"]
            height = min(size["height"], TALLEST / self.scale)
            more = {"captureBeyondViewport": True,
                    "clip": {"x": 0, "y": 0, "width": size["width"], "height": height, "scale": 1}}
        path = self.folder / f"{name}.png"
        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot", **more)["data"]))
        print(f"  {path}", flush=True)

    # Mouse, touch and keyboard.

    def box(self, element):
        """Left, top, width and height of an element, which a JavaScript expression gives, after scrolling to it."""
        return self.run(f"(() => {{ const element = {element}; element.scrollIntoView({{ block: 'center' }});"
                        " const box = element.getBoundingClientRect();"
                        " return [box.left, box.top, box.width, box.height]; })()")

    def place(self, element, across=0.5, down=0.5):
        left, top, width, height = self.box(element)
        return left + across * width, top + down * height

    def mouse(self, x, y, kind="mouseMoved", **more):
        self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, **more)

    def click(self, x, y):
        for kind in ("mousePressed", "mouseReleased"):
            self.mouse(x, y, kind, button="left", clickCount=1)

    def tap(self, x, y):
        self.call("Input.dispatchTouchEvent", type="touchStart", touchPoints=[{"x": x, "y": y}])
        self.call("Input.dispatchTouchEvent", type="touchEnd", touchPoints=[])

    def key(self, key):
        code = {"Tab": 9, "Enter": 13, "Escape": 27, "End": 35, "Home": 36, "ArrowLeft": 37, "ArrowRight": 39}[key]
        text = "\r" if key == "Enter" else ""
        self.call("Input.dispatchKeyEvent", type="keyDown", key=key, code=key, windowsVirtualKeyCode=code, text=text)
        self.call("Input.dispatchKeyEvent", type="keyUp", key=key, code=key, windowsVirtualKeyCode=code)
