"""Recovery points are protected, and forgotten before the plan would, with a second person and by the keyboard alone."""

import json

from page_checks.browser import Browser, click, log_in
from page_checks.keyboard import SPACE, Hands
from page_checks.people import decide
from page_checks.server import Api, serving

ROWS = "document.querySelectorAll('.basket + div tbody tr').length"


def check_points(binary, axe):
    check = lambda browser, what: axe and browser.check_axe(axe, what)
    with serving(binary, "[approvals]\nrequired = ['delete']\n", approver=True) as server:
        for number in range(4):
            (server.folder / "data" / "reports" / "annual.txt").write_text(f"{number}\n" * 5000)
            server.run("run", "host/web")
        server.run("run", "lab/host/other")
        with Browser() as one, Browser(width=390, height=844, dark=True) as other:
            other.server = server.url
            log_in(one, server.url)
            log_in(other, server.url, "bob")
            forget(server, one, other, check)
            by_keyboard(one, other)
            last_good(one, check)
            complaints = [line for line in one.complaints() if not any(status in line for status in ("400", "403", "409"))]
            assert not complaints, complaints
        whoever_may_not(server, check)
    print("page-test: recovery points are protected and forgotten early, by whoever may, with a second person")


def list_of(browser, workload, rows):
    browser.go("#/runs", "Runs")
    browser.go(f"#/workload/{workload.replace('/', '%2F')}", workload)
    browser.js("for (const part of document.querySelectorAll('details')) part.open = true")
    browser.wait("the list", f"{ROWS} === {rows}")


def press(browser, label, row):
    browser.js("document.querySelectorAll('.basket + div tbody tr')[arguments[1]].querySelector(`[aria-label^='${arguments[0]}']`).click()", label, row)


def forget(server, one, other, check):
    """The newest first in the list: 0 to 3."""
    list_of(one, "host/web", 4)
    press(one, "protect", 3)
    one.wait("that it is protected", "document.querySelectorAll('.basket + div tbody tr')[3]?.innerText.includes('Unprotect')")
    assert one.js("return document.querySelector('details[open] .basket') !== null"), "the list stays open"
    for row in (0, 1, 3):
        press(one, "choose", row)
    click(one, "Forget…")
    one.wait("what would go", "document.querySelector('.review h2')?.textContent === 'Forget 2 recovery points of host/web for good' && document.activeElement?.tagName === 'H2'")
    text = one.js("return document.querySelector('.review').innerText")
    assert ": protected" in text and "2 recovery points, 2 of them good" in text and "The newest recovery point is among them" in text, text
    one.shot("forget-plan")
    check(one, "what forgetting would do")
    click(one, "Leave it")
    one.wait("that it is left", "!document.querySelector('.review')")
    press(one, "choose", 3)
    click(one, "Forget…")
    click(one, "Forget 2 recovery points")
    one.wait("that it waits", "document.querySelector('.review .told')?.innerText.includes('request 1')")
    one.shot("forget-waits")
    check(one, "forgetting that waits")
    other.open(other.server + "/#/access")
    other.js("location.reload()")
    other.wait("what is asked for", "document.querySelectorAll('pre.diff .gone').length === 2")
    other.shot("forget-decide")
    check(other, "forgetting to decide on")
    assert "forget 2 recovery points of host/web in main, 2 are left there" in other.text(), other.text()
    decide(other, 1, "Approve", "they are of no use")
    one.wait("that it is approved", "document.querySelector('.review .note.well')")
    click(one, "Forget 2 recovery points")
    one.wait("that they are gone", f"{ROWS} === 2 && document.querySelector('main').innerText.includes('2 in main.')")
    one.shot("forgotten")
    check(one, "a workload after forgetting")
    # To take protection away is what a second person is asked for, too.
    press(one, "take away", 1)
    one.wait("that it waits", "document.querySelector('.note')?.innerText.includes('request 2')")
    decide(other, 2, "Deny", "it is of the audit")
    one.wait("that it is denied", "document.querySelector('.fault')?.innerText.includes('denied by bob@pbs: it is of the audit')")
    assert len(Api(server.url).log_in("jane@pbs").data("workloads/host%2Fweb/recovery-points")["data"]) == 2
    for phone in (False, True):
        with Browser(width=390 if phone else 1280, height=844, dark=not phone) as browser:
            log_in(browser, server.url)
            list_of(browser, "host/web", 2)
            press(browser, "choose", 0)
            click(browser, "Forget…")
            browser.wait("what would go", "document.activeElement?.tagName === 'H2'")
            browser.shot("forget-phone" if phone else "forget-dark")
            check(browser, "what forgetting would do, on a phone or dark")
            assert browser.js("return document.documentElement.scrollWidth <= innerWidth")


