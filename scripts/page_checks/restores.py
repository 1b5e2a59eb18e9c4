"""Files are found, downloaded and restored: over the API, and in a browser."""

import io
import json
import os
import tarfile
import time
import urllib.parse
import zipfile

from page_checks.browser import click
from page_checks.server import NAMES, Api


def check_restores(server):
    """What is in a recovery point, downloads, and restores by the server, without a browser."""
    admin, viewer, stranger = (Api(server.url) for _ in range(3))
    admin.log_in("jane@pbs")
    viewer.log_in("viewer@pbs")
    base = "workloads/host%2Fweb/recovery-points"
    points = admin.data(base)["data"]
    assert len(points) == 2 and points[0]["time"] > points[1]["time"], points
    assert [p["snapshot"] for p in admin.data(f"{base}?until={points[1]['time']}")["data"]] == [points[1]["snapshot"]]
    assert len(admin.data(f"{base}?limit=1")["data"]) == 1 and admin.data(f"{base}?limit=1")["next"] == 1
    for path in (base, f"{base}/{points[0]['snapshot']}", f"{base}/{points[0]['snapshot']}/files", f"{base}/{points[0]['snapshot']}/download?path=data"):
        assert viewer.ask("GET", "/api/v1/" + path)[0] == 403, path
        assert stranger.ask("GET", "/api/v1/" + path)[0] == 401, path
    old = f"{base}/{points[1]['snapshot']}"
    about = admin.data(old)["data"]
    assert about["kind"] == "files" and about["readable"] and about["archives"][0]["name"] == "data", about
    assert about["roots"] == [f"{server.folder}/restored"], about

    # Folders are read page by page; every name comes back as the bytes that it is.
    names, start = [], 0
    while start is not None:
        page = admin.data(f"{old}/files?path=data/reports&limit=50&from={start}")
        names += [entry["name"] for entry in page["data"]["entries"]]
        start = page["next"]
    assert len(names) == 121 and names == sorted(names), names
    odd = admin.data(f"{old}/files?path=data/odd")["data"]["entries"]
    assert len(odd) == len(NAMES), odd
    for entry in odd:
        path = urllib.parse.unquote_to_bytes(entry["path"])
        status, headers, body = admin.ask("GET", f"/api/v1/{old}/download?path=" + urllib.parse.quote(entry["path"], safe=""))
        assert status == 200 and body == b"content of " + path.rsplit(b"/", 1)[1], (entry, status, body)
        disposition = headers["content-disposition"]
        assert disposition.startswith("attachment; filename=\"") and disposition.isascii() and disposition.isprintable(), disposition
        assert headers["x-content-type-options"] == "nosniff" and "sandbox" in headers["content-security-policy"], headers
        assert not any(ord(char) < 32 or char in "\u202e" for char in entry["name"] + entry["path"]), entry
    found = admin.data(f"{old}/files?search=ANNUAL")["data"]
    assert [entry["path"] for entry in found["entries"]] == ["data/reports/annual.txt"] and found["complete"], found
    assert len(admin.data(f"{old}/files?search=sheet-*.csv&limit=100")["data"]["entries"]) == 100
    assert len(admin.data(f"{old}/files?search=sheet-*.csv&limit=100&from=100")["data"]["entries"]) == 20
    for path in ("files?path=data/../..", "files?path=nothing", "files?path=data/reports/annual.txt", "files?path=%2500", "files?search=" + "x" * 300, "download?path=data/nothing", "download?path=..", "download?format=rar"):
        assert admin.ask("GET", f"/api/v1/{old}/{path}")[0] == 400, path
    assert admin.ask("GET", f"/api/v1/{base}/000000/files")[0] == 404
    status, _, body = admin.ask("GET", f"/api/v1/{old}/download?path=data/reports")
    with tarfile.open(fileobj=io.BytesIO(body)) as archive:
        assert archive.extractfile("reports/annual.txt").read() == b"as it was last week\n" * 5000
    status, _, body = admin.ask("GET", f"/api/v1/{old}/download?path=data&format=zip")
    with zipfile.ZipFile(io.BytesIO(body)) as archive:
        assert archive.read("data/reports/annual.txt") == b"as it was last week\n" * 5000

    # A restore: planned, refused where something is wrong, confirmed, done.
    wanted = {"workload": "host/web", "snapshot": points[1]["snapshot"], "paths": ["data/reports"], "to": f"{server.folder}/restored/here", "existing": "skip"}
    ask = lambda path, **other: admin.ask("POST", "/api/v1/" + path, {**wanted, **other})
    for to in ("/etc", f"{server.folder}/restored/../outside", f"{server.folder}/restored/link", f"{server.folder}/restored/link/deep", "here", f"{server.folder}/restoredX", ""):
        status, _, body = ask("restores/plan", to=to)
        assert status == 400 and b"RL223" in body, (to, status, body)
    assert ask("restores/plan", to="original")[0] == 409
    assert ask("restores/plan", paths=["data/none"])[0] == 400
    assert ask("restores/plan", existing="perhaps")[0] == 400
    assert viewer.ask("POST", "/api/v1/restores/plan", wanted)[0] == 403
    status, _, body = ask("restores/plan")
    plan = json.loads(body)["data"]
    assert status == 200 and (plan["survey"]["files"], plan["survey"]["existing"]) == (121, 0) and plan["free"] > 0, plan
    assert not (server.folder / "restored" / "here").exists(), "a plan changes nothing"
    assert ask("restores", digest="0" * 64)[0] == 409
    assert viewer.ask("POST", "/api/v1/restores", {**wanted, "digest": plan["digest"]})[0] == 403
    restored = server.folder / "restored" / "here" / "data" / "reports"

    def restore(**other):
        status, _, body = ask("restores/plan", **other)
        digest = json.loads(body)["data"]["digest"]
        status, _, body = ask("restores", digest=digest, **other)
        assert status == 200, body
        number = json.loads(body)["data"]["run"]
        end = time.time() + 20
        while time.time() < end:
            run = admin.data(f"runs/{number}")["data"]
            if run["ended"]:
                return run
            time.sleep(0.1)
        raise AssertionError(f"restore {number} does not end")

    run = restore()
    assert run["outcome"] == "good" and run["job"] == "restore host/web" and run["who"] == "jane@pbs", run
    assert (restored / "annual.txt").read_text() == "as it was last week\n" * 5000
    assert ask("restores", digest=plan["digest"])[0] == 409, "the target is another one now"
    (restored / "annual.txt").write_text("mine")
    os.utime(restored / "sheet-000.csv", (1, 1))
    (restored / "sheet-000.csv").write_text("older")
    os.utime(restored / "sheet-000.csv", (1, 1))
    restore(existing="keep-newer")
    assert (restored / "annual.txt").read_text() == "mine" and (restored / "sheet-000.csv").read_text() == "0\n"
    assert restore(existing="overwrite")["outcome"] == "good"
    assert (restored / "annual.txt").read_text() == "as it was last week\n" * 5000
    assert not list((server.folder / "outside").iterdir()), "something was written outside"
    evidence = [record for record in admin.data("evidence?kind=restore&limit=200")["data"] if record["kind"] == "restore"]
    assert any(record["detail"].get("parts") == ["data/reports"] and record["detail"]["target"].endswith("/restored/here") and record["who"] == "jane@pbs" for record in evidence), evidence[:3]
    assert any(record["what"].startswith("download of data/reports of host/web begun") for record in evidence), evidence[:3]
    print("page-test: files are found, downloaded and restored as they were")


