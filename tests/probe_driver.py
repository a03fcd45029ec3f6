"""Runs many programs under the probe in processes forked from one that has torch loaded and warm.

The package, the request and the events are the real ones; only the start of a fresh interpreter (two seconds
each) is saved. What has to do with that start, with limits and with killing is tested with real starts.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from gradsight_server import child, probe

# torch.set_num_threads(1) must run before the parent's first operation, or children hang.
DRIVER = """\
import importlib.util, json, os, signal, sys
folder = sys.argv[1]
sys.path[:] = [item for item in sys.path if item]
spec = importlib.util.spec_from_file_location(
    'gradsight_probe', folder + '/__init__.py', submodule_search_locations=[folder])
package = importlib.util.module_from_spec(spec); sys.modules['gradsight_probe'] = package
spec.loader.exec_module(package)
import torch
torch.set_num_threads(1)
model = torch.nn.Linear(2, 2)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
model(torch.ones(1, 2)).sum().backward(); optimizer.step()
from gradsight_probe.run import main
print('ready', flush=True)
for line in sys.stdin:
    job = json.loads(line)
    pid = os.fork()
    if pid == 0:
        signal.alarm(job['limit'])
        out = os.open(job['output'], os.O_WRONLY | os.O_CREAT, 0o600)
        os.dup2(out, 1); os.dup2(out, 2); os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        sys.stdin = open(0)
        os.chdir(job['directory'])
        os.environ['TMPDIR'] = job['folder']
        events = os.open(job['events'], os.O_WRONLY | os.O_CREAT, 0o600)
        try:
            main([job['folder'], 'fd:%d' % events])
        finally:
            sys.stdout.flush()
            os._exit(0)
    print(os.waitpid(pid, 0)[1], flush=True)
"""


class Driver:
    """A warm parent of probes; `run` gives what `probe.run` would."""

    def __init__(self) -> None:
        environment = {**os.environ, "TORCH_COMPILE_DISABLE": "1", "GRADSIGHT_PROBE_STRICT": "1"}
        self._process = subprocess.Popen(
            [sys.executable, "-c", DRIVER, str(child.PROBE)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
            text=True,
        )
        assert self._process.stdout is not None
        assert self._process.stdout.readline().strip() == "ready"

    def run(self, request: probe.ProbeRequest) -> probe.ProbeResult:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with tempfile.TemporaryDirectory() as folder:
            job: dict[str, Any] = {name: os.path.join(folder, name) for name in ("events", "output", "tmp")}
            os.mkdir(job["tmp"])
            job.update(
                folder=job["tmp"], directory=request.directory or os.path.dirname(request.filename), limit=120
            )
            wire = json.dumps(child.to_wire(request, job["tmp"]))
            Path(job["tmp"], "request.json").write_text(wire, encoding="utf-8")
            self._process.stdin.write(json.dumps(job) + "\n")
            self._process.stdin.flush()
            status = os.waitstatus_to_exitcode(int(self._process.stdout.readline()))
            told = child.Told()
            for line in Path(job["events"]).read_bytes().splitlines():
                told.take(line)
            output = child.Output(request.output_limit, None)
            with open(job["output"], "rb") as file:
                output.read(file)
        return probe.to_result(status, request, told, output, None, 0.0)

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()
