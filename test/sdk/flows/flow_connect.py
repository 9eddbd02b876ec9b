"""Connecting: import, set_environment, client-spec (29.1)."""

import os
import subprocess
import sys

import mlrun
from flow import URL, Flow


class Connect(Flow):
    def test_the_server_is_the_one_that_was_named(self):
        self.assertEqual(mlrun.mlconf.dbpath.rstrip("/"), URL)
        self.assertEqual(mlrun.get_run_db().base_url.rstrip("/"), URL)

    def test_there_is_an_artifact_path(self):
        _, path = mlrun.set_environment(URL)
        self.assertTrue(mlrun.mlconf.artifact_path or path)

    def test_a_trailing_slash_does_not_matter(self):
        try:
            mlrun.set_environment(URL + "/")
            self.assertIn(self.project_name, mlrun.get_run_db().list_projects())
        finally:
            mlrun.set_environment(URL)

    def test_the_environment_variable_alone_connects(self):
        code = "import mlrun; print(mlrun.get_run_db().list_projects())"
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", code],
            env={**os.environ, "MLRUN_DBPATH": URL},
            capture_output=True,
            text=True,
            timeout=120,
        )
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn(self.project_name, done.stdout)

    def test_a_project_that_is_not_there_is_not_found(self):
        with self.assertRaises(mlrun.errors.MLRunNotFoundError) as caught:
            mlrun.get_run_db().get_project("there-is-no-such-project")
        self.assertIn("there-is-no-such-project", str(caught.exception))
