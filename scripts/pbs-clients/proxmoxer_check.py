"""proxmoxer, service PBS: by password and by token."""

import base64

from proxmoxer import AuthenticationError, ProxmoxAPI, ResourceException

import lab

options = {"host": lab.host, "port": lab.port, "service": "PBS", "verify_ssl": False, "timeout": 30}
by_password = ProxmoxAPI(user=lab.user, password=lab.password, **options)
by_token = ProxmoxAPI(user=lab.user, token_name=lab.token_name, token_value=lab.secret, **options)

try:
    ProxmoxAPI(user=lab.user, password="wrong password", **options)
    raise SystemExit("a wrong password was let in")
except AuthenticationError:
    pass

for api in (by_password, by_token):
    assert api.version.get()["version"] == "4.2"
    assert [store["store"] for store in api.admin.datastore.get()] == ["main"]
    store = api.admin.datastore("main")
    status = store.status.get()
    assert status["total"] >= status["used"] > 0 and status["avail"] > 0, status
    groups = store.groups.get()
    assert [(g["backup-type"], g["backup-id"], g["backup-count"]) for g in groups] == [("host", "here", 1)], groups
    assert groups[0]["owner"] == "root@pam"
    snapshot = store.snapshots.get()[0]
    names = {file["filename"] for file in snapshot["files"]}
    assert {"src.mpxar.didx", "src.ppxar.didx"} <= names, names
    assert snapshot["size"] > 300_000 and snapshot["protected"] is False
    assert api.nodes("localhost").status.get()["memory"]["total"] > 0
    assert any(entry["userid"] == lab.user for entry in api.access.users.get())

api, store = by_password, by_password.admin.datastore("main")
one = {"backup-type": "host", "backup-id": "here", "backup-time": snapshot["backup-time"]}

# Notes and protection.
store.notes.put(**one, notes="first line\nsecond: ä € 😀")
assert store.notes.get(**one) == "first line\nsecond: ä € 😀"
store.protected.put(**one, protected="true")
assert store.snapshots.get()[0]["protected"] is True
try:
    store.snapshots.delete(**one)
    raise SystemExit("a protected snapshot was removed")
except ResourceException as error:
    assert error.status_code == 400 and "protected" in str(error), error
store.protected.put(**one, protected=0)

# Namespaces.
assert store.namespace.post(name="lab", parent="") == "lab"
assert store.namespace.post(name="sub", parent="lab") == "lab/sub"
assert {entry["ns"] for entry in store.namespace.get()} == {"", "lab", "lab/sub"}
store.namespace.delete(ns="lab/sub")
store.namespace.delete(ns="lab")

# Prune without doing it, a single file, verification with its task.
plan = store.prune.post(**{"backup-type": "host", "backup-id": "here", "keep-last": 1, "dry-run": 1})
assert [entry["keep"] for entry in plan] == [True]
root = base64.b64encode(b"/").decode()
listed = store.catalog.get(**one, filepath=root)
assert any(base64.b64decode(entry["filepath"]).startswith(b"/src.mpxar") for entry in listed), listed
upid = store.verify.post()
task = api.nodes("localhost").tasks(upid)
ended = lab.eventually("verification", lambda: (s := task.status.get())["status"] == "stopped" and s)
assert ended["exitstatus"] == "OK", ended
assert task.log.get(limit=0), "the log is empty"
assert store.snapshots.get()[0]["verification"]["state"] == "ok"
upid = store.gc.post()
task = api.nodes("localhost").tasks(upid)
ended = lab.eventually("collection", lambda: (s := task.status.get())["status"] == "stopped" and s)
assert ended["exitstatus"] == "OK", ended

# Users, tokens, rules; a user of little privilege is held to it.
api.access.users.post(userid="small@pbs", password="small password", comment="of the test")
secret = api.access.users("small@pbs").token("t").post()["value"]
for who in ("small@pbs", "small@pbs!t"):
    api.access.acl.put(**{"path": "/datastore/main", "role": "DatastoreBackup", "auth-id": who})
small = ProxmoxAPI(user="small@pbs", token_name="t", token_value=secret, **options)
assert small.admin.datastore("main").groups.get() == []
for denied in (
    lambda: small.access.acl.put(**{"path": "/", "role": "Admin", "auth-id": "small@pbs!t"}),
    lambda: small.admin.datastore("main").snapshots.delete(**one),
    lambda: small.nodes("localhost").status.get(),
):
    try:
        denied()
        raise SystemExit("somebody did what it may not do")
    except ResourceException as error:
        assert error.status_code == 403, error
try:
    store.groups.get(nonsense=1)
    raise SystemExit("an unknown parameter was taken")
except ResourceException as error:
    assert error.status_code == 400, error
api.access.users("small@pbs").delete()
try:
    small.version.get()
    raise SystemExit("a removed user was let in")
except ResourceException as error:
    assert error.status_code == 401, error
