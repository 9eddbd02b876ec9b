"""A host for the tests: the other end of docs/protocol.md, written from that page alone."""

from __future__ import annotations

import json
import os
import select
import shutil
import struct
import subprocess
import sys
import tempfile
import textwrap
import time
import unittest

HELLO, LOAD, LOADED, CALL, ANSWER, EMIT, CANCEL, DRAIN, FAILURE, EVENT, RESPONSE, PIECE = range(1, 13)
HEADER = struct.Struct("<IBBHII")
SOURCE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
TIMEOUT = 60.0


def frame(kind, call=0, head=None, body=b"", flags=0):
    data = b"" if head is None else json.dumps(head).encode()
    return HEADER.pack(len(data) + len(body), kind, flags, 0, call, len(data)) + data + body


class Frame:
    def __init__(self, kind, flags, call, head, body):
        self.kind, self.flags, self.call, self.head, self.body = kind, flags, call, head, body

    def __repr__(self):
        return "Frame(%d, %#x, %d, %r)" % (self.kind, self.flags, self.call, self.head)


class Host:
    """One worker process and the host's end of its pipes."""

    def __init__(self, runtime, folder, env=None, args=()):
        self.folder = folder
        child_in, self.out = os.pipe()
        self.inp, self.keep = os.pipe()
        self.log_path = os.path.join(folder, "log")
        log = os.open(self.log_path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        environment = {"PATH": os.environ["PATH"], "PYTHONDONTWRITEBYTECODE": "1"}
        environment.update(env or {})
        # Descriptors 3 and 4 by way of a shell-free trampoline: dup2 in the child.
        low = [os.dup(fd) for fd in (child_in, self.keep)]

        def place():
            high = [os.dup2(fd, number) for fd, number in zip(low, (103, 104))]
            for fd, number in zip(high, (3, 4)):
                os.dup2(fd, number)
                os.close(fd)

        argv = [sys.executable, *args, "-S", runtime + "/boot.py", str(os.getpid()), str(self.out), str(self.inp)]
        self.process = subprocess.Popen(
            argv, cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            close_fds=False, preexec_fn=place,
        )  # fmt: skip
        for fd in (log, *low):
            os.close(fd)
        self.child_in = child_in
        self.buffer = b""

    def send(self, data):
        view = memoryview(data)
        while view:
            view = view[os.write(self.out, view) :]

    def read(self):
        """Return the next frame; None once the worker is gone and has said nothing more."""
        deadline = time.monotonic() + TIMEOUT
        while True:
            if len(self.buffer) >= 16:
                size, kind, flags, reserved, call, head = HEADER.unpack(self.buffer[:16])
                assert (reserved == 0 or kind == RESPONSE) and head <= size
                if len(self.buffer) >= 16 + size:
                    data, self.buffer = self.buffer[16 : 16 + size], self.buffer[16 + size :]
                    return Frame(kind, flags, call, json.loads(data[:head] or b"{}"), data[head:])
            gone = self.process.poll() is not None
            ready, _, _ = select.select([self.inp], [], [], 0 if gone else 0.02)
            if ready:
                self.buffer += os.read(self.inp, 1 << 16)
            elif gone:
                assert not self.buffer, "the worker ended within a frame"
                return None
            elif time.monotonic() > deadline:
                raise AssertionError("the worker says nothing; log: " + self.log())

    def log(self):
        with open(self.log_path, "rb") as file:
            return file.read().decode("utf-8", "replace")

    def close(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        for fd in (self.out, self.inp, self.keep, self.child_in):
            if fd >= 0:
                os.close(fd)


class WorkerCase(unittest.TestCase):
    """A case with a folder, a runtime that was unpacked into it once, and workers."""

    @classmethod
    def setUpClass(cls):
        cls.runtime = tempfile.mkdtemp(prefix="millrace-runtime-")
        shutil.copy(SOURCE + "/boot.py", cls.runtime)
        ignore = shutil.ignore_patterns("__pycache__")
        shutil.copytree(SOURCE + "/millrace", cls.runtime + "/millrace", ignore=ignore)
        cls.addClassCleanup(shutil.rmtree, cls.runtime)

    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="millrace-worker-")
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)

    def write(self, name, code):
        path = os.path.join(self.folder, name)
        with open(path, "w", encoding="utf-8") as file:
            file.write(textwrap.dedent(code))
        return path

    def start(self, **options):
        host = Host(self.runtime, self.folder, **options)
        self.addCleanup(host.close)
        hello = host.read()
        self.assertEqual(hello.kind, HELLO, host.log())
        self.assertEqual(hello.head["protocol"], 1)
        return host

    def loaded(self, code, handler="handler", start=None, **load):
        """Start a worker and load code; fail if it cannot."""
        host = self.start(**(start or {}))
        if "file" not in load:
            load["file"] = self.write("code.py", code)
        host.send(frame(LOAD, head=dict(load, handler=handler)))
        answer = host.read()
        self.assertEqual(answer.kind, LOADED, "%r\n%s" % (answer, host.log()))
        return host

    def refused(self, code, handler="handler", **load):
        """Load code that cannot be loaded; return the failure."""
        host = self.start()
        host.send(frame(LOAD, head=dict({"file": self.write("code.py", code), "handler": handler}, **load)))
        answer = host.read()
        self.assertEqual(answer.kind, FAILURE, repr(answer))
        return answer.head

    def call(self, host, head=None, call=1):
        """Make a call; return its answer's head and its emissions."""
        host.send(frame(CALL, call, head))
        emitted = []
        while True:
            answer = host.read()
            if answer is None:
                return None, emitted
            self.assertEqual(answer.call, call, repr(answer))
            if answer.kind == ANSWER:
                self.assertEqual(answer.flags & 1, answer.head["state"] != "completed")
                if "update" in answer.head:
                    emitted.append(dict(answer.head["update"], t="update"))
                return answer.head, emitted
            self.assertEqual(answer.kind, EMIT, repr(answer))
            emitted.append(answer.head)

    def run_code(self, code, parameters=None, handler="handler", run=None, **load):
        """Load and call once; return (answer, emissions, host)."""
        host = self.loaded(code, handler, **load)
        document = {"metadata": {"name": "r", "uid": "u1", "project": "p"}, "spec": {"parameters": parameters or {}}}
        document.update(run or {})
        answer, emitted = self.call(host, {"run": document})
        return answer, emitted, host

    def results(self, code, parameters=None, **options):
        """Return the results of code's one call, which must complete."""
        answer, emitted, host = self.run_code(code, parameters, **options)
        self.assertIsNotNone(answer, host.log())
        self.assertEqual(answer["state"], "completed", "%r\n%s" % (answer, host.log()))
        merged = {}
        for record in emitted:
            if record["t"] == "update" and not record.get("iter"):
                merged.update(record.get("results", {}))
        return merged

    def drain(self, host):
        """Drain the worker; return its exit status."""
        host.send(frame(DRAIN))
        extra = host.read()
        self.assertIsNone(extra, repr(extra))
        return host.process.wait(TIMEOUT)
