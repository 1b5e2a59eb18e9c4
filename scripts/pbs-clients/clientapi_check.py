"""clientapi-pbs: made from the published description of the API, so that every answer is checked field by field.

Its description is wrong in two ways, which are passed over: patterns with POSIX classes such as [[:^cntrl:]] mean something
else in Python and match nothing useful, and the files of a snapshot are objects (as the original server answers), not
texts.
"""

import json

import clientapi_pbs
import pydantic
from clientapi_pbs.client import Client

import lab

configuration = clientapi_pbs.Configuration(
    host=f"https://{lab.host}:{lab.port}/api2/json",
    api_key={"PBSApiToken": f"PBSAPIToken={lab.user}!{lab.token_name}:{lab.secret}"},
)
configuration.verify_ssl = False
client = Client(configuration)


def data(api, call, *arguments, wrong=(), **named):
    """The data of an answer, whose fields have the types that the description says."""
    try:
        getattr(api, call)(*arguments, **named)
    except pydantic.ValidationError as error:
        for one in error.errors():
            excused = "[:" in one["msg"] or one["loc"][0] in wrong
            assert excused, f"{call}: {one['loc']}: {one['msg']}: {one['input']!r}"
    answer = getattr(api, f"{call}_without_preload_content")(*arguments, **named)
    assert answer.status == 200, (call, answer.status, answer.data)
    assert answer.headers["content-type"] == "application/json;charset=UTF-8", answer.headers
    return json.loads(answer.data)["data"]


store = client.adminDatastore
assert data(client.version, "get_version")["version"] == "4.2"
assert data(client.ping, "get_ping")["pong"] is True
assert [one["store"] for one in data(store, "get_datastore")] == ["main"]
assert data(store, "get_status", "main", verbose=True)["total"] > 0
one = data(store, "get_snapshots", "main", wrong=["files"])[0]
assert one["backup-id"] == "here" and one["verification"]["state"] == "ok"
assert data(store, "get_groups", "main")[0]["backup-count"] == 1
name = {"store": "main", "backup_id": one["backup-id"], "backup_time": one["backup-time"], "backup_type": "host"}
assert any(file["filename"] == "index.json.blob" for file in data(store, "get_files", **name))
assert data(store, "get_notes", **name).startswith("first line")
assert data(store, "get_protected", **name) is False
assert data(store, "get_namespace", "main")[0]["ns"] == ""
assert data(store, "get_gc", "main")["upid"].startswith("UPID:")
assert data(store, "get_active_operations", "main") == {"read": 0, "write": 0}
assert data(client.status, "get_datastore_usage")[0]["store"] == "main"
users = data(client.accessUsers, "get_users", include_tokens=True)
assert users[0]["userid"] == lab.user
assert users[0]["tokens"][0]["tokenid"] == f"{lab.user}!{lab.token_name}"
assert data(client.accessUsers, "get_token", lab.user)[0]["token-name"] == lab.token_name
assert data(client.accessUsers, "get_access_users_by_userid", lab.user)["enable"] is True
assert {rule["roleid"] for rule in data(client.accessAcl, "get_acl")} == {"Admin"}
assert data(client.access, "get_permissions")["/"]["Datastore.Read"] is True
assert len(data(client.access, "get_roles")) > 5
tasks = data(client.nodesTasks, "get_tasks", "localhost")
assert {"verify", "garbage_collection"} <= {task["worker_type"] for task in tasks}, tasks
upid = tasks[0]["upid"]
assert data(client.nodesTasks, "get_status", "localhost", upid)["exitstatus"] == "OK"
assert data(client.nodesTasks, "get_log", "localhost", upid)[0]["n"] == 1
node = data(client.nodesStatus, "get_status", "localhost")
assert node["info"]["fingerprint"] == lab.fingerprint
data(client.nodes, "get_identity", "localhost")
assert data(client.nodes, "get_nodes") == [{"node": "localhost"}]
for call, named in (
    ("get_groups", {"store": "other"}),
    ("get_files", {**name, "backup_time": 1}),
    ("get_snapshots", {"store": "main", "ns": "../.."}),
):
    answer = getattr(store, f"{call}_without_preload_content")(**named)
    assert answer.status in (400, 404), (call, answer.status, answer.data)
