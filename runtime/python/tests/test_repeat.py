"""Seeds, and what is watched in a repeated run."""

from __future__ import annotations

import unittest
from importlib.util import find_spec

from tests.host import WorkerCase

SEEDED = {"MILLRACE_SEED": "5"}
WATCHED = {"MILLRACE_WATCH": "1"}


class SeedTest(WorkerCase):
    def test_random_is_seeded(self):
        import random

        want = random.Random(5).random()
        for code in (
            "import random\ndef handler(): return random.random()",
            "def handler():\n    from random import random\n    return random()",
            "import random\nrandom.random()\ndef handler(): return random.random()",  # a draw at import
        ):
            with self.subTest(code):
                self.assertEqual(self.results(code, env=SEEDED)["return"], want)

    def test_each_call_begins_at_the_seed(self):
        host = self.loaded("import random\ndef handler(): return random.random()", env=SEEDED)
        first = self.call(host, {}, call=1)[1][-1]["results"]["return"]
        self.assertEqual(self.call(host, {}, call=2)[1][-1]["results"]["return"], first)

    def test_forked_processes_are_seeded(self):
        for module, draw in (("random", "random.random()"), ("numpy.random", "numpy.random.random()")):
            if not find_spec(module.partition(".")[0]):
                continue
            code = """
                import os, multiprocessing, %s
                def draw(n):
                    return %s
                def handler():
                    fork = multiprocessing.get_context("fork")
                    found = []
                    for n in range(3):
                        with fork.Pool(1) as pool:
                            found.append(pool.apply(draw, (n,)))
                    return found
            """ % (module, draw)
            with self.subTest(module):
                first = self.results(code, env=SEEDED)["return"]
                self.assertEqual(len(set(first)), 3)
                self.assertEqual(self.results(code, env=SEEDED)["return"], first)
                self.assertNotEqual(self.results(code, env={"MILLRACE_SEED": "6"})["return"], first)

    def test_processes_that_are_not_seeded_are_said(self):
        cases = {
            "subprocess.run([sys.executable, '-c', 'pass'])": ["subprocess"],
            "subprocess.run(args=sys.executable)": ["subprocess"],
            "subprocess.run(['true'])": None,
            "multiprocessing.get_context('spawn').Pool(1).apply(len, ('ab',))": ["multiprocessing"],
            "multiprocessing.get_context('forkserver').Pool(1).apply(len, ('ab',))": ["multiprocessing"],
            "multiprocessing.get_context('fork').Pool(1).apply(len, ('ab',))": None,
        }
        for statement, want in cases.items():
            with self.subTest(statement):
                code = "import multiprocessing, subprocess, sys\ndef handler():\n    %s\n" % statement
                answer, emitted, host = self.run_code(code, env=SEEDED)
                self.assertEqual(answer["state"], "completed", host.log())
                found = [record["unseeded"] for record in emitted if "unseeded" in record]
                self.assertEqual(found, [want] if want else [])

    def test_nothing_is_imported_for_it(self):
        code = "import sys\ndef handler(): return [n for n in ('random', 'numpy') if n in sys.modules]"
        self.assertEqual(self.results(code, env=SEEDED)["return"], self.results(code)["return"])

    def test_the_module_stays_what_it_is(self):
        code = """
            import random
            def handler():
                spec = random.__spec__
                return [type(spec.loader).__name__, "exec_module" in vars(spec.loader), random.__loader__ is spec.loader]
        """
        self.assertEqual(self.results(code, env=SEEDED)["return"], ["SourceFileLoader", False, True])

    def test_an_unseeded_run_has_no_trace_of_it(self):
        code = "import sys\ndef handler(): return 'millrace._repeat' in sys.modules"
        self.assertEqual(self.results(code)["return"], False)


