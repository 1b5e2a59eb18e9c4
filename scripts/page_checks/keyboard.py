"""By the keyboard alone: keys are pressed as on a real keyboard, and the page is only looked at by script."""

import time

from page_checks.browser import Browser, log_in, run_ended
from page_checks.server import Api

TAB, ENTER, DOWN, SPACE, END = "\ue004", "\ue007", "\ue015", " ", "\ue010"
FOCUSED = """
const one = document.activeElement;
return one === null ? "" : [one.tagName, one.id, one.getAttribute("aria-label") ?? "", one.textContent.slice(0, 80)].join("|")"""


class Hands:
    """What presses the keys of a browser, and counts them."""

    def __init__(self, browser):
        self.browser, self.pressed = browser, 0

    def press(self, *keys):
        self.pressed += len(keys)
        self.browser.keys(*keys)

    def reach(self, what, most=80):
        """With Tab until what has the focus is `what`; that it is to be seen is checked as well."""
        seen = []
        for _ in range(most):
            found = self.browser.js(FOCUSED)
            if what in found:
                shown = self.browser.js("""
                    const box = document.activeElement.getBoundingClientRect(), style = getComputedStyle(document.activeElement);
                    return [box.width > 0 && box.height > 0 && box.bottom > 0 && box.top < innerHeight, style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 2]""")
                assert shown == [True, True], f"{found}: on the screen, with a frame around it: {shown}"
                return
            seen.append(found)
            self.press(TAB)
        self.browser.shot("failed")
        raise AssertionError(f"{what} is not reached with {most} times Tab: {seen}")

    def push(self, what):
        """The button, link or other thing that is `what`."""
        self.reach(what)
        self.press(ENTER)

    def log_in(self, url, user):
        log_in(self.browser, url, user)
        # Of the keys of a person; the browser was given them already.
        self.pressed += len(user) + len("Secret12345") + 2


def check_keyboard(server):
    server.run("user", "add", "new@pbs", "--new-password-file", "user-password")
    server.run("acl", "set", "/datastore/main", "RestoreOperator", "new@pbs")
    restore(server)
    by_mouse(server)
    plan(server)
    access(server)


def restore(server):
    """A new user, who knows nothing but the name of a file and that it was right in an older backup."""
    with Browser() as browser:
        hands, began = Hands(browser), time.time()
        hands.log_in(server.url, "new")
        hands.push("restore host/web")
        browser.wait("the recovery points", "document.querySelectorAll('#point option').length >= 2")
        hands.reach("SELECT|point")
        hands.press(DOWN)
        browser.wait("the older one", "document.getElementById('point').selectedIndex === 1 && document.getElementById('search') && location.hash.includes(document.getElementById('point').value)")
        assert browser.js("return document.activeElement.id") == "point", "the choice keeps the focus"
        hands.reach("INPUT|search")
        hands.press(*"annual")
        browser.wait("the file", "document.querySelectorAll('tbody tr').length === 1 && document.querySelector('tbody tr').innerText.includes('annual.txt')")
        hands.reach("restore data/reports/annual.txt")
        browser.shot("keyboard-restore")
        hands.press(ENTER)
        browser.wait("where to", "document.getElementById('to')")
        target = browser.js("return document.getElementById('to').value")
        hands.push("Show what would be done")
        browser.wait("the plan", "document.querySelector('.review')")
        hands.push("Restore now")
        run_ended(browser, 30)
        took = time.time() - began
        with open(f"{target}/data/reports/annual.txt") as file:
            assert file.read() == "as it was last week\n" * 5000
        assert took < 60, took
        # Back among the files, what is gone does not take the focus with it.
        browser.go("#/restore/host%2Fweb", "Restore host/web")
        browser.wait("the folder", "document.querySelector('tbody button.link')")
        hands.push("BUTTON|||data/")
        browser.wait("what is in it", "document.querySelector('.crumbs b')?.textContent === 'data' && document.activeElement?.classList.contains('scroll')")
        hands.reach("choose reports")
        hands.press(SPACE)
        browser.wait("that it is chosen", "document.querySelector('.basket').innerText.includes('1 chosen')")
        print(f"page-test: a new user, by the keyboard alone: from log-in to the restored file in {took:.1f} s with {hands.pressed} keys, the waiting of the test included")


