"""What the flows share: a project of their own, the command line, and a runner
that reports each test as one JSON line on the file descriptor 3."""

import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import textwrap
import traceback
import unittest
import uuid
import warnings

warnings.filterwarnings("ignore", category=FutureWarning)

URL = os.environ["MILLRACE_URL"]
BINARY = os.environ["MILLRACE_BINARY"]

import mlrun  # noqa: E402


class Flow(unittest.TestCase):
    """One class is one story in a project of its own."""

    maxDiff = None

    @classmethod
    def setUpClass(cls):
        mlrun.set_environment(URL)
        cls.folder = pathlib.Path(tempfile.mkdtemp(prefix="flow-"))
        cls.project_name = "sdk-" + uuid.uuid4().hex[:10]
        cls.project = mlrun.get_or_create_project(cls.project_name, context=str(cls.folder / "project"))
        cls.db = mlrun.get_run_db()

    @classmethod
    def tearDownClass(cls):
        shutil.rmtree(cls.folder, ignore_errors=True)

    def write(self, name, text):
        """Write a file of this story and return its path."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text).lstrip("\n"))
        return str(path)

    def job(self, name, text, **options):
        """A job function made of Python text."""
        options.setdefault("image", "mlrun/mlrun")
        return mlrun.code_to_function(
            name,
            project=self.project_name,
            filename=self.write(name + ".py", text),
            kind="job",
            **options,
        )

    def cli(self, *args, check=True):
        """Run the millrace command against the same server; return its standard output."""
        done = subprocess.run(
            [BINARY, *args],
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=120,
            env={**os.environ, "MILLRACE_URL": URL},
        )
        if check and done.returncode != 0:
            self.fail(f"millrace {' '.join(args)} exited with {done.returncode}: {done.stderr}")
        return done.stdout

    def cli_json(self, *args):
        return json.loads(self.cli(*args, "--project", self.project_name, "--output", "json"))


class Reporter(unittest.TestResult):
    """Writes one JSON object for each test that ended."""

    def __init__(self, stream):
        super().__init__()
        self._out = stream

    def _report(self, test, outcome, text=""):
        record = {"test": test.id().split(".", 1)[-1], "outcome": outcome, "text": text}
        self._out.write(json.dumps(record) + "\n")
        self._out.flush()

    def addSuccess(self, test):
        super().addSuccess(test)
        self._report(test, "pass")

    def addFailure(self, test, err):
        super().addFailure(test, err)
        self._report(test, "fail", "".join(traceback.format_exception(*err)))

    def addError(self, test, err):
        super().addError(test, err)
        self._report(test, "fail", "".join(traceback.format_exception(*err)))

    def addSubTest(self, test, subtest, err):
        super().addSubTest(test, subtest, err)
        if err is not None:
            self._report(subtest, "fail", "".join(traceback.format_exception(*err)))

    def addSkip(self, test, reason):
        super().addSkip(test, reason)
        self._report(test, "skip", reason)


def main():
    """Run the flow modules named on the command line."""
    sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
    suite = unittest.defaultTestLoader.loadTestsFromNames(sys.argv[1:])
    with os.fdopen(3, "w") as stream:
        result = suite.run(Reporter(stream))
    sys.exit(0 if result.wasSuccessful() else 1)


if __name__ == "__main__":
    # The flows import this file as "flow"; they must find this very module.
    sys.modules["flow"] = sys.modules["__main__"]
    main()
