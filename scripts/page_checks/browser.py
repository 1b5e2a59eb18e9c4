"""A headless Chromium, and what is asked of every page."""

import base64
import io
import json
import os
import pathlib
import subprocess
import tarfile
import tempfile
import time
import urllib.error
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
SHOTS = pathlib.Path(os.environ.get("PAGE_SHOTS") or pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "page")
CACHE = pathlib.Path(os.environ.get("XDG_CACHE_HOME", pathlib.Path.home() / ".cache")) / "relight-page"
AXE = "axe-core@4.10.3"


class Browser:
    """A headless Chromium, by WebDriver (W3C) over HTTP."""

    def __init__(self, width=1280, height=900, dark=False):
        self.driver = subprocess.Popen(["chromedriver", "--port=0"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        for line in self.driver.stdout:
            if "successfully on port" in line:
                self.base = "http://127.0.0.1:" + line.rsplit(" ", 1)[1].strip(" .\n")
                break
        self.profile = tempfile.TemporaryDirectory()
        arguments = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars", "--lang=en-GB",
                     f"--window-size={width},{height}", f"--user-data-dir={self.profile.name}"]
        if dark:
            arguments.append("--blink-settings=preferredColorScheme=0")
        options = {"browserName": "chrome", "acceptInsecureCerts": True, "goog:loggingPrefs": {"browser": "ALL"},
                   "goog:chromeOptions": {"args": arguments}}
        self.session = self.call("POST", "/session", {"capabilities": {"alwaysMatch": options}})["sessionId"]
        self.base += "/session/" + self.session
        self.call("POST", "/goog/cdp/execute", {"cmd": "Emulation.setDeviceMetricsOverride", "params": {
            "width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}})
        self.call("POST", "/goog/cdp/execute", {"cmd": "Emulation.setEmulatedMedia", "params": {
            "features": [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]}})

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def call(self, method, path, body=None):
        request = urllib.request.Request(self.base + path, method=method, data=None if body is None else json.dumps(body).encode(),
                                         headers={"Content-Type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return json.loads(answer.read())["value"]
        except urllib.error.HTTPError as error:
            raise AssertionError(error.read().decode()[:600]) from error

    def open(self, url):
        self.call("POST", "/url", {"url": url})

    def js(self, script, *arguments):
        return self.call("POST", "/execute/sync", {"script": script, "args": list(arguments)})

    def text(self):
        return self.js("return document.body.innerText")

    def wait(self, what, script, seconds=15):
        end = time.time() + seconds
        while time.time() < end:
            if self.js(f"return Boolean({script})"):
                return
            time.sleep(0.05)
        self.shot("failed")
        raise AssertionError(f"{what}: not within {seconds} s: {self.text()[:1500]}")

    def keys(self, *keys):
        actions = [{"type": kind, "value": key} for key in keys for kind in ("keyDown", "keyUp")]
        self.call("POST", "/actions", {"actions": [{"type": "key", "id": "keyboard", "actions": actions}]})

    def go(self, address, title):
        self.js(f"location.hash = {json.dumps(address)}")
        self.wait(address, f"document.querySelector('main h1')?.textContent.includes({json.dumps(title)})")

    def shot(self, name):
        SHOTS.mkdir(parents=True, exist_ok=True)
        (SHOTS / f"{name}.png").write_bytes(base64.b64decode(self.call("GET", "/screenshot")))

    def check_axe(self, axe, page):
        """No rule of WCAG 2.1 A and AA is broken, nor any that axe-core calls serious."""
        self.js(axe)
        found = self.call("POST", "/execute/async", {"args": [], "script": """
            const done = arguments[arguments.length - 1];
            axe.run(document).then((result) => done(result.violations.map((one) =>
                [one.id, one.impact, one.tags.join(" "), one.nodes.map((node) => node.target.join(" ") + ": " + node.failureSummary).slice(0, 3)])), (error) => done([["failed", "critical", "", [String(error)]]]));"""})
        bad = [one for one in found if one[1] in ("serious", "critical") or "wcag2a" in one[2] or "wcag21a" in one[2]]
        assert not bad, f"{page}: {json.dumps(bad, indent=1)}"

    def complaints(self):
        """What the browser complained of, but refused log-ins, which are tried on purpose."""
        entries = self.call("POST", "/se/log", {"type": "browser"})
        return [entry["message"] for entry in entries if entry["level"] == "SEVERE" and "401" not in entry["message"]]

    def close(self):
        try:
            self.call("DELETE", "")
        finally:
            self.driver.terminate()
            self.driver.wait(10)


def axe_core():
    """The text of axe-core, from the registry once. None: it could not be had."""
    kept = CACHE / f"{AXE}.min.js"
    if not kept.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        name, version = AXE.split("@")
        registry = os.environ.get("npm_config_registry", "https://registry.npmjs.org").rstrip("/")
        try:
            with urllib.request.urlopen(f"{registry}/{name}/-/{name}-{version}.tgz", timeout=60) as answer:
                packed = io.BytesIO(answer.read())
        except OSError:
            return None
        with tarfile.open(fileobj=packed) as archive:
            kept.write_bytes(archive.extractfile("package/axe.min.js").read())
    return kept.read_text()


def run_ended(browser, seconds=60):
    """The page is that of a run, which ends well."""
    browser.wait("its end", "document.querySelector('main h1')?.textContent.startsWith('Run') && document.querySelector('.tag.good')", seconds)


def set_value(browser, css, text):
    browser.js("const field = document.querySelector(arguments[0]); field.value = arguments[1]; field.dispatchEvent(new Event('input', { bubbles: true })); field.dispatchEvent(new Event('change', { bubbles: true }))", css, text)


def log_in(browser, url, user="jane"):
    """By the keyboard alone."""
    browser.open(url + "/")
    browser.wait("the log-in form", "document.activeElement?.id === 'user'")
    browser.keys(*user, "\ue004", *"Secret12345", "\ue007")
    browser.wait("the overview", "document.querySelector('table')")


def click(browser, words, scope="document"):
    browser.wait(words, f"[...{scope}.querySelectorAll('button, a')].some((one) => one.textContent === {json.dumps(words)} && !one.disabled)")
    browser.js(f"[...{scope}.querySelectorAll('button, a')].find((one) => one.textContent === {json.dumps(words)}).click()")