def by_mouse(server):
    """The same with a mouse: each step a click at a place that is to be seen, or a word that is typed."""
    with Browser() as browser:
        began, steps = time.time(), []

        def find(what):
            end = time.time() + 15
            while True:
                found = browser.call("POST", "/elements", {"using": "xpath", "value": what})
                if found:
                    return list(found[0].values())[0]
                assert time.time() < end, f"{what}: {browser.text()[:800]}"
                time.sleep(0.05)

        def click(words, what):
            browser.call("POST", f"/element/{find(what)}/click", {})
            steps.append(f"click {words}")

        def write(text, field):
            browser.call("POST", f"/element/{find(field)}/value", {"text": text})
            steps.append(f"type {text!r}")

        browser.open(server.url + "/")
        write("new", "//input[@id='user']")
        write("Secret12345", "//input[@id='password']")
        steps[-1] = "type the password"
        click("Log in", "//button[.='Log in']")
        click("Restore beside host/web", "//a[@aria-label='restore host/web']")
        browser.wait("the recovery points", "document.querySelectorAll('#point option').length >= 2")
        click("the older recovery point", "//select[@id='point']/option[2]")
        browser.wait("the older one", "document.getElementById('search') && location.hash.includes(document.getElementById('point').value)")
        write("annual", "//input[@id='search']")
        browser.wait("the file", "document.querySelectorAll('tbody tr').length === 1")
        click("Restore beside annual.txt", "//button[@aria-label='restore data/reports/annual.txt']")
        browser.wait("where to", "document.getElementById('to')")
        target = browser.js("return document.getElementById('to').value += '-by-mouse'")
        click("Show what would be done", "//button[.='Show what would be done']")
        click("Restore now", "//button[.='Restore now']")
        run_ended(browser, 30)
        took = time.time() - began
        with open(f"{target}/data/reports/annual.txt") as file:
            assert file.read() == "as it was last week\n" * 5000
        assert took < 60 and len(steps) <= 10, (took, steps)
        print(f"page-test: a new user, by mouse: {len(steps)} steps, {took:.1f} s: {'; '.join(steps)}")


def plan(server):
    """The plan is edited; who writes in it can leave the text with Tab."""
    with Browser() as browser:
        hands = Hands(browser)
        hands.log_in(server.url, "jane")
        hands.push("A|||Plan")
        browser.wait("the plan", "document.querySelector('main h1')?.textContent === 'Plan'")
        hands.push("||Edit the plan")
        browser.wait("the text", "document.getElementById('plan-text')?.value.includes('host/web')")
        hands.reach("TEXTAREA|plan-text")
        browser.call("POST", "/actions", {"actions": [{"type": "key", "id": "keyboard", "actions": [
            {"type": kind, "value": key} for kind, key in (("keyDown", "\ue009"), ("keyDown", END), ("keyUp", END), ("keyUp", "\ue009"))]}]})
        hands.press(*"# by the keyboard")
        browser.wait("that it can be saved", "document.getElementById('plan-told').innerText.includes('It can be saved')")
        hands.push("||Review the changes")
        browser.wait("the difference", "document.querySelector('pre.diff .come')")
        hands.push("||Save the plan")
        browser.wait("the plan", "document.querySelector('main h1')?.textContent === 'Plan'")
        assert "# by the keyboard" in (server.folder / "relight.toml").read_text()


def access(server):
    """A user is added, logged out, and removed."""
    with Browser() as browser:
        hands = Hands(browser)
        hands.log_in(server.url, "jane")
        hands.push("A|||Access")
        browser.wait("Access", "document.querySelector('main h1')?.textContent === 'Access' && document.querySelector('details')")
        hands.push("SUMMARY|||Add a user")
        browser.wait("the form", "document.querySelector('details[open] #new-user')")
        hands.press(TAB)
        assert browser.js("return document.activeElement.id") == "new-user"
        hands.press(*"keys", TAB, *"Secret12345", TAB, *"by keyboard", ENTER)
        browser.wait("the user", "document.querySelector('main').innerText.includes('keys@pbs is there')")
        stranger = Api(server.url).log_in("keys@pbs")
        browser.js("location.reload()")
        browser.wait("the session", "[...document.querySelectorAll('button')].some((one) => one.getAttribute('aria-label')?.startsWith('Log keys@pbs out'))")
        hands.push("Log keys@pbs out")
        browser.wait("that it is over", "![...document.querySelectorAll('button')].some((one) => one.getAttribute('aria-label')?.startsWith('Log keys@pbs out'))")
        assert stranger.ask("GET", "/api/v1/workloads")[0] == 401
        browser.wait("where the keys go on", "document.activeElement?.classList.contains('scroll')")
        browser.js("document.getElementById('main').focus()")
        hands.push("remove keys@pbs")
        browser.wait("what would go", "document.activeElement?.textContent === 'Remove keys@pbs' && document.activeElement.tagName === 'H2'")
        hands.push("BUTTON|||Remove keys@pbs")
        browser.wait("that it is gone", "document.querySelector('.note.well')?.innerText.includes('keys@pbs is removed')")
        browser.wait("where the keys go on", "document.activeElement?.classList.contains('scroll')")
