"""pbs-exporter: figures for Prometheus."""

import logging

from pbs_exporter.exporter import create_app
from werkzeug.test import Client

import lab

logging.disable(logging.CRITICAL)
app = create_app(f"https://{lab.host}:{lab.port}", f"{lab.user}!{lab.token_name}:{lab.secret}")
answer = Client(app).get("/metrics")
text = answer.get_data(as_text=True)
assert answer.status_code == 200, text
figures = dict(line.rsplit(" ", 1) for line in text.splitlines() if line.startswith("pbs_node_"))
for name in ("memory_total", "memory_used", "uptime"):
    assert float(figures[f'pbs_node_{name}{{node="localhost"}}']) > 0, (name, figures)
assert 'worker_type="verif' in text and 'status="OK"' in text, text
assert app.client.get_datastore_usage()["data"][0]["store"] == "main"
assert app.client.get_datastores()["data"][0]["store"] == "main"