def by_keyboard(one, other):
    list_of(one, "host/web", 2)
    one.js("for (const part of document.querySelectorAll('details')) part.open = false")
    one.js("document.getElementById('main').focus()")
    hands = Hands(one)
    hands.push("SUMMARY|||As a list: protect them")
    hands.reach("choose the recovery point of")
    hands.press(SPACE)
    one.js("document.querySelector('details[open]').querySelector('summary').focus()")
    hands.push("||Forget…")
    one.wait("what would go", "document.activeElement?.tagName === 'H2' && document.activeElement.textContent.startsWith('Forget 1 recovery point of')")
    hands.push("BUTTON|||Forget 1 recovery point")
    one.wait("that it waits", "document.querySelector('.review .told')?.innerText.includes('request 3')")
    decide(other, 3, "Approve", "by the keyboard")
    one.wait("that it is approved", "document.querySelector('.review .note.well')")
    one.js("document.querySelector('.review h2').focus()")
    hands.push("BUTTON|||Forget 1 recovery point")
    one.wait("that it is gone", f"{ROWS} === 1")
    one.wait("where the keys go on", "document.activeElement?.closest('main') && document.activeElement !== document.body")
    # What is left is protected.
    press(one, "choose", 0)
    click(one, "Forget…")
    one.wait("that nothing goes", "document.querySelector('.review h2')?.textContent === 'Nothing would go'")


def last_good(one, check):
    list_of(one, "lab/host/other", 1)
    press(one, "choose", 0)
    click(one, "Forget…")
    one.wait("what would go", "document.querySelector('.review .fault')?.innerText.includes('all there is of lab/host/other in main')")
    click(one, "Forget 1 recovery point")
    one.wait("that it is refused", "document.querySelector('.review .told .fault')?.innerText.includes('no good recovery point')")
    one.shot("forget-last-good")
    check(one, "forgetting the last good one")
    one.js("document.getElementById('last-good').click()")
    click(one, "Forget 1 recovery point")
    one.wait("that it waits", "document.querySelector('.review .told .note')?.innerText.includes('request 4')")


def whoever_may_not(server, check):
    viewer = Api(server.url).log_in("viewer@pbs")
    data = viewer.data("workloads/host%2Fweb")["data"]
    [point] = data["points"]
    assert data["may"] == {"forget": [], "protect": []} and point["protected"], data
    wanted = {"workload": "host/web", "repository": "main", "snapshots": [point["snapshot"]]}
    protection = f"/api/v1/workloads/host%2Fweb/recovery-points/{point['snapshot']}/protection"
    assert viewer.ask("POST", "/api/v1/forgets/plan", wanted)[0] == 403
    assert viewer.ask("POST", "/api/v1/forgets", {**wanted, "digest": "0", "last-good": True})[0] == 403
    assert viewer.ask("PUT", protection, {"repository": "main", "protected": False})[0] == 403
    admin = Api(server.url).log_in("jane@pbs")
    for other in ({"repository": "away"}, {"snapshots": ["0" * 32]}, {"snapshots": ["x"]}, {"workload": "host/none"}):
        assert admin.ask("POST", "/api/v1/forgets/plan", {**wanted, **other})[0] == 404, other
    for snapshots in ([], ["0" * 32] * 101):
        assert admin.ask("POST", "/api/v1/forgets/plan", {**wanted, "snapshots": snapshots})[0] == 400
    _, _, body = admin.ask("POST", "/api/v1/forgets/plan", wanted)
    plan = json.loads(body)["data"]
    assert admin.ask("POST", "/api/v1/forgets", {**wanted, "digest": "0", "last-good": True})[0] == 409
    assert admin.ask("POST", "/api/v1/forgets", {**wanted, "digest": plan["digest"], "last-good": True})[0] == 400, "it is protected"
    with Browser(width=390, height=844) as browser:
        log_in(browser, server.url, "viewer")
        browser.go("#/workload/host%2Fweb", "host/web")
        browser.js("for (const part of document.querySelectorAll('details')) part.open = true")
        browser.wait("the list", "document.querySelector('main').innerText.includes('Recovery points in main, newest first')")
        assert browser.js("return document.querySelectorAll('main input[type=checkbox]').length") == 0
        assert not browser.js("return [...document.querySelectorAll('main button')].some((one) => /Forget|rotect/.test(one.textContent))")
        browser.shot("points-viewer")
        check(browser, "recovery points of a viewer")
