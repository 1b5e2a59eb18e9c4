"""clientapi-pbs: made from the published description of the API, so that every answer is checked field by field."""

import clientapi_pbs
from clientapi_pbs.client import Client

import lab

configuration = clientapi_pbs.Configuration(
    host=f"https://{lab.host}:{lab.port}/api2/json",
    api_key={"PBSApiToken": f"PBSAPIToken={lab.user}!{lab.token_name}:{lab.secret}"},
)
configuration.verify_ssl = False
client = Client(configuration)


def data(answer):
    return answer.data


assert data(client.version.get_version()).version == "4.2"
assert data(client.ping.get_ping()).pong is True
stores = data(client.adminDatastore.get_datastore())
assert [store.store for store in stores] == ["main"]
status = data(client.adminDatastore.get_status("main", verbose=True))
assert status.total > 0
snapshots = data(client.adminDatastore.get_snapshots("main"))
assert [snapshot.backup_id for snapshot in snapshots] == ["here"]
one = snapshots[0]
groups = data(client.adminDatastore.get_groups("main"))
assert groups[0].backup_count == 1
files = data(client.adminDatastore.get_files("main", one.backup_id, one.backup_time, one.backup_type))
assert any(file.filename == "index.json.blob" for file in files)
assert data(client.adminDatastore.get_namespace("main"))[0].ns == ""
data(client.adminDatastore.get_gc("main"))
usage = data(client.status.get_datastore_usage())
assert usage[0].store == "main"
users = data(client.accessUsers.get_users(include_tokens=True))
assert users[0].userid == lab.user and users[0].tokens[0].tokenid == f"{lab.user}!{lab.token_name}"
data(client.accessUsers.get_access_users_by_userid(lab.user))
rules = data(client.accessAcl.get_acl())
assert {rule.roleid.value if hasattr(rule.roleid, "value") else rule.roleid for rule in rules} == {"Admin"}
assert len(data(client.access.get_roles())) > 5
tasks = data(client.nodesTasks.get_tasks("localhost"))
assert tasks, "no tasks"
upid = tasks[0].upid
assert data(client.nodesTasks.get_status("localhost", upid)).status
data(client.nodesTasks.get_log("localhost", upid))
node = data(client.nodesStatus.get_status("localhost"))
assert node.info.fingerprint == lab.fingerprint
data(client.nodes.get_identity("localhost"))
data(client.nodes.get_nodes())
try:
    client.adminDatastore.get_groups("other")
    raise SystemExit("a datastore that is none was listed")
except clientapi_pbs.ApiException as error:
    assert error.status == 400, error
