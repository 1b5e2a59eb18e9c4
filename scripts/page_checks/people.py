"""What needs a second person, asked for in one browser and decided in another; users, roles, tokens and sessions."""

import json
import pathlib

from page_checks.browser import Browser, click, log_in, run_ended, set_value
from page_checks.keyboard import Hands
from page_checks.server import HOSTILE, Api, serving


def decide(approver, number, word, remark):
    """By the other person, who has it before its eyes."""
    approver.open(approver.server + "/#/access")
    approver.js("location.reload()")
    approver.wait(f"request {number}", f"document.querySelector('[aria-label=\"Remark on request {number}\"]')")
    set_value(approver, f"[aria-label='Remark on request {number}']", remark)
    click(approver, f"{word} {number}")
    approver.wait("the decision", f"document.querySelector('main').innerText.includes({json.dumps(remark)})")


def plan_to_restore(browser, to):
    set_value(browser, "#to", to)
    click(browser, "Show what would be done")
    browser.wait("the plan", "document.querySelector('.review')")


def check_second_person(binary, axe):
    with serving(binary, "[approvals]\nrequired = ['retention', 'restore', 'access']\n", "'FOLDER/restored', 'FOLDER/data'", approver=True) as server:
        server.run("run", "host/web")
        second_person(server, axe)
    print("page-test: what needs a second person waits for one, and is done once when that one agrees")


