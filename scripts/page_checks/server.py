"""A real `relight serve` with a plan and users, and its API."""

import contextlib
import json
import os
import pathlib
import ssl
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request

HOSTILE = "<img src=x onerror=alert(1)>"
# Names that play tricks on pages, headers and terminals.
NAMES = [b"quo'te\".txt", b"new\nline", b"<script>alert(1)<_script>", b"not \xff utf-8 \xc3(", "rtl\u202egpj.exe".encode(), b"100%41%", b"semi;colon=1", "k\u00e4se \u65e5\u672c".encode(), b"-dash", b"\x1b[31mred"]
PLAN = """
[plan]
time-zone = "UTC"
[policy.files]
schedule = "2030-01-01 02:00"
method = "files"
repository = "main"
retention = { keep-last = 5 }
rpo = "24 h"
rto = "1 h"
verify = "2030-01-02"
drill = "2030-01-03"
[policy.slow]
schedule = "2030-01-01 03:00"
method = "files"
repository = "main"
retention = { keep-last = 5 }
rpo = "1 h"
[[bandwidth]]
rate = "4 MiB/s"
[[route]]
name = "chat"
to = "https://hooks.example/services/T0/SECRET"
events = ["failure"]
[[workload]]
name = "host/web"
policy = "files"
source = { paths = ["DATA"] }
[[workload]]
name = "host/large"
policy = "slow"
source = { paths = ["LARGE"] }
[[workload]]
name = "host/broken"
policy = "files"
source = { paths = ["/nowhere/at/all"] }
[[workload]]
name = "host/forgotten"
[[workload]]
name = "lab/host/other"
policy = "files"
source = { paths = ["DATA"] }
"""


class Server:
    """A relight server with a plan, files and users. Its configuration is `more` beside that."""

    def __init__(self, binary, folder, more="", roots=None, plan=PLAN):
        self.binary, self.folder = binary, folder
        self.environment = {name: value for name, value in os.environ.items() if not name.startswith("RELIGHT_")}
        self.environment.update(
            RELIGHT_CONFIG=f"{folder}/relight.toml", RELIGHT_REPOSITORY=f"{folder}/repo",
            RELIGHT_PASSWORD_FILE=f"{folder}/passphrase", RELIGHT_CACHE_DIR=f"{folder}/cache", TZ="UTC")
        (folder / "passphrase").write_text("a passphrase for a test\n")
        (folder / "user-password").write_text("Secret12345\n")
        (folder / "data").mkdir()
        (folder / "data" / f"{HOSTILE.replace('/', '_')}").write_text("a file with a hostile name")
        for name in NAMES:
            path = os.path.join(os.fsencode(folder), b"data", b"odd", name)
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(path, "wb") as file:
                file.write(b"content of " + name)
        (folder / "data" / "reports").mkdir()
        (folder / "data" / "reports" / "annual.txt").write_text("as it was last week\n" * 5000)
        for number in range(120):
            (folder / "data" / "reports" / f"sheet-{number:03}.csv").write_text(f"{number}\n")
        (folder / "restored").mkdir()
        (folder / "outside").mkdir()
        (folder / "restored" / "link").symlink_to(folder / "outside")
        (folder / "large").mkdir()
        (folder / "large" / "random").write_bytes(os.urandom(48 << 20))
        plan = plan.replace("DATA", f"{folder}/data").replace("LARGE", f"{folder}/large")
        (folder / "relight.toml").write_text(
            "[server]\nlisten = ['127.0.0.1:0']\nstate = 'state'\ncache = 'cache'\ngrace = '1s'\n"
            f"[restore]\nroots = [{roots or repr(f'{folder}/restored')}]\n"
            f"[[repository]]\nname = 'main'\nlocation = 'repo'\npassword-file = 'passphrase'\ncomment = '{HOSTILE}'\n{more}{plan}")
        self.run("init")
        for user, role in [("jane@pbs", "Admin"), ("viewer@pbs", "DatastoreAudit"), ("nobody@pbs", None)]:
            self.run("user", "add", user, "--new-password-file", "user-password")
            if role:
                self.run("acl", "set", "/" if role == "Admin" else "/datastore/main", role, user)
        self.start()

    def start(self):
        log = open(self.folder / "log", "a")
        self.process = subprocess.Popen([self.binary, "serve", "--json"], cwd=self.folder, env=self.environment, stdout=subprocess.PIPE, stderr=log, text=True)
        text = ""
        while not text.endswith("}\n"):
            line = self.process.stdout.readline()
            if not line:
                sys.exit("the server did not start:\n" + (self.folder / "log").read_text())
            text += line
        self.url = "https://" + json.loads(text)["listening"][0]

    def run(self, *arguments, good=True):
        done = subprocess.run([self.binary, *arguments], cwd=self.folder, env=self.environment, capture_output=True, text=True)
        if good and done.returncode != 0:
            sys.exit(f"relight {' '.join(arguments)}: {done.stderr}")
        return done.stdout

    def stop(self):
        self.process.terminate()
        self.process.wait(30)


@contextlib.contextmanager
def serving(binary, more="", roots=None, plan=PLAN, approver=False):
    """A server in a folder of its own (FOLDER in `roots`); what it logged last is shown when something fails. With `approver` bob decides."""
    with tempfile.TemporaryDirectory() as folder:
        server = Server(binary, pathlib.Path(folder), more, roots and roots.replace("FOLDER", folder), plan)
        try:
            if approver:
                server.run("user", "add", "bob@pbs", "--new-password-file", "user-password")
                server.run("acl", "set", "/", "Approver", "bob@pbs")
            yield server
        except BaseException:
            print((server.folder / "log").read_text()[-3000:], file=sys.stderr)
            raise
        finally:
            server.stop()


class Api:
    """Calls of the API without a browser."""

    context = ssl._create_unverified_context()

    def __init__(self, url):
        self.url, self.cookie, self.csrf = url, None, None

    def ask(self, method, path, body=None, headers=None, csrf=True):
        headers = dict(headers or {})
        if self.cookie:
            headers["Cookie"] = self.cookie
        if self.csrf and csrf:
            headers["CSRFPreventionToken"] = self.csrf
        data = None
        if body is not None:
            data = json.dumps(body).encode()
            headers["Content-Type"] = "application/json"
        request = urllib.request.Request(self.url + path, data=data, method=method, headers=headers)
        try:
            with urllib.request.urlopen(request, context=self.context) as answer:
                return answer.status, dict(answer.headers), answer.read()
        except urllib.error.HTTPError as error:
            return error.code, dict(error.headers), error.read()

    def log_in(self, user, password="Secret12345"):
        status, headers, body = self.ask("POST", "/api/v1/session", {"user": user, "password": password})
        assert status == 200, body
        self.cookie, self.csrf = headers["set-cookie"].split(";")[0], json.loads(body)["data"]["csrf"]
        for word in ("Secure", "HttpOnly", "SameSite=Strict", "Path=/", "__Host-"):
            assert word in headers["set-cookie"], headers
        return self

    def data(self, path):
        status, _, body = self.ask("GET", "/api/v1/" + path)
        assert status == 200, (path, status, body)
        assert len(body) < 300 << 10, f"{path}: {len(body)} bytes"
        return json.loads(body)
