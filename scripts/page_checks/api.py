"""The API, without a browser."""

import json
import urllib.error

from page_checks.server import Api


def check_api(server):
    stranger, admin, viewer, nobody = (Api(server.url) for _ in range(4))
    status, _, body = stranger.ask("GET", "/api/v1/session")
    assert (status, json.loads(body)["data"]["user"]) == (200, None)
    status, headers, body = stranger.ask("GET", "/")
    assert status == 200 and b"<script type=\"module\"" in body
    assert "default-src 'none'" in headers["content-security-policy"] and "unsafe" not in headers["content-security-policy"]
    status, _, _ = stranger.ask("GET", "/api/v1/overview")
    assert status == 401
    status, _, _ = stranger.ask("POST", "/api/v1/session", {"user": "jane@pbs", "password": "Secret12345"}, {"Sec-Fetch-Site": "cross-site"})
    assert status == 403, "a page of another site logs somebody in"
    admin.log_in("jane@pbs")
    viewer.log_in("viewer@pbs")
    nobody.log_in("nobody@pbs")

    # The description is made from the routes: each GET in it answers.
    _, _, body = admin.ask("GET", "/api/v1/openapi.json")
    document = json.loads(body)
    snapshot = admin.data("workloads/host%2Fweb/recovery-points")["data"][0]["snapshot"]
    assert document["openapi"] == "3.1.0" and len(document["paths"]) >= 10
    for path, operations in document["paths"].items():
        if "get" in operations and not path.endswith("/download") and "{number}" not in path:
            admin.data(path.removeprefix("/api/v1/").replace("{name}", "host%2Fweb").replace("{run}", "1").replace("{snapshot}", snapshot))

    # A list is read page by page, and nothing is lost or told twice.
    seen, before = [], ""
    while before is not None:
        page = admin.data(f"runs?limit=1&before={before}" if before else "runs?limit=1")
        seen += [run["number"] for run in page["data"]]
        before = page["next"]
    assert seen == [run["number"] for run in admin.data("runs")["data"]] and len(seen) >= 4, seen
    for path in ("runs?limit=0", "runs?limit=201", "runs?limit=x", "runs?surprise=1", "overview?days=0", "overview?health=fine", "workloads/..%2F..%2Fetc", "workloads/%00"):
        status, _, body = admin.ask("GET", "/api/v1/" + path)
        assert status == 400 and json.loads(body)["error"]["message"], (path, status, body)

    # Forged requests change nothing; neither do those who may not.
    job = {"job": "backup host/web"}
    assert admin.ask("POST", "/api/v1/runs", job, csrf=False)[0] == 401
    assert viewer.ask("POST", "/api/v1/runs", job)[0] == 403
    assert nobody.ask("POST", "/api/v1/runs", job)[0] == 403
    status, _, body = admin.ask("POST", "/api/v1/runs", {"job": "backup host/unknown"})
    assert status == 400 and "not in the plan" in json.loads(body)["error"]["message"], body
    assert admin.ask("POST", "/api/v1/runs/1/cancel", {})[0] == 400, "it has ended"
    assert viewer.ask("POST", "/api/v1/runs/1/cancel", {})[0] == 403

    # Who may see what.
    assert len(viewer.data("workloads")["data"]) == 4, "one is in no repository, and so not the viewer's"
    assert viewer.data("runs")["data"] and viewer.data("drills")["data"]
    for path in ("evidence", "plan"):
        assert viewer.ask("GET", "/api/v1/" + path)[0] == 403, path
    for path in ("workloads", "runs", "drills", "repositories"):
        assert nobody.data(path)["data"] == [], path
    assert nobody.data("overview")["data"]["total"] == 0
    for path in ("workloads/host%2Fweb", "workloads/host%2Fno", "runs/1", "runs/99999"):
        assert nobody.ask("GET", "/api/v1/" + path)[0] == 404, path

    # Paths that are none.
    for path in ("/page/../Cargo.toml", "/page/..%2f..%2fetc/passwd", "/page/%2e%2e/main.js", "/page/", "/api/v1", "/api/v1/runs/1/delete"):
        assert admin.ask("GET", path)[0] == 404, path
    assert admin.ask("PUT", "/api/v1/runs", {})[0] == 405
    try:
        assert admin.ask("POST", "/api/v1/runs", {"job": "x" * 600_000})[0] == 413
    except urllib.error.URLError:
        pass  # The server closes without reading the rest, maybe before the answer was read.
    status, headers, _ = admin.ask("DELETE", "/api/v1/session")
    assert status == 200 and "Max-Age=0" in headers["set-cookie"]
    records = json.loads(server.run("audit", "--json", "-n", "200"))
    assert "Secret12345" not in json.dumps(records)
    print("page-test: the API answers as it should")
