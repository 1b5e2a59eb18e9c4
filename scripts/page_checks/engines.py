"""Disk images and PostgreSQL clusters are restored from the page; a restore that the server's death interrupted is asked for again."""

import contextlib
import json
import os
import pathlib
import pwd
import subprocess
import tempfile
import time

from page_checks.browser import Browser, click, log_in, run_ended, set_value
from page_checks.server import Api, Server

PLAN = """
[plan]
time-zone = "UTC"
[policy.images]
schedule = "2030-01-01 02:00"
method = "image"
repository = "main"
retention = { keep-last = 5 }
[policy.files]
schedule = "2030-01-01 02:00"
method = "files"
repository = "main"
retention = { keep-last = 5 }
[[workload]]
name = "vm/100"
policy = "images"
source = { images = ["FOLDER/disk.raw"] }
[[workload]]
name = "host/many"
policy = "files"
source = { paths = ["FOLDER/many"] }
"""
CLUSTER = """
[policy.databases]
schedule = "2030-01-01 02:00"
method = "base-backup"
repository = "main"
retention = { keep-last = 2 }
rpo = "1 min"
log = "10 s"
[[workload]]
name = "pg/main"
policy = "databases"
source = { url = "host=SOCKETS user=postgres dbname=postgres", user = "USER" }
"""
MANY = 4000


class Postgres:
    """A server of PostgreSQL, as scripts/postgres-servers has fetched it, run by the user of the tests."""

    def __init__(self, programs):
        self.programs = programs
        self.user = "relight-postgres" if os.geteuid() == 0 else pwd.getpwuid(os.geteuid()).pw_name
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="rpg"))
        os.chown(self.folder, *pwd.getpwnam(self.user)[2:4])
        self.data, self.started = self.folder / "data", []
        self.run("initdb", "--no-sync", "--auth=trust", "--username=postgres", "--encoding=UTF8", "--locale=C", "-D", self.data)
        with open(self.data / "postgresql.conf", "a") as file:
            file.write("fsync = off\nlisten_addresses = ''\nshared_buffers = 16MB\n")

    @staticmethod
    def programs_here():
        cache = pathlib.Path(os.environ.get("RELIGHT_TEST_CACHE") or ("/var/cache/relight-test" if os.geteuid() == 0 else pathlib.Path.home() / ".cache" / "relight-test"))
        found = sorted(cache.glob("postgres-17.*/bin"))
        return found[-1] if found else None

    def run(self, program, *arguments, good=True):
        who = {"user": self.user, "group": pwd.getpwnam(self.user).pw_gid, "extra_groups": []} if os.geteuid() == 0 else {}
        done = subprocess.run([self.programs / program, *arguments], cwd="/", env={"PATH": "/usr/bin:/bin", "LC_ALL": "C"}, text=True, capture_output=program != "pg_ctl", **who)
        assert not good or done.returncode == 0, (program, done)
        return done.stdout

    def start(self, data):
        self.run("pg_ctl", "start", "-w", "-s", "-D", data, "-l", self.folder / "log", "-o", f"-k {self.folder}")
        self.started.append(data)

    def stop(self, data):
        self.run("pg_ctl", "stop", "-w", "-s", "-m", "fast", "-D", data)
        self.started.remove(data)

    def sql(self, text):
        return self.run("psql", "-X", "-q", "-A", "-t", "-h", self.folder, "-U", "postgres", "-d", "postgres", "-c", text).strip()

    def end(self):
        for data in list(self.started):
            self.run("pg_ctl", "stop", "-s", "-m", "immediate", "-D", data, good=False)
        subprocess.run(["rm", "-rf", self.folder], check=True)


def until(what, found, seconds=30):
    end = time.time() + seconds
    while True:
        result = found()
        if result:
            return result
        assert time.time() < end, what
        time.sleep(0.1)


def restore_now(browser, says, shot=None, axe=None):
    """What would be done is shown, and then done."""
    click(browser, "Show what would be done")
    browser.wait("the plan", f"document.querySelector('.review')?.innerText.includes({json.dumps(says)})")
    if shot:
        browser.shot(shot)
    if axe:
        browser.check_axe(axe, shot or says)
    click(browser, "Restore now")
    run_ended(browser)


