"""A second factor: set up, and asked for."""

import base64
import hashlib
import hmac
import struct
import time

from page_checks.browser import Browser


def one_time_password(secret):
    """RFC 6238."""
    key = base64.b32decode(secret + "=" * (-len(secret) % 8))
    tag = hmac.new(key, struct.pack(">Q", int(time.time()) // 30), hashlib.sha1).digest()
    at = tag[-1] & 15
    return f"{(struct.unpack('>I', tag[at:at + 4])[0] & 0x7fffffff) % 1000000:06}"


def check_second_factor(server, axe):
    """A second factor: set up on the page, asked for at the next log-in; by the keyboard alone, but for what is read."""
    with Browser(420, 800, dark=True) as browser:
        tab, enter = "\ue004", "\ue007"
        browser.open(server.url + "/")
        browser.wait("the log-in form", "document.activeElement?.id === 'user'")
        browser.keys(*"viewer", tab, *"Secret12345", enter)
        browser.wait("the overview", "document.querySelector('main table')")
        browser.go("#/account", "Your account")
        browser.js("document.getElementById('password').focus()")
        browser.keys(*"Secret12345", enter)
        browser.wait("the secret", "document.querySelector('.qr') && document.activeElement?.id === 'otp'")
        browser.shot("second-factor-secret")
        if axe:
            browser.check_axe(axe, "second factor")
        secret = browser.js("return document.querySelector('.secret').textContent").replace(" ", "")
        browser.keys(*"00000x", enter)
        browser.wait("what is wrong", "document.querySelector('.fault')?.textContent.includes('code is wrong')")
        browser.js("document.getElementById('otp').value = ''; document.getElementById('otp').focus()")
        browser.keys(*one_time_password(secret), enter)
        browser.wait("recovery codes", "document.querySelectorAll('.codes li').length === 10 && document.activeElement?.textContent === 'I have kept them'")
        browser.shot("second-factor-codes")
        if axe:
            browser.check_axe(axe, "recovery codes")
        codes = browser.js("return [...document.querySelectorAll('.codes li')].map((one) => one.textContent)")
        browser.keys(enter)
        browser.wait("the account", "document.querySelector('main').innerText.includes('10 recovery codes left')")
        browser.shot("second-factor-account")
        if axe:
            browser.check_axe(axe, "account")
        browser.js("document.getElementById('out').click()")
        browser.wait("the log-in form", "document.activeElement?.id === 'user'")
        browser.keys(*"viewer", tab, *"Secret12345", enter)
        browser.wait("the question", "document.activeElement?.id === 'otp'")
        browser.shot("second-factor-question")
        if axe:
            browser.check_axe(axe, "question")
        browser.keys(*"123", enter)
        browser.wait("what is wrong", "document.querySelector('.fault')?.textContent.includes('code is wrong')")
        browser.keys(*codes[0], enter)
        browser.wait("the account again", "document.querySelector('main')?.innerText.includes('9 recovery codes left')")
        complaints = [line for line in browser.complaints() if "400" not in line]
        assert not complaints, complaints
    server.run("user", "totp", "viewer@pbs", "--remove")