def second_person(server, axe):
    with Browser() as one, Browser(width=390, height=844, dark=True) as other:
        other.server = server.url
        check = lambda browser, what: axe and browser.check_axe(axe, what)
        configuration = server.folder / "relight.toml"
        log_in(one, server.url)
        one.go("#/edit-plan", "Edit the plan")
        one.wait("the text", "document.getElementById('plan-text')?.value.includes('host/web')")
        one.js("const area = document.getElementById('plan-text'); area.value = area.value.replace('keep-last = 5', 'keep-last = 3'); area.dispatchEvent(new Event('input'))")
        click(one, "Review the changes")
        click(one, "Save the plan")
        one.wait("that it waits", "document.querySelector('.note')?.innerText.includes('waits for a second person: request 1')")
        set_value(one, "#why-1", "the disk is full")
        click(one, "Say why")
        one.wait("that it is said", "document.querySelector('.note').innerText.includes('reads that')")
        one.shot("approval-waits")
        check(one, "what waits")
        assert "keep-last = 3" not in configuration.read_text(), "it was done by one person"

        # Whoever asks sees it, and cannot decide.
        first = one.call("GET", "/window")
        second = one.call("POST", "/window/new", {"type": "tab"})["handle"]
        one.call("POST", "/window", {"handle": second})
        one.open(server.url + "/#/access")
        one.wait("the request", "document.querySelector('main')?.innerText.includes('Somebody else has to decide')")
        assert not one.js("return [...document.querySelectorAll('button')].some((button) => /^(Approve|Deny)/.test(button.textContent))")
        one.shot("approval-own")
        check(one, "own request")
        one.call("DELETE", "/window")
        one.call("POST", "/window", {"handle": first})
        status, _, body = Api(server.url).log_in("jane@pbs").ask("POST", "/api/v1/approvals/1/approve", {"remark": ""})
        assert status == 403 and "your own" in json.loads(body)["error"]["message"], body

        # Somebody else is told that it waits, sees what it is, line by line, and why.
        log_in(other, server.url, "bob")
        other.wait("the count", "document.querySelector('#nav .count')?.textContent === '1'")
        click(other, "Access1")
        other.wait("what is asked for", "document.querySelectorAll('pre.diff .gone, pre.diff .come').length === 2")
        assert "keep-last = 3" in other.text() and "the disk is full" in other.text(), other.text()
        other.shot("approval-decide")
        check(other, "what is to be decided")
        hands = Hands(other)
        hands.reach("Remark on request 1")
        hands.press(*"agreed on the phone")
        hands.push("||Approve 1")
        other.wait("the decision", "document.querySelector('main').innerText.includes('agreed on the phone')")
        other.wait("where the keys go on", "document.activeElement?.classList.contains('scroll')")
        other.wait("that nothing waits any more", "!document.querySelector('#nav .count')")
        one.wait("that it is approved", "document.querySelector('.note.well')?.innerText.includes('approved by bob@pbs: agreed on the phone')")
        one.shot("approval-approved")
        check(one, "what is approved")
        click(one, "Save the plan")
        one.wait("the plan", "document.querySelector('main h1')?.textContent === 'Plan'")
        assert "keep-last = 3" in configuration.read_text()

        # A restore over what is in production: denied, then another one that is approved.
        one.go("#/restore/host%2Fweb?path=data/reports", "Restore host/web")
        one.js("document.querySelector('button[aria-label=\"restore annual.txt\"]').click()")
        one.wait("where to", "document.getElementById('to')")
        target = server.folder / "data" / "again"
        plan_to_restore(one, str(target))
        assert "This is production" in one.text()
        click(one, "Restore now")
        one.wait("that it waits", "document.querySelector('.review .note')?.innerText.includes('request 2') || document.querySelector('.told')?.innerText.includes('request 2')")
        one.shot("approval-restore-waits")
        check(one, "restore that waits")
        decide(other, 2, "Deny", "not on a Monday")
        one.wait("that it is denied", "document.querySelector('.told')?.innerText.includes('denied by bob@pbs: not on a Monday')")
        one.shot("approval-denied")
        check(one, "what is denied")
        click(one, "Restore now")
        one.wait("that it stays denied", "document.querySelector('.told .fault')?.innerText.includes('denied by bob@pbs (request 2): not on a Monday')")
        plan_to_restore(one, str(target) + "-2")
        click(one, "Restore now")
        one.wait("another request", "document.querySelector('.told')?.innerText.includes('request 3')")
        assert not target.exists() and not pathlib.Path(str(target) + "-2").exists()
        decide(other, 3, "Approve", "now it is fine")
        one.wait("that it is approved", "document.querySelector('.told .well')")
        click(one, "Restore now")
        run_ended(one)
        assert pathlib.Path(str(target) + "-2", "data", "reports", "annual.txt").read_text() == "as it was last week\n" * 5000

        # A role.
        one.go("#/access", "Access")
        one.js("for (const part of document.querySelectorAll('details')) part.open = true")
        set_value(one, "#rule-who", "nobody@pbs")
        set_value(one, "#rule-role", "Viewer")
        set_value(one, "#rule-path", "/datastore/main")
        click(one, "Give a role", "document.querySelector('main')")
        one.wait("that it waits", "document.querySelector('main').innerText.includes('waits for a second person: request 4')")
        decide(other, 4, "Approve", "she is new here")
        one.wait("that it is approved", "document.querySelector('.note.well')")
        click(one, "Give a role", "document.querySelector('main')")
        one.wait("the role", "[...document.querySelectorAll('td li')].some((one) => one.textContent.startsWith('Viewer at /datastore/main'))")
        nobody = Api(server.url).log_in("nobody@pbs")
        assert nobody.data("workloads")["data"], "the role is given"

        # Somebody is removed for good.
        one.js("document.querySelector('[aria-label=\"remove nobody@pbs\"]').click()")
        click(one, "Remove nobody@pbs")
        one.wait("that it waits", "document.querySelector('.review .told')?.innerText.includes('request 5')")
        one.shot("approval-remove-waits")
        check(one, "a removal that waits")
        assert nobody.ask("GET", "/api/v1/workloads")[0] == 200
        decide(other, 5, "Approve", "she has left")
        one.wait("that it is approved", "document.querySelector('.review .note.well')")
        click(one, "Remove nobody@pbs")
        one.wait("that she is gone", "document.querySelector('.note.well')?.innerText.includes('nobody@pbs is removed')")
        assert nobody.ask("GET", "/api/v1/workloads")[0] == 401
        complaints = [line for browser in (one, other) for line in browser.complaints() if "409" not in line and "403" not in line]
        assert not complaints, complaints


