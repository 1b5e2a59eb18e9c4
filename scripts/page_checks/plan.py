"""The plan is edited: over the API, and in a browser."""

import json
import os
import time

from page_checks.browser import click
from page_checks.server import Api


def check_plan_edit(server):
    """The plan is checked and written over the API, and nothing secret is shown or lost."""
    admin, viewer = Api(server.url), Api(server.url)
    admin.log_in("jane@pbs")
    viewer.log_in("viewer@pbs")
    file = server.folder / "relight.toml"
    before = file.read_text()
    shown = admin.data("plan")["data"]
    text = "\n".join(shown["lines"]) + "\n"
    assert "T0/SECRET" not in text and "hooks.example" in text
    check = lambda text: json.loads(admin.ask("POST", "/api/v1/plan/check", {"text": text})[2])["data"]
    put = lambda text, digest, who=admin: who.ask("PUT", "/api/v1/plan", {"text": text, "based-on": digest})
    assert check(text)["differs"] is False and check(text)["problems"] == []
    changed = text.replace('rpo = "24 h"', 'rpo = "12 h"')
    found = check(changed)
    assert [(one["sign"], one["text"]) for one in found["difference"]] == [("-", 'rpo = "24 h"'), ("+", 'rpo = "12 h"')], found
    assert file.read_text() == before, "a check changes nothing"
    for bad in (text.replace("[plan]", "[plam]"), text.replace('policy = "slow"', 'policy = "none"'), text.replace("127.0.0.1:0", "127.0.0.1:1"),
                text.replace("https://hooks.example/…", "https://hooks.example/x/…"), text.split("[[workload]]")[0], "", "x = ["):
        assert check(bad)["problems"], bad
        assert put(bad, shown["digest"])[0] == 400, bad
    assert viewer.ask("POST", "/api/v1/plan/check", {"text": text})[0] == 403
    assert put(changed, shown["digest"], viewer)[0] == 403
    assert put(changed, "0" * 64)[0] == 409
    assert file.read_text() == before
    os.chmod(file, 0o640)
    status, _, body = put(changed, shown["digest"])
    assert status == 200, body
    assert file.read_text() == before.replace('rpo = "24 h"', 'rpo = "12 h"') and file.stat().st_mode & 0o777 == 0o640
    assert put(changed, shown["digest"])[0] == 409, "it was based on the one before"
    end = time.time() + 10
    while not admin.data("plan")["data"]["holds"] and time.time() < end:
        time.sleep(0.2)
    assert admin.data("plan")["data"]["holds"], "the server follows it"
    record = next(record for record in admin.data("evidence?kind=change&limit=50")["data"] if record["what"].startswith("changed the plan"))
    assert record["who"] == "jane@pbs" and any('12 h' in line for line in record["detail"]["difference"]) and "SECRET" not in json.dumps(record), record
    # An editor that empties the file first, or a slip, does not end all backups.
    whole = file.read_text()
    file.write_text(whole.split("[[workload]]")[0])
    time.sleep(4)
    assert len(admin.data("workloads")["data"]) == 5, "the plan from before is kept"
    file.write_text(whole)
    print("page-test: the plan is edited, and secrets in it are kept")


def edit_plan(server, browser):
    """With remarks while one types, and the changes to look at before they are written."""
    click(browser, "Edit the plan")
    browser.wait("the text", "document.getElementById('plan-text')?.value.includes('host/web')")
    type_in = lambda old, new: browser.js("const area = document.getElementById('plan-text'); area.value = area.value.replace(arguments[0], arguments[1]); area.dispatchEvent(new Event('input'))", old, new)
    type_in('policy = "slow"', 'policy = "none"')
    browser.wait("what is wrong", "document.querySelector('#plan-told .fault')")
    browser.shot("edit-plan-wrong")
    assert browser.js("return [...document.querySelectorAll('button')].find((one) => one.textContent === 'Review the changes').disabled")
    type_in('policy = "none"', 'policy = "slow"')
    type_in('rto = "1 h"', 'rto = "2 h"')
    browser.go("#/runs", "Runs")
    browser.go("#/edit-plan", "Edit the plan")
    browser.wait("what was not saved", "document.getElementById('plan-text')?.value.includes('rto = \"2 h\"')")
    click(browser, "Review the changes")
    browser.wait("the difference", "document.querySelectorAll('pre.diff .line').length === 2")
    browser.shot("edit-plan-changes")
    click(browser, "Save the plan")
    browser.wait("the plan", "document.querySelector('main h1')?.textContent === 'Plan'")
    assert 'rto = "2 h"' in (server.folder / "relight.toml").read_text() and "T0/SECRET" in (server.folder / "relight.toml").read_text()
