"""Run in the layer's Python on any base image; report what works as JSON, to a file or to standard output."""

import ctypes
import json
import os
import pwd
import re
import socket
import sqlite3
import ssl
import subprocess
import sys
import threading
from importlib import metadata
from pathlib import Path

# The base image may have no certificates.
os.environ.pop("SSL_CERT_FILE", None)

import certifi
import httpx
import hud
import openai
import pydantic_core


def root_name():
    try:
        return pwd.getpwuid(0).pw_name
    except KeyError:
        return None


def output_of(*command):
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


# A thread that ends this way makes the C library load libgcc_s, which nothing is linked with.
thread = threading.Thread(target=sys.exit)
thread.start()
thread.join()
with httpx.Client(), openai.OpenAI(api_key="none"), sqlite3.connect(":memory:") as database:
    report = {
        "user": os.getuid(),
        "versions": [hud.__version__, openai.__version__, pydantic_core.__version__],
        "certificates": len(ssl.create_default_context(cafile=certifi.where()).get_ca_certs()),
        "sqlite": database.execute("select 6 * 7").fetchone()[0],
        "ctypes": ctypes.CDLL(None).getpid() == os.getpid(),
        "child": output_of(sys.executable, "-I", "-c", "print(6 * 7)"),
        "uv": output_of("/hud/uv", "--version").split()[0],
        "localhost": sorted({entry[4][0] for entry in socket.getaddrinfo("localhost", 80)}),
        "root": root_name(),
        "folders": {path.name: oct(path.stat().st_mode & 0o7777) for path in Path("/logs").iterdir()},
        "installed": {
            re.sub(r"[-_.]+", "-", found.metadata["Name"]).lower(): found.version for found in metadata.distributions()
        },
    }
mapped = {line.split()[-1] for line in Path("/proc/self/maps").read_text().splitlines()}
report["foreign"] = sorted(path for path in mapped if ".so" in path and not path.startswith("/hud/"))
text = json.dumps(report)
if len(sys.argv) > 1:
    Path(sys.argv[1]).write_text(text)
else:
    print(text)
