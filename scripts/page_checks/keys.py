"""A recovery key: asked for on the page, approved by somebody else, shown once."""

import json

from page_checks.browser import Browser, click, log_in
from page_checks.server import serving


def check_recovery_key(binary, axe):
    with serving(binary, "[approvals]\nrequired = ['keys']\n", approver=True) as server:
        server.run("user", "add", "kim@pbs", "--new-password-file", "user-password")
        server.run("acl", "set", "/", "KeyOfficer", "kim@pbs")
        recovery_key(server, axe)
    print("page-test: a recovery key is given away once, with a second person")


def recovery_key(server, axe):
    with Browser(width=390, height=844) as browser:
        log_in(browser, server.url, "kim")
        browser.go("#/keys", "Keys")
        browser.wait("the form", "document.getElementById('label-0')")
        click(browser, "Make a recovery key")
        browser.wait("that it waits", "document.querySelector('.note[class] [role=status]')?.innerText.includes('request 1')")
        browser.shot("key-waits")
        assert not browser.js("return document.querySelector('.secret')")
        server.run("approval", "approve", "1", "--as", "bob@pbs", "--user-password-file", "user-password")
        browser.wait("that it is approved", "document.querySelector('.note.well')?.innerText.includes('approved by bob@pbs')", 20)
        click(browser, "Make a recovery key")
        browser.wait("the key", "document.querySelector('main h1')?.textContent === 'Recovery key of main' && document.querySelector('.secret')")
        browser.shot("key-recovery")
        if axe:
            browser.check_axe(axe, "recovery key")
        assert browser.js("return document.documentElement.scrollWidth") <= 390
        code = browser.js("return document.querySelector('.secret').textContent")
        (server.folder / "code").write_text(code + "\n")
        tested = json.loads(server.run("key", "test", "--json", "--password-file", "passphrase", "--recovery-key-file", "code"))
        assert [one["opens"] for one in tested] == [True, True], tested
        click(browser, "I have kept it")
        browser.wait("the list", "document.querySelector('main h1')?.textContent === 'Keys' && document.querySelector('main table')?.innerText.includes('recovery')")
        assert code not in browser.js("return document.documentElement.outerHTML"), "it is shown once"
        click(browser, "Make a recovery key")
        browser.wait("that the next one waits again", "document.querySelector('.note [role=status]')?.innerText.includes('request 2')")
        complaints = [line for line in browser.complaints() if "409" not in line]
        assert not complaints, complaints
