"""Every view: with a mouse, narrow and dark, and by the rules of WCAG."""

import json

from page_checks.browser import SHOTS, Browser, click, log_in
from page_checks.plan import edit_plan
from page_checks.restores import restore_by_browser
from page_checks.server import HOSTILE


def check_page(server, axe):
    browser = Browser()
    browser.open(server.url + "/")
    browser.wait("the log-in form", "document.querySelector('form.login')")
    browser.shot("log-in")
    browser.keys(*"jane", "\ue004", *"wrong-password", "\ue007")
    browser.wait("the refusal", "document.querySelector('.fault')")
    log_in(browser, server.url)
    browser.wait("all rows", "document.querySelectorAll('tbody tr').length === 5")
    text = browser.text()
    assert "workloads do not have what was promised" in text and "host/forgotten" in text, text
    assert browser.js("return document.querySelector('tbody tr').innerText").startswith("host/forgotten"), "the worst first"
    assert browser.js("return document.querySelectorAll('svg.days').length") == 5
    browser.shot("overview")
    browser.go("#/workload/host%2Fweb", "host/web")
    browser.wait("the charts", "document.querySelectorAll('main svg').length >= 3")
    browser.shot("workload")

    # A window of a log with a gap in it, and a repository that grows, drawn from made-up figures.
    drawn = browser.call("POST", "/execute/async", {"args": [], "script": """
        const done = arguments[arguments.length - 1];
        const day = (at) => new Date(Date.UTC(2026, 0, at)).toISOString();
        import("/page/chart.js").then(({ timeline, growth }) => {
            const windows = { intervals: [{ from: day(3), to: day(12) }, { from: day(15), to: day(29) }], gaps: [{ from: day(12), to: day(15), cause: "log lost" }] };
            const sizes = Array.from({ length: 28 }, (_, at) => ({ time: day(at + 1), used: 5e9 + at * 2e8, available: 1e10 }));
            document.querySelector("main").replaceChildren(timeline([3, 10, 15, 22].map((at) => ({ time: day(at) })), day(1), day(30), 86400, windows), growth(sizes, 2e10));
            done([...document.querySelectorAll("main svg > title")].map((title) => title.textContent));
        }, (error) => done([String(error)]));"""})
    assert drawn[0] == "4 recovery points, 2 windows of which any moment can be recovered, 1 gaps" and "used of 18.6 GiB" in drawn[1], drawn
    browser.shot("chart-windows")
    restore_by_browser(server, browser)

    # A run that is asked for and watched until it is cancelled.
    browser.go("#/workload/host%2Flarge", "host/large")
    browser.js("[...document.querySelectorAll('button')].find((button) => button.textContent === 'Back up now').click()")
    browser.wait("the run, live", "document.querySelector('table progress')", 20)
    browser.wait("how far it has come", "/ of .*MiB|[1-9][0-9.]* [KM]iB/.test(document.querySelector('table progress')?.nextSibling?.textContent ?? '')", 20)
    browser.shot("runs-live")
    number = browser.js("return document.querySelector('tbody a').textContent")
    browser.js("[...document.querySelectorAll('button')].find((button) => button.textContent === 'Cancel').click()")
    browser.wait("its end", "document.querySelector('main').innerText.includes('Nothing runs now') && document.querySelector('main').innerText.includes('cancelled')", 30)
    browser.go(f"#/run/{number}", f"Run {number}")
    browser.shot("run")
    browser.go("#/drills", "Drills")
    browser.wait("a drill", "document.querySelector('td .tag')")
    browser.shot("drills")
    browser.go("#/repositories", "Repositories")
    browser.wait("the hostile comment as text", f"document.querySelector('main').innerText.includes({json.dumps(HOSTILE)})")
    browser.shot("repositories")
    browser.go("#/plan", "Plan")
    browser.wait("remarks", "document.querySelector('.tag.bad')")
    assert "RL110" in browser.text()
    browser.shot("plan")
    edit_plan(server, browser)
    browser.go("#/evidence", "Evidence")
    browser.shot("evidence")
    browser.go("#/reports", "Reports")
    click(browser, "Make the report")
    browser.wait("claims", "document.querySelectorAll('main table').length === 2", 30)
    browser.shot("reports")
    browser.go("#/keys", "Keys")
    browser.wait("a key", "document.querySelector('main td')")
    browser.shot("keys")
    browser.go("#/workload/" + "%3Cimg%20src%3Dx%20onerror%3Dalert(1)%3E", "")
    browser.wait("the refusal of a hostile name", "document.querySelector('.fault')")
    assert browser.js("return document.querySelectorAll('main img, main script').length") == 0
    complaints = [line for line in browser.complaints() if "400" not in line]
    assert not complaints, complaints
    browser.js("document.getElementById('out').click()")
    browser.wait("the log-in form", "document.querySelector('form.login')")
    browser.close()

    for name, width, dark in (("light", 1280, False), ("phone", 390, False), ("dark", 1280, True), ("phone-dark", 390, True)):
        browser = Browser(width=width, height=844, dark=dark)
        log_in(browser, server.url)
        for page, title in (("#/", ""), ("#/workload/host%2Fweb", "host/web"), ("#/restore/host%2Fweb?path=data/reports", "Restore"), ("#/runs", "Runs"), ("#/drills", "Drills"), ("#/repositories", "Repositories"), ("#/evidence", "Evidence"), ("#/plan", "Plan"), ("#/edit-plan", "Edit the plan"), ("#/keys", "Keys"), ("#/access", "Access"), ("#/account", "Your account"), ("#/reports", "Reports"), ("#/run/1", "Run 1")):
            browser.go(page, title)
            if page == "#/reports":
                click(browser, "Make the report")
            browser.wait("the content", "document.querySelector('main table, main pre, main dl, main textarea')", 30)
            wide = browser.js("return document.documentElement.scrollWidth")
            browser.shot(f"{name}-{page.split('/')[1].split('?')[0] or 'overview'}")
            if axe:
                browser.check_axe(axe, f"{name} {page}")
            assert wide <= width, f"{page} is {wide} wide on {width}"
        browser.close()
    print(f"page-test: the page works; screenshots are in {SHOTS}")