def restore_by_browser(server, browser):
    """A new user finds a file of an older backup, and restores it: from the overview, by name, in two steps."""
    began = time.time()
    browser.go("#/", "")
    browser.wait("the way to restore", "document.querySelector('a[aria-label=\"restore host/web\"]')")
    browser.js("document.querySelector('a[aria-label=\"restore host/web\"]').click()")
    browser.wait("the recovery points", "document.querySelectorAll('#point option').length === 2")
    browser.shot("restore-points")
    browser.js("const point = document.getElementById('point'); point.selectedIndex = 1; point.dispatchEvent(new Event('change'))")
    browser.wait("the older one", "document.getElementById('search') && location.hash.includes(document.getElementById('point').value)")
    browser.js("const search = document.getElementById('search'); search.value = 'annual'; search.dispatchEvent(new Event('input'))")
    browser.wait("the file", "document.querySelectorAll('tbody tr').length === 1 && document.querySelector('tbody tr').innerText.includes('annual.txt')")
    browser.shot("restore-search")
    browser.js("document.querySelector('button[aria-label^=\"restore data/reports/annual\"]').click()")
    browser.wait("where to", "document.getElementById('to')")
    browser.js(f"document.getElementById('to').value = {json.dumps(str(server.folder / 'restored' / 'by-browser'))}")
    click(browser, "Show what would be done")
    browser.wait("the plan", "document.querySelector('.review')")
    browser.shot("restore-plan")
    click(browser, "Restore now")
    browser.wait("its end", "document.querySelector('main h1')?.textContent.startsWith('Run') && document.querySelector('.tag.good')", 30)
    browser.shot("restore-run")
    restored = server.folder / "restored" / "by-browser" / "data" / "reports" / "annual.txt"
    assert restored.read_text() == "as it was last week\n" * 5000
    assert time.time() - began < 60
    # Hostile names are text, and the folder with them can be walked into.
    browser.go("#/restore/host%2Fweb?path=data/odd", "Restore host/web")
    browser.wait("hostile names", f"document.querySelectorAll('tbody tr').length === {len(NAMES)}")
    assert browser.js("return document.querySelectorAll('main script, main img').length") == 0
    browser.shot("restore-names")
