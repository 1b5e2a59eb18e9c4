"""How quickly a server that has run 1,000 workloads for three years answers a browser and a scrape.

    page.py BINARY FOLDER     FOLDER is one that `bench/run years` has made

Works on a copy of the state. Times are of a page in headless Chromium on the same machine: from the call until the browser
has painted, its cache empty at first and warm then.
"""

import pathlib
import shutil
import statistics
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.dont_write_bytecode = True
sys.path.insert(0, str(ROOT / "scripts"))

from page_checks import browser as pages, server as servers

TIMES = 7
KIB = 1 << 10


class Server(servers.Server):
    """A server with the state of years."""

    def __init__(self, binary, folder, years):
        self.binary, self.folder = binary, folder
        self.environment = {"PATH": "/usr/bin:/bin", "HOME": str(folder), "TZ": "UTC", "RELIGHT_CONFIG": f"{folder}/relight.toml",
                            "RELIGHT_REPOSITORY": f"{folder}/repo", "RELIGHT_PASSWORD_FILE": f"{folder}/passphrase",
                            "RELIGHT_CACHE_DIR": f"{folder}/cache"}
        (folder / "passphrase").write_text("a passphrase for a bench\n")
        (folder / "user-password").write_text("Secret12345\n")
        (folder / "state").mkdir(mode=0o700)
        shutil.copy(years / "state.db", folder / "state" / "state.db")
        place = "name = 'main'\n"
        plan = (years / "plan.toml").read_text().replace(place, place + "location = 'repo'\npassword-file = 'passphrase'\n")
        (folder / "relight.toml").write_text("[server]\nlisten = ['127.0.0.1:0']\nstate = 'state'\ncache = 'cache'\ngrace = '1s'\n" + plan)
        self.run("init")
        self.run("user", "add", "jane@pbs", "--new-password-file", "user-password")
        self.run("acl", "set", "/", "Admin", "jane@pbs")
        began = time.perf_counter()
        self.start()
        told("start, until it listens", [time.perf_counter() - began], 2)


def told(what, times, aim=None, size=None):
    middle = statistics.median(times)
    words = f"{what:<44} {middle * 1000:8.1f} ms  (worst {max(times) * 1000:.1f})"
    if size is not None:
        words += f"  {size / KIB:.0f} KiB"
    if aim is not None:
        words += f"   aim: under {aim * 1000:.0f} ms" + ("" if middle < aim else "   MISSED")
    if size is not None and size > 300 * KIB:
        words += "   over 300 KiB: MISSED"
    print(words, flush=True)


def asked(api, path, what=None, aim=None, paged=True):
    times, size = [], 0
    for _ in range(TIMES):
        began = time.perf_counter()
        status, _, body = api.ask("GET", path)
        times.append(time.perf_counter() - began)
        assert status == 200, (path, status, body[:300])
        size = len(body)
    told(what or path, times, aim, size if paged else None)


def main():
    binary, years = sys.argv[1], pathlib.Path(sys.argv[2])
    with tempfile.TemporaryDirectory(dir=years) as name:
        server = Server(binary, pathlib.Path(name), years)
        try:
            api = servers.Api(server.url).log_in("jane@pbs")
            began = time.perf_counter()
            status, _, _ = api.ask("GET", "/metrics")
            assert status == 200, status
            told("/metrics, the first", [time.perf_counter() - began])
            asked(api, "/metrics", aim=0.1, paged=False)
            for path in ("overview", "workloads", "workloads/vm%2F500", "runs", "runs?workload=vm%2F500", "runs?outcome=failed", "drills",
                         "evidence", "repositories", "plan"):
                asked(api, f"/api/v1/{path}")
            browser = pages.Browser()
            browser.open(server.url + "/")
            browser.wait("the form", "document.getElementById('user')")
            browser.js("document.getElementById('user').value = 'jane'; document.getElementById('password').value = 'Secret12345';"
                       "document.querySelector('form button').click()")
            browser.wait("the overview", "document.querySelector('main table')")
            for what, cold in (("overview painted, nothing cached", True), ("overview painted", False)):
                times = []
                for _ in range(TIMES):
                    browser.call("POST", "/goog/cdp/execute", {"cmd": "Network.enable", "params": {}})
                    browser.call("POST", "/goog/cdp/execute", {"cmd": "Network.setCacheDisabled", "params": {"cacheDisabled": cold}})
                    browser.open("about:blank")
                    browser.open(server.url + "/#/")
                    browser.wait("the overview", "performance.getEntriesByName('painted').length && document.querySelector('main table')")
                    # The frame after the one in which it was put there has shown it.
                    times.append(browser.call("POST", "/execute/async", {"script": """
                        const done = arguments[arguments.length - 1];
                        requestAnimationFrame(() => setTimeout(() => {
                          const paints = performance.getEntriesByType('paint').map((paint) => paint.startTime);
                          const marks = performance.getEntriesByName('painted').map((mark) => mark.startTime);
                          done(Math.max(...paints, ...marks));
                        }));""", "args": []}) / 1000)
                told(what, times, 0.3)
            browser.close()
        finally:
            server.stop()


main()
