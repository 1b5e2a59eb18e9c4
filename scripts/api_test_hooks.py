"""What api-test adds to the calls that schemathesis makes up: names with a slash, which it does not put into paths by itself, and
bodies and paths that speak of what there is."""

import json
import os

import schemathesis

REAL = json.loads(os.environ["RELIGHT_API_TEST"])
# Every other call of these gets such a body, or such a path.
turns = dict.fromkeys([*REAL["bodies"], *REAL["paths"]], 0)


@schemathesis.hook
def before_call(context, case, kwargs):
    if "name" in (case.path_parameters or {}):
        case.path_parameters["name"] = str(case.path_parameters["name"]).replace("~", "%2F")
    label = context.operation.label
    for name, others in REAL["instead"].get(label, {}).items():
        case.path_parameters[name] = others.get(case.path_parameters.get(name), case.path_parameters.get(name))
    if label not in turns:
        return
    turns[label] += 1
    if turns[label] % 2:
        case.path_parameters.update(REAL["paths"].get(label, {}))
        if isinstance(case.body, dict):
            case.body.update(REAL["bodies"].get(label, {}))
