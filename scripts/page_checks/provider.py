"""The log-in with a provider of identities, in a browser, as a person does it."""

from page_checks.browser import Browser, axe_core, click


def away_and_back(browser, title, user):
    """From the button to the page that the provider sends back to."""
    click(browser, f"Log in with {title}")
    browser.wait("the provider", "document.querySelector('input[name=login]')")
    browser.js("document.querySelector('input[name=login]').focus()")
    browser.keys(*user, "\ue004", "x", "\ue007")
    browser.wait("what it asks", "document.querySelector('input[name=prompt][value=consent]')")
    browser.js("document.querySelector('form button').focus()")
    browser.keys("\ue007")


def check_provider(url, title, user):
    """`url` is the server's, of another site than the provider's: cookies that are for one site only are tried as they are meant."""
    axe = axe_core()
    with Browser() as browser:
        browser.open(url + "/")
        browser.wait("the button", f"[...document.querySelectorAll('button')].some((one) => one.textContent === 'Log in with {title}')")
        browser.shot("provider-button")
        if axe:
            browser.check_axe(axe, "log-in with a provider")
        away_and_back(browser, title, user)
        browser.wait("who one is", "document.getElementById('who')?.textContent === 'jane@idp'")
        # What came with the log-in is not left in the address, nor in the history.
        assert browser.js("return location.href").startswith(url + "/") and browser.js("return location.search + location.pathname") == "/", browser.js("return location.href")
        browser.wait("the overview", "document.querySelector('main h1, main table, main p')")
        browser.shot("provider-in")
        browser.js("location.hash = '#/account'")
        browser.wait("the account", "document.querySelector('main').innerText.includes('You do not log in here with a password')")
        browser.call("POST", "/back", {})
        browser.call("POST", "/back", {})
        browser.wait("the page, or the provider", "document.readyState === 'complete'")
        browser.open(url + "/")
        browser.wait("the session", "document.getElementById('who')?.textContent === 'jane@idp'")
        browser.js("document.getElementById('out').click()")
        browser.wait("the log-in form", "document.querySelector('form.login')")
        complaints = [line for line in browser.complaints() if url in line]
        assert not complaints, complaints

    # Somebody who is in none of the groups is told so.
    with Browser(width=390, height=844, dark=True) as browser:
        browser.open(url + "/")
        browser.wait("the button", "document.querySelectorAll('form.login button').length > 1")
        away_and_back(browser, title, "joe")
        browser.wait("why not", "document.querySelector('form.login .fault')?.innerText.includes('You were not let in')")
        assert browser.js("return location.search") == ""
        browser.shot("provider-refused")
        if axe:
            browser.check_axe(axe, "a log-in that a provider's group refuses")