def check_engines(binary, axe):
    programs = Postgres.programs_here()
    assert programs, "there is no PostgreSQL 17: run scripts/postgres-servers 17"
    with contextlib.ExitStack() as stack:
        folder = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory()))
        # The server of the restored cluster has to get through it.
        folder.chmod(0o755)
        (folder / "disk.raw").write_bytes(os.urandom(3 << 20) + bytes(5 << 20) + os.urandom(1 << 20))
        (folder / "many").mkdir()
        for number in range(MANY):
            (folder / "many" / f"{number:04}").write_bytes(b"%d\n" % number * 4000)
        postgres = Postgres(programs)
        stack.callback(postgres.end)
        postgres.start(postgres.data)
        plan = PLAN.replace("FOLDER", str(folder)) + CLUSTER.replace("SOCKETS", str(postgres.folder)).replace("USER", postgres.user)
        server = Server(binary, folder, plan=plan)
        stack.callback(lambda: server.stop())
        try:
            images(server, axe)
            clusters(server, postgres, axe)
            interrupted(server, axe)
        except BaseException:
            print((folder / "log").read_text()[-3000:])
            raise


def images(server, axe):
    server.run("run", "vm/100")
    with Browser() as browser:
        log_in(browser, server.url)
        browser.go("#/restore/vm%2F100", "Restore vm/100")
        browser.wait("the image", "document.querySelector('tbody tr')?.innerText.includes('disk image')")
        browser.shot("image")
        click(browser, "Restore", "document.querySelector('tbody')")
        browser.wait("where to", "document.getElementById('to')")
        target = pathlib.Path(browser.js("return document.getElementById('to').value"))
        restore_now(browser, "9.00 MiB", "image-plan", axe)
    [image] = target.iterdir()
    assert image.read_bytes() == (server.folder / "disk.raw").read_bytes(), "the image is as it was"
    assert image.stat().st_blocks * 512 < image.stat().st_size, "holes stay holes"
    print("page-test: a disk image is restored as a raw file, byte by byte, with its holes")


def clusters(server, postgres, axe):
    api = Api(server.url).log_in("jane@pbs")
    until("the receiver", lambda: postgres.sql("SELECT count(*) FROM pg_replication_slots WHERE active") == "1")
    postgres.sql("CREATE TABLE one (n int); INSERT INTO one VALUES (1)")
    server.run("run", "pg/main")
    postgres.sql("INSERT INTO one VALUES (2)")
    time.sleep(2.1)
    between = int(time.time())
    time.sleep(2.1)
    last = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(time.time()))
    postgres.sql("INSERT INTO one VALUES (3)")

    def there():
        found = [one["windows"] for one in api.data("workloads/pg%2Fmain/windows")["data"]]
        return found[0] and any(interval["to"] >= last for interval in found[0]["intervals"])
    until("all of the log", there, 60)
    ask = lambda path, **other: api.ask("POST", "/api/v1/restores/cluster" + path, {"workload": "pg/main", "goal": "latest", "to": f"{server.folder}/restored/api", **other})
    # What cannot be is refused, with what can.
    for other, words in (({"goal": "2020-01-01T00:00:00Z"}, b"cannot be reached"), ({"goal": "yesterday"}, b"no point in time"), ({"to": "/etc/x"}, b"RL223"),
                         ({"to": f"{server.folder}/restored"}, b"a folder of its own"), ({"to": f"{server.folder}/restored/link/x"}, b"RL223"),
                         ({"workload": "vm/100"}, b"no PostgreSQL cluster"), ({"to": f"{server.folder}/restored/vm-100-{time.strftime('%Y-%m-%d', time.gmtime())}"}, b"not empty")):
        status, _, body = ask("/plan", **other)
        assert status == 400 and words in body, (other, status, body)
    assert ask("/plan", workload="pg/none")[0] == 404
    assert ask("", digest="0" * 64)[0] == 409
    viewer = Api(server.url).log_in("viewer@pbs")
    assert viewer.ask("POST", "/api/v1/restores/cluster/plan", {"workload": "pg/main", "goal": "latest", "to": f"{server.folder}/restored/api"})[0] == 403
    assert viewer.ask("GET", "/api/v1/workloads/pg%2Fmain/windows")[0] == 403

    with Browser() as browser:
        log_in(browser, server.url)
        browser.go("#/restore/pg%2Fmain", "Restore pg/main")
        browser.wait("the window", "document.querySelector('.windows')?.innerText.includes('Any moment from')")
        browser.shot("cluster")
        if axe:
            browser.check_axe(axe, "a cluster's windows")
        # A moment before there was anything: it is said what there is.
        click(browser, "Choose a moment in it")
        set_value(browser, "#moment", "2020-01-01T00:00:00")
        click(browser, "Show what would be done")
        browser.wait("what can be recovered", "document.querySelector('.fault')?.innerText.includes('cannot be reached')")
        browser.shot("cluster-refused")
        set_value(browser, "#moment", browser.js("const at = new Date(arguments[0] * 1000); return new Date(at - at.getTimezoneOffset() * 60000).toISOString().slice(0, 19)", between))
        set_value(browser, "#cluster-to", f"{server.folder}/restored/then")
        restore_now(browser, "Begins with", "cluster-plan", axe)
        browser.shot("cluster-run")
        # What a server that was killed has left of an earlier try is in nobody's way.
        left = server.folder / "restored" / ".now.relight-restore" / "data"
        left.mkdir(parents=True)
        (left / "PG_VERSION").write_text("17\n")
        browser.go("#/restore/pg%2Fmain", "Restore pg/main")
        browser.wait("the form", "document.getElementById('cluster-to')")
        set_value(browser, "#cluster-to", f"{server.folder}/restored/now")
        restore_now(browser, "the end of the log")
        complaints = [line for line in browser.complaints() if "400" not in line]
        assert not complaints, complaints
    assert not [one.name for one in (server.folder / "restored").iterdir() if one.name.startswith(".")], "nothing is left beside it"
    # Without the repository, and beside nothing else.
    postgres.stop(postgres.data)
    for name, rows in (("then", "1,2"), ("now", "1,2,3")):
        data = server.folder / "restored" / name
        postgres.start(data)
        until("the end of its recovery", lambda: postgres.sql("SELECT pg_is_in_recovery()") == "f")
        assert postgres.sql("SELECT string_agg(n::text, ',' ORDER BY n) FROM one") == rows, name
        assert postgres.sql("SHOW archive_mode") == "off"
        postgres.stop(data)
    print("page-test: a PostgreSQL cluster is restored to a moment and to the end of its log, and its servers have the rows of then")