class WatchTest(WorkerCase):
    def noted(self, code, **env):
        answer, emitted, host = self.run_code(code, env={**WATCHED, **env})
        self.assertEqual(answer["state"], "completed", host.log())
        records = [record for record in emitted if "nondeterminism" in record]
        self.assertEqual(len(records), 1, emitted)
        return records[0]["nondeterminism"]

    def test_sources(self):
        cases = {
            "1": [],
            "__import__('random').random()": ["random"],
            "__import__('random').Random(3).random()": [],
            "__import__('random').Random().random()": ["os.urandom"],
            "__import__('random').SystemRandom().random()": ["os.urandom"],
            "__import__('secrets').token_hex()": ["os.urandom"],
            "__import__('os').urandom(3)": ["os.urandom"],
            "str(__import__('uuid').uuid4())": ["uuid"],
            "str(__import__('uuid').uuid5(__import__('uuid').NAMESPACE_DNS, 'a'))": [],
            "__import__('time').time()": ["time"],
            "__import__('time').gmtime(0).tm_year": [],
            "__import__('time').gmtime().tm_year": ["time"],
            "str(__import__('datetime').datetime.now())": ["time"],
            "str(__import__('datetime').date.today())": ["time"],
            "str(__import__('datetime').datetime(2020, 1, 1))": [],
            "__import__('tempfile').mktemp() and 1": [],
            "__import__('logging').getLogger().warning('x')": [],
            "__import__('subprocess').call([__import__('sys').executable, '-c', ''])": ["processes"],
            "__import__('subprocess').call(['true'])": [],
        }
        for expression, want in cases.items():
            with self.subTest(expression):
                self.assertEqual(self.noted("def handler():\n    return %s\n" % expression), want)

    @unittest.skipUnless(find_spec("numpy"), "needs numpy")
    def test_numpy(self):
        cases = {
            "numpy.zeros(3).sum()": [],
            "numpy.random.rand()": ["numpy.random"],
            "numpy.random.default_rng(3).random()": [],
            "numpy.random.default_rng(seed=3).random()": [],
            "numpy.random.default_rng().random()": ["os.urandom"],
            "numpy.random.RandomState(3).rand()": [],
            "numpy.random.RandomState(seed=3).rand()": [],
            "numpy.random.RandomState().rand()": ["os.urandom"],
            "numpy.random.RandomState(None).rand()": ["os.urandom"],
            "isinstance(numpy.random.mtrand._rand, numpy.random.RandomState)": [],
            "__import__('pickle').loads(__import__('pickle').dumps(numpy.random.RandomState(3))).rand()": [],
            "type('Own', (numpy.random.RandomState,), {})(3).rand()": [],
            "issubclass(type(numpy.random.RandomState(3)), numpy.random.RandomState)": [],
            "numpy.random.mtrand._rand.rand()": ["numpy.random"],  # as scikit-learn does
            "numpy.random.seed(3) or numpy.random.mtrand._rand.rand()": [],
        }
        for expression, want in cases.items():
            with self.subTest(expression):
                self.assertEqual(self.noted("import numpy\ndef handler():\n    return float(%s)\n" % expression), want)
        draw = "def handler():\n    import numpy\n    return float(numpy.random.rand())\n"
        import numpy

        self.assertEqual(self.results(draw, env=SEEDED)["return"], numpy.random.RandomState(5).rand())

    def test_what_the_code_seeded_itself_is_no_chance(self):
        draw = "import random\ndef handler():\n    random.seed(%s)\n    return random.random()\n"
        self.assertEqual(self.noted(draw % "3"), [])
        self.assertEqual(self.noted(draw % "None"), ["random"])

    def test_while_loading(self):
        self.assertEqual(self.noted("import random\nX = random.random()\ndef handler(): return X\n"), ["random"])

    def test_threads(self):
        code = "import threading\ndef handler():\n    t = threading.Thread(target=int)\n    t.start()\n    t.join()\n"
        self.assertEqual(self.noted(code), ["threads"])

    def test_functions_stay_what_they_were(self):
        code = """
            import os, random, time, uuid
            def handler():
                assert isinstance(time.time(), float) and time.time.__name__ == "time"
                assert len(os.urandom(7)) == 7 and random.randint.__name__ == "randint"
                assert random.Random(3).random() == random.Random(3).random()
                generator = random.Random()
                generator.seed(4)
                assert generator.random() == random.Random(4).random()
                assert isinstance(random.SystemRandom().getrandbits(8), int)
                return uuid.uuid4().version
        """
        self.assertEqual(self.results(code, env=WATCHED)["return"], 4)

    def test_a_failed_call_says_it_too(self):
        answer, emitted, _ = self.run_code("import time\ndef handler(): raise ValueError(time.time())", env=WATCHED)
        self.assertEqual(answer["state"], "error")
        self.assertIn({"t": "provenance", "nondeterminism": ["time"]}, emitted)

    def test_a_script(self):
        code = "import random\nprint(random.random())\n"
        answer, emitted, host = self.run_code(code, handler="", mode="main", env=WATCHED)
        self.assertEqual(answer["state"], "completed", host.log())
        self.assertIn({"t": "provenance", "nondeterminism": ["random"]}, emitted)
