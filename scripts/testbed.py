"""What tests in Python share."""

import importlib.machinery
import importlib.util
import json
import os
import pathlib
import subprocess
import sys

SCRIPTS = pathlib.Path(__file__).resolve().parent


def script(name):
    """Another test, such as page-test, as a module."""
    sys.dont_write_bytecode = True
    loader = importlib.machinery.SourceFileLoader(name.replace("-", "_"), str(SCRIPTS / name))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader(loader.name, loader))
    loader.exec_module(module)
    return module


def environment(name, packages):
    """The folder with the programs of an environment that has these packages of PyPI; it is kept in ~/.cache."""
    folder = pathlib.Path(os.environ.get("XDG_CACHE_HOME", pathlib.Path.home() / ".cache")) / f"relight-{name}"
    if not (folder / "bin" / "python").exists():
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    known = folder / "packages"
    if not known.exists() or known.read_text() != "\n".join(packages):
        print(f"{name}: installing", *packages, file=sys.stderr)
        subprocess.run([folder / "bin" / "python", "-m", "pip", "install", "-q", "--disable-pip-version-check", *packages], check=True)
        known.write_text("\n".join(packages))
    return folder / "bin"


def program(named):
    """The relight program to test: the one that is named, or else it is built."""
    if named:
        return str(pathlib.Path(named[0]).resolve())
    built = subprocess.run(["cargo", "build", "--quiet", "-p", "relight", "--message-format=json"], cwd=SCRIPTS.parent, stdout=subprocess.PIPE, text=True, check=True)
    return [line["executable"] for line in map(json.loads, built.stdout.splitlines()) if line.get("executable")][-1]