def interrupted(server, axe):
    server.run("run", "host/many")
    api = Api(server.url).log_in("jane@pbs")
    point = api.data("workloads/host%2Fmany/recovery-points")["data"][0]["snapshot"]
    target = server.folder / "restored" / "many-again"
    wanted = {"workload": "host/many", "snapshot": point, "paths": [], "to": str(target), "existing": "skip"}
    _, _, body = api.ask("POST", "/api/v1/restores/plan", wanted)
    status, _, body = api.ask("POST", "/api/v1/restores", {**wanted, "digest": json.loads(body)["data"]["digest"]})
    number = json.loads(body)["data"]["run"]
    end = time.time() + 20
    while len(os.listdir(target / "many") if (target / "many").exists() else []) < 100:
        assert time.time() < end
    server.process.kill()
    server.process.wait()
    restored = target / "many"
    there = len(list(restored.iterdir()))
    assert there < MANY, "it was over before it could be killed"
    server.start()
    api = Api(server.url).log_in("jane@pbs")
    run = until("its end", lambda: (run := api.data(f"runs/{number}")["data"])["ended"] and run)
    assert run["outcome"] == "interrupted" and run["code"] == "RL210" and "goes on where it ended" in run["message"], run
    assert run["again"] == wanted, run
    assert Api(server.url).log_in("viewer@pbs").data(f"runs/{number}")["data"]["again"] is None, "who may not read is not told of what"
    with Browser(width=390, height=844) as browser:
        log_in(browser, server.url)
        browser.go(f"#/run/{number}", f"Run {number}")
        click(browser, "Ask for it again")
        browser.wait("the plan", "document.querySelector('.review')?.innerText.includes('In its way')")
        browser.shot("interrupted")
        if axe:
            browser.check_axe(axe, "a restore that was interrupted")
        click(browser, "Restore now")
        browser.wait("the new run", f"document.querySelector('main h1')?.textContent === 'Run {number + 1}'")
        run_ended(browser)
        told = browser.js("return document.querySelector('.events').innerText")
        assert "were there already as they should be" in told, told
    assert len(list(restored.iterdir())) == MANY
    for number in range(MANY):
        assert (restored / f"{number:04}").read_bytes() == b"%d\n" % number * 4000, number
    print(f"page-test: a restore that kill -9 broke off after {there} of {MANY} files is told as interrupted, asked for again by one click, and goes on")