def remove_user(browser, server, row, check):
    """Somebody who is logged in and has a token is removed: shown first, left, then done."""
    browser.js("document.querySelector('[aria-label=\"let in eve@pbs\"]').click()")
    browser.wait("that she is let in", f"{row}?.innerText.includes('Keep out')")
    eve = Api(server.url).log_in("eve@pbs")
    _, _, body = eve.ask("POST", "/api/v1/users/eve@pbs/tokens", {"name": "phone", "expires": None})
    secret = json.loads(body)["data"]["secret"]
    token = lambda: Api(server.url).ask("GET", "/api/v1/workloads", headers={"Authorization": f"PBSAPIToken eve@pbs!phone:{secret}"})[0]
    browser.go("#/runs", "Runs")
    browser.go("#/access", "Access")
    assert not browser.js("return document.querySelector('[aria-label=\"remove jane@pbs\"]')"), "nobody is asked to remove itself"
    ask = "document.querySelector('[aria-label=\"remove eve@pbs\"]').click()"
    browser.js(ask)
    browser.wait("what would go", "document.querySelector('.review')?.innerText.includes('eve@pbs!phone') && document.activeElement?.tagName === 'H2'")
    browser.shot("access-remove")
    check(browser, "what removing a user would do")
    click(browser, "Leave it")
    browser.wait("that it is left", "!document.querySelector('.review')")
    assert token() == 200 and eve.ask("GET", "/api/v1/workloads")[0] == 200
    browser.js(ask)
    click(browser, "Remove eve@pbs")
    browser.wait("that she is gone", f"!({row}) && document.querySelector('.note.well')?.innerText.includes('eve@pbs is removed')")
    browser.wait("her session", "![...document.querySelectorAll('button')].some((one) => one.getAttribute('aria-label')?.startsWith('Log eve@pbs out'))")
    browser.shot("access-removed")
    assert (token(), eve.ask("GET", "/api/v1/workloads")[0]) == (401, 401), "at once"
    assert eve.ask("POST", "/api/v1/session", {"user": "eve@pbs", "password": "Secret12345"})[0] == 401


