"""Where the server of a test run is, and how to log in."""

import json
import pathlib
import sys

work = pathlib.Path(sys.argv[1])
ready = json.loads((work / "ready").read_text())
host, port = ready["listening"][0].rsplit(":", 1)
port = int(port)
fingerprint = ready["fingerprint"]
token = json.loads((work / "token").read_text())
user, token_name = token["token"].split("!")
secret = token["secret"]
password = (work / "user-password").read_text().strip()


def eventually(what, done, seconds=60):
    import time

    end = time.monotonic() + seconds
    while True:
        found = done()
        if found:
            return found
        assert time.monotonic() < end, f"{what}: did not happen in {seconds} s"
        time.sleep(0.1)
