"""Stands in for vLLM's program: `fake_vllm.py serve MODEL --host H --port P ...`; FAKE_VLLM says how it behaves.

It starts an engine in a session of its own that ignores SIGTERM, as the worst of servers do, and writes both process
ids and its arguments to FAKE_VLLM_NOTES/<port>.json.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

ENGINE = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)"


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/health" else 404)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


def main() -> None:
    arguments = sys.argv[1:]
    host, port = (arguments[arguments.index(name) + 1] for name in ("--host", "--port"))
    how, _, seconds = os.environ.get("FAKE_VLLM", "").partition(":")
    engine = subprocess.Popen([sys.executable, "-c", ENGINE], start_new_session=True)
    shown = {name: os.environ.get(name) for name in ("CUDA_VISIBLE_DEVICES", "VLLM_API_KEY", "VLLM_NO_USAGE_STATS")}
    notes = {"arguments": arguments, "pids": [os.getpid(), engine.pid], **shown}
    Path(os.environ["FAKE_VLLM_NOTES"], f"{port}.json").write_text(json.dumps(notes))
    print(f"loading weights on port {port}", flush=True)
    if how == "fails":
        print("torch.OutOfMemoryError: CUDA out of memory", flush=True)
        os._exit(7)
    if how == "never":
        time.sleep(600)
    if how == "dies":
        threading.Timer(float(seconds), os._exit, (9,)).start()
    ThreadingHTTPServer((host, int(port)), Handler).serve_forever()


if __name__ == "__main__":
    main()