def check_access(server, axe):
    """Users, roles, tokens and sessions: made and taken away on the page by whoever may, and by nobody else."""
    with Browser() as browser:
        check = lambda browser, what: axe and browser.check_axe(axe, what)
        inside = "document.querySelector('main')"
        row = "[...document.querySelectorAll('tbody tr')].find((one) => one.innerText.includes('eve@pbs'))"
        log_in(browser, server.url)
        browser.go("#/access", "Access")
        browser.js("for (const part of document.querySelectorAll('details')) part.open = true")
        browser.shot("access-forms")
        check(browser, "Access with its forms")
        set_value(browser, "#new-user", "eve")
        set_value(browser, "#new-password", "short")
        set_value(browser, "#new-comment", HOSTILE)
        browser.js("document.querySelector('#new-password').removeAttribute('minlength')")
        click(browser, "Add a user", inside)
        browser.wait("that it is too short", "document.querySelector('.fault')?.innerText.includes('8 to')")
        set_value(browser, "#new-password", "Secret12345")
        click(browser, "Add a user", inside)
        browser.wait("the user", f"{row}?.innerText.includes('nothing')")
        assert HOSTILE in browser.js(f"return {row}.innerText") and browser.js("return document.querySelectorAll('main img').length") == 0
        eve = Api(server.url).log_in("eve@pbs")
        assert eve.data("workloads")["data"] == []
        set_value(browser, "#rule-who", "eve@pbs")
        set_value(browser, "#rule-role", "Viewer")
        set_value(browser, "#rule-path", "/datastore/main")
        click(browser, "Give a role", inside)
        browser.wait("the role", f"{row}?.innerText.includes('Viewer at /datastore/main')")
        assert len(eve.data("workloads")["data"]) == 4, "from the next request on"
        set_value(browser, "#token-user", "eve@pbs")
        set_value(browser, "#token-name", "laptop")
        click(browser, "Make a token", inside)
        browser.wait("its secret", "document.querySelector('.secret') && " + f"{row}.innerText.includes('eve@pbs!laptop')")
        browser.shot("access-changed")
        check(browser, "Access, changed")
        secret = browser.js("return document.querySelector('.secret').textContent")
        token = lambda: Api(server.url).ask("GET", "/api/v1/workloads", headers={"Authorization": f"PBSAPIToken eve@pbs!laptop:{secret}"})[0]
        assert token() == 200
        browser.js("document.querySelector('[aria-label=\"take the token eve@pbs!laptop away\"]').click()")
        browser.wait("that it is gone", f"!{row}.innerText.includes('laptop')")
        assert token() == 401
        browser.js("location.reload()")
        browser.wait("her session", "[...document.querySelectorAll('button')].some((button) => button.getAttribute('aria-label')?.startsWith('Log eve@pbs out'))")
        browser.js("[...document.querySelectorAll('button')].find((button) => button.getAttribute('aria-label')?.startsWith('Log eve@pbs out')).click()")
        browser.wait("that she is logged out", "![...document.querySelectorAll('button')].some((button) => button.getAttribute('aria-label')?.startsWith('Log eve@pbs out'))")
        assert eve.ask("GET", "/api/v1/workloads")[0] == 401
        browser.js("document.querySelector('[aria-label=\"take Viewer at /datastore/main from eve@pbs\"]').click()")
        browser.wait("that the role is taken", f"{row}?.innerText.includes('nothing')")
        eve.log_in("eve@pbs")
        assert eve.data("workloads")["data"] == []
        browser.js("document.querySelector('[aria-label=\"keep out eve@pbs\"]').click()")
        browser.wait("that she is kept out", f"{row}?.innerText.includes('Let in')")
        assert eve.ask("GET", "/api/v1/workloads")[0] == 401
        assert eve.ask("POST", "/api/v1/session", {"user": "eve@pbs", "password": "Secret12345"})[0] == 401
        remove_user(browser, server, row, check)
        complaints = [line for line in browser.complaints() if "400" not in line]
        assert not complaints, complaints

    # Whoever may not change users sees itself alone, and is refused if it asks all the same.
    viewer = Api(server.url).log_in("viewer@pbs")
    users = viewer.data("users")
    assert [user["user"] for user in users["data"]] == ["viewer@pbs"] and not users["may-change-users"] and not users["may-change-rules"], users
    rule = {"path": "/", "who": "viewer@pbs", "role": "Admin", "below": True}
    for method, path, body in (
            ("POST", "users", {"user": "mallory@pbs", "password": "Secret12345", "comment": ""}), ("PUT", "users/jane@pbs", {"enabled": False}), ("DELETE", "users/jane@pbs", None),
            ("POST", "users/jane@pbs/tokens", {"name": "mine", "expires": None}), ("DELETE", "users/jane@pbs/tokens/laptop", None), ("PUT", "rules", rule),
            ("DELETE", "rules?path=/&who=jane@pbs&role=Admin", None)):
        assert viewer.ask(method, "/api/v1/" + path, body)[0] == 403, path
    admin = Api(server.url).log_in("jane@pbs")
    for body in ({**rule, "role": "King"}, {**rule, "path": "/nowhere/at/all"}, {**rule, "who": "../x"}, {**rule, "who": "mallory@pbs"}):
        assert admin.ask("PUT", "/api/v1/rules", body)[0] == 400, body
    assert admin.ask("PUT", "/api/v1/users/jane@pbs", {"enabled": False})[0] == 400
    assert admin.ask("DELETE", "/api/v1/users/jane@pbs")[0] == 400
    with Browser(width=390, height=844) as browser:
        log_in(browser, server.url, "viewer")
        browser.go("#/access", "Access")
        assert browser.js("return [...document.querySelectorAll('summary')].map((one) => one.textContent)") == ["Make a token"]
        assert "jane@pbs" not in browser.text()
        browser.shot("access-viewer")
        check(browser, "Access of a viewer")
    print("page-test: users, roles, tokens and sessions are changed by whoever may")
