"""Serving events: what a handler sees, what its return values become, and in which order."""

from __future__ import annotations

import json
import os
import struct
import threading
import time

from tests.host import CANCEL, EVENT, PIECE, RESPONSE, WorkerCase, frame

JSON, BATCH, CAPTURE = 0x02, 0x04, 0x08
FAILED, MORE = 0x01, 0x02
CLOSED = "the worker said nothing more"


class EventCase(WorkerCase):
    def serve(self, code, handler="handler", batch=False, start=None, threads=1, **load):
        """Start a worker that serves code; the note of what is begun is in self.begun."""
        self.begun = self.write("begun", "\0" * 8)
        event = {"trigger": {"kind": "http", "name": "web"}, "worker": "3", "begun": self.begun, "batch": batch}
        if threads > 1:
            event["threads"] = threads
        return self.loaded(code, handler, start=start, mode="event", event=event, **load)

    def response(self, host):
        answer = host.read()
        self.assertIsNotNone(answer, CLOSED + "\n" + host.log())
        self.assertEqual(answer.kind, RESPONSE, repr(answer))
        return answer

    def ask(self, host, head=None, body=b"", flags=0, call=1):
        host.send(frame(EVENT, call, head, body, flags))
        answer = self.response(host)
        self.assertEqual(answer.call, call)
        return answer

    def mark(self):
        with open(self.begun, "rb") as file:
            return struct.unpack("<I", file.read(4))[0]


class SeenTest(EventCase):
    def test_everything_that_is_known(self):
        host = self.serve(
            """
            def handler(context, event):
                names = ("id method path url content_type fields headers shard_id num_shards offset topic type"
                         " type_version version size last_in_batch").split()
                seen = {name: getattr(event, name) for name in names}
                seen["body"] = event.body.decode("latin-1")
                seen["headers"] = {name: ascii(value) for name, value in event.headers.items()}
                seen["timestamp"] = str(event.timestamp)
                seen["trigger"] = event.trigger.kind + "/" + event.trigger.name
                seen["get_header"] = [event.get_header("X-one"), event.get_header("none")]
                seen["context"] = [context.worker_id, context.trigger.kind, context.trigger_name]
                return seen
            """
        )
        head = {
            "id": "i", "method": "PUT", "path": "/p", "url": "u", "content_type": "t", "timestamp": 1522949460, "fields": {"a": "1"},
            "headers": {"X-One": "1", "X-Raw": "\udcff"}, "trigger": {"kind": "k", "name": "n"}, "shard_id": 2, "num_shards": 5, "offset": 7,
            "topic": "o", "type": "ty", "type_version": "tv", "version": "v",
        }  # fmt: skip
        for call in (1, 2):  # the first event takes another way than those that follow
            seen = json.loads(self.ask(host, head, b"\xff", call=call).body)
            expected = dict(head, headers={"X-One": "'1'", "X-Raw": "'\\udcff'"}, timestamp="2018-04-05 17:31:00", trigger="k/n", body="\xff", size=1, last_in_batch=True,
                            get_header=["1", None], context=["3", "http", "web"])  # fmt: skip
            self.assertEqual(seen, expected)
            bare = json.loads(self.ask(host, None, call=call + 10).body)
            self.assertEqual(
                [bare[name] for name in ("id", "path", "fields", "headers", "shard_id", "trigger", "size")],
                ["", "/", {}, {}, -1, "http/web", 0],
            )

    def test_bodies(self):
        host = self.serve("def handler(context, event):\n    return repr(event.body)")
        cases = [
            (b'{"a": [1, NaN]}', JSON, "{'a': [1, nan]}"),
            (b"{", JSON, "b'{'"),
            (b" 1 ", JSON, "1"),
            (b"1 2", JSON, "b'1 2'"),
            (b"\xff", JSON, r"b'\xff'"),
            (b"1", 0, "b'1'"),
        ]
        for call in (1, 2):
            for body, flags, expected in cases:
                with self.subTest(body):
                    self.assertEqual(self.ask(host, {}, body, flags, call).body.decode(), expected)
        self.assertIn("says that it is JSON and is not", host.log())

    def test_strings_as_bytes(self):
        host = self.serve(
            "def handler(context, event):\n    return repr((event.method, event.headers))",
            start={"env": {"NUCLIO_PYTHON_DECODE_EVENT_STRINGS": "No"}},
        )
        for call in (1, 2):
            answer = self.ask(host, {"method": "GET", "headers": {"A": "\udcfe"}}, call=call)
            self.assertEqual(answer.body, b"(b'GET', {b'A': b'\\xfe'})")

    def test_an_event_of_ones_own(self):
        host = self.serve(
            """
            import json
            from millrace import Event
            def handler(context, event):
                made = Event(body=b"x", content_type="t", path="/q", headers={"A": "b"})
                try:
                    Event(nonsense=1)
                except TypeError as error:
                    said = str(error)
                import nuclio_sdk
                assert nuclio_sdk.Event is Event and isinstance(context, nuclio_sdk.Context)
                return [made.path, made.method, made.get_header("a"), json.loads(made.to_json())["body"], said]
            """
        )
        self.assertEqual(json.loads(self.ask(host).body), ["/q", "", "b", "eA==", "an event has no nonsense"])


class OrderTest(EventCase):
    def test_pipelined_events_are_answered_in_order(self):
        host = self.serve("def handler(context, event):\n    return event.body")
        count = 2000
        host.send(b"".join(frame(EVENT, call, {}, b"%d" % call) for call in range(1, count + 1)))
        for call in range(1, count + 1):
            answer = self.response(host)
            self.assertEqual((answer.call, answer.body), (call, b"%d" % call))
        self.assertEqual(self.mark(), count)

    def test_what_had_begun_is_noted(self):
        host = self.serve(
            "import os\ndef handler(context, event):\n    if event.body == b'die':\n        os._exit(3)\n    return 'x' * 10"
        )
        bodies = [b"", b"", b"die", b""]
        host.send(b"".join(frame(EVENT, call + 1, {}, body) for call, body in enumerate(bodies)))
        while host.read() is not None:
            pass
        self.assertEqual(self.mark(), 3)
        self.assertEqual(host.process.wait(10), 3)

    def test_a_response_does_not_wait_for_a_slow_handler_again_and_again(self):
        host = self.serve(
            "import time\ndef handler(context, event):\n    time.sleep(float(event.body))\n    return 'done'"
        )
        self.ask(host, {}, b"0.05")
        host.send(
            frame(EVENT, 2, {}, b"0")
            + frame(EVENT, 3, {}, b"0.05")
            + frame(EVENT, 4, {}, b"0")
            + frame(EVENT, 5, {}, b"1")
        )
        begin = time.monotonic()
        for _ in range(3):
            self.response(host)
        self.assertLess(time.monotonic() - begin, 0.8)  # the last one sleeps still
        self.response(host)

    def test_large_events_between_small_ones(self):
        host = self.serve("def handler(context, event):\n    return event.body")
        sizes = [10, 3_000_000, 0, 70_000, 1_100_000, 5]
        received = []
        for call, size in enumerate(sizes, 1):
            host.send(frame(EVENT, call, {"path": "/"}, b"x" * size))
            received.append(len(self.response(host).body))
        self.assertEqual(received, sizes)

    def test_large_events_and_responses_sent_together(self):
        host = self.serve("def handler(context, event):\n    return event.body * int(event.path[1:])")
        wanted = [(10, 1), (3_000_000, 1), (1, 2_000_000), (0, 1), (262_144, 1), (262_000, 2), (5, 1), (1_048_576, 1)]
        frames = b"".join(
            frame(EVENT, call, {"path": "/%d" % times}, bytes([97 + call]) * size)
            for call, (size, times) in enumerate(wanted, 1)
        )
        sender = threading.Thread(target=host.send, args=(frames,))
        sender.start()
        for call, (size, times) in enumerate(wanted, 1):
            response = self.response(host)
            self.assertEqual(response.call, call)
            self.assertEqual(response.body, bytes([97 + call]) * size * times)
        sender.join()


class ThreadTest(EventCase):
    """Several events at once. Whether the interpreter has a global lock matters for speed alone."""

    def test_events_overlap(self):
        host = self.serve(
            """
            import threading
            together = threading.Barrier(4, timeout=20)
            def init_context(context):
                context.user_data.context = context
            def handler(context, event):
                together.wait()
                return [context.user_data.context is context, threading.current_thread() is threading.main_thread()]
            """,
            threads=4,
        )
        for call in (1, 2, 3, 4):
            host.send(frame(EVENT, call, {}, b""))
        answers = [self.response(host) for _ in range(4)]
        self.assertEqual(sorted(answer.call for answer in answers), [1, 2, 3, 4])
        self.assertEqual({answer.body for answer in answers}, {b"[true, false]"})
        self.assertEqual(self.mark(), 4)

    def test_each_has_its_own_records_and_loop(self):
        host = self.serve(
            """
            import asyncio, threading
            together = threading.Barrier(2, timeout=20)
            def init_context(context):
                context.user_data.log = context.logger.bind(bound=True)
            async def later(text):
                await asyncio.sleep(0)
                return text
            def handler(context, event):
                together.wait()
                context.user_data.log.info(event.path)
                together.wait()
                return later(event.path)
            """,
            threads=2,
        )
        for call in (1, 2):
            host.send(frame(EVENT, call, {"path": "/%d" % call, "log_level": "info"}, b"", flags=0x08))
        for _ in range(2):
            answer = self.response(host)
            self.assertEqual(answer.body, b"/%d" % answer.call)
            self.assertEqual([record["message"] for record in answer.head["logs"]], ["/%d" % answer.call])

    def test_a_stream_that_nobody_wants_ends_beside_others(self):
        host = self.serve(
            """
            import time
            def pieces():
                while True:
                    time.sleep(0.005)
                    yield "x"
            def handler(context, event):
                return pieces() if event.path == "/stream" else "plain"
            """,
            threads=2,
        )
        host.send(frame(EVENT, 1, {"path": "/stream"}, b""))
        self.assertEqual(self.response(host).call, 1)
        host.send(frame(EVENT, 2, {"path": "/"}, b"") + frame(CANCEL, 1))
        seen, ended = set(), False
        while not (ended and 2 in seen):
            answer = host.read()
            seen.add(answer.call)
            ended = ended or (answer.call == 1 and answer.kind == PIECE and not answer.flags & MORE)
        self.assertEqual(self.ask(host, {"path": "/"}, call=3).body, b"plain")

    def test_drain_waits_for_what_runs(self):
        host = self.serve(
            "import time\ndef handler(context, event):\n    time.sleep(0.3)\n    return event.path", threads=3
        )
        host.send(b"".join(frame(EVENT, call, {"path": "/%d" % call}, b"") for call in (1, 2, 3)) + frame(8))  # drain
        self.assertEqual({self.response(host).body for _ in range(3)}, {b"/1", b"/2", b"/3"})
        self.assertIsNone(host.read())

    def test_a_fork_does_not_answer(self):
        host = self.serve(
            """
            import os
            def handler(context, event):
                if os.fork() == 0:
                    return "child"
                os.wait()
                return "parent"
            """,
            threads=2,
        )
        self.assertEqual(self.ask(host).body, b"parent")
        self.assertEqual(self.ask(host, call=2).body, b"parent")

    def test_errors_are_answers(self):
        host = self.serve("def handler(context, event):\n    raise SystemExit(3)", threads=2)
        answer = self.ask(host)
        self.assertEqual(answer.head["status"], 500)
        self.ask(host, call=2)


class ReturnTest(EventCase):
    CODE = """
    class Odd(dict): pass
    def handler(context, event):
        return eval(event.body, {"R": context.Response, "Odd": Odd})
    """

    def test_what_return_values_become(self):
        host = self.serve(self.CODE)
        cases = [
            ("'a'", {}, "a"), ("b'a'", {}, "a"), ("bytearray(b'a')", {}, "a"), ("None", {"status": 204, "content_type": ""}, ""),
            ("{'a': 1}", {"content_type": "application/json"}, '{"a": 1}'), ("Odd(a=1)", {"content_type": "application/json"}, '{"a": 1}'),
            ("[]", {"content_type": "application/json"}, "[]"), ("(418, 'tea')", {"status": 418}, "tea"), ("(201, b'a')", {"status": 201}, "a"),
            ("(201, None)", {"status": 201, "content_type": "application/json"}, "null"), ("(True, 1)", {}, "(True, 1)"), ("(1,)", {}, "(1,)"),
            ("R(body=[1])", {"status": 200, "content_type": "application/json"}, "[1]"),
            ("R(body=[1], content_type='text/csv')", {"status": 200, "content_type": "text/csv"}, "[1]"),
            ("R(headers={'A': [1, True], 'B': 2.5}, status_code=202)", {"status": 202, "headers": {"A": ["1", "true"], "B": "2.5"}}, ""),
            ("{'x': float('nan')}", {"content_type": "application/json"}, '{"x": "NaN"}'),
        ]  # fmt: skip
        for call in (1, 2):
            for code, head, body in cases:
                with self.subTest(code):
                    answer = self.ask(host, {}, code.encode(), call=call)
                    self.assertEqual((answer.flags, answer.head, answer.body.decode()), (0, head, body))

    def test_what_cannot_be_sent(self):
        host = self.serve(self.CODE)
        cases = [
            ("{1, 2}.pop() and {'a': {1}}", "type set has no form"), ("(99, 'a')", "status 99"), ("R(status_code='many')", "many"),
            ("'\\ud800'", "surrogates not allowed"), ("1 / 0", "ZeroDivisionError"), ("exit(3)", "SystemExit"),
        ]  # fmt: skip
        for call in (1, 2):
            for code, part in cases:
                with self.subTest(code):
                    answer = self.ask(host, {}, code.encode(), call=call)
                    self.assertEqual((answer.flags, answer.head["status"]), (FAILED, 500))
                    self.assertIn(part, answer.body.decode())
        self.assertEqual(self.ask(host, {}, b"'well'").body, b"well")

    def test_log_records_come_back(self):
        host = self.serve(
            "def handler(context, event):\n    context.logger.debug('quiet')\n    context.logger.warn_with('loud', n=1)\n    return {}"
        )
        answer = self.ask(host, {"log_level": "info"}, flags=CAPTURE)
        (record,) = answer.head["logs"]
        self.assertEqual((record["level"], record["message"], record["n"]), ("warn", "loud", 1))
        self.assertNotIn("logs", self.ask(host, {}).head)


class StreamTest(EventCase):
    CODE = """
    import time
    def forever():
        try:
            while True:
                time.sleep(0.002)
                yield "tick"
        finally:
            print("closed", flush=True)
    def handler(context, event):
        if event.body == b"forever":
            return forever()
        if event.body == b"broken":
            return (1 / n for n in (1, 0))
        return (piece for piece in ["a", "", b"b", {"c": 1}])
    """

    def pieces(self, host, call):
        found = []
        while True:
            piece = host.read()
            self.assertIsNotNone(piece, CLOSED)
            self.assertEqual((piece.kind, piece.call), (PIECE, call))
            if not piece.flags & MORE:
                return found, piece.flags
            found.append(piece.body)

    def test_pieces(self):
        host = self.serve(self.CODE)
        for call in (1, 2):
            self.assertEqual(self.ask(host, call=call).flags, MORE)
            self.assertEqual(self.pieces(host, call), ([b"a", b"b", b'{"c": 1}'], 0))
        self.ask(host, {}, b"broken")
        self.assertEqual(self.pieces(host, 1), ([b"1.0"], FAILED))

    def test_a_stream_that_nobody_wants_ends(self):
        host = self.serve(self.CODE)
        for call in (1, 2):
            self.ask(host, {}, b"forever", call=call)
            host.send(frame(CANCEL, call) + frame(EVENT, 9, {}, b"next"))
            self.assertEqual(self.pieces(host, call)[1], 0)
            self.response(host)
            self.pieces(host, 9)
        self.assertEqual(host.log().count("closed"), 2)

    def test_asynchronous_generators(self):
        for code in (
            "def handler(context, event):\n    return pieces()",
            "async def handler(context, event):\n    return pieces()",
        ):
            host = self.serve("async def pieces():\n    yield 'a'\n    yield 'b'\n" + code)
            for call in (1, 2):
                self.ask(host, call=call)
                self.assertEqual(self.pieces(host, call), ([b"a", b"b"], 0))


class CoroutineTest(EventCase):
    CODE = """
    import asyncio
    async def init_context(context):
        context.user_data.gate = asyncio.Event()
    async def handler(context, event):
        if event.body == b"open":
            context.user_data.gate.set()
        elif event.body == b"wait":
            await context.user_data.gate.wait()
        elif event.body == b"never":
            await asyncio.sleep(60)
        return event.body
    """

    def test_events_overlap(self):
        host = self.serve(self.CODE)
        host.send(frame(EVENT, 1, {}, b"wait") + frame(EVENT, 2, {}, b"quick"))
        self.assertEqual(self.response(host).call, 2)
        host.send(frame(EVENT, 3, {}, b"open"))
        self.assertEqual({self.response(host).call, self.response(host).call}, {1, 3})

    def test_each_has_its_own_records(self):
        host = self.serve(
            """
            import asyncio
            async def init_context(context):
                context.user_data.gate = asyncio.Event()
            async def handler(context, event):
                context.logger.info(event.path)
                if event.path == "/2":
                    context.user_data.gate.set()
                await context.user_data.gate.wait()
                context.logger.info("end of " + event.path)
            """
        )
        for call in (1, 2):
            host.send(frame(EVENT, call, {"path": "/%d" % call, "log_level": "info"}, b"", flags=0x08))
        for _ in range(2):
            answer = self.response(host)
            path = "/%d" % answer.call
            self.assertEqual([record["message"] for record in answer.head["logs"]], [path, "end of " + path])

    def test_one_is_given_up(self):
        host = self.serve(self.CODE)
        host.send(frame(EVENT, 1, {}, b"never") + frame(EVENT, 2, {}, b"wait"))
        host.send(frame(CANCEL, 1))
        answer = self.response(host)
        self.assertEqual((answer.call, answer.flags), (1, FAILED))
        host.send(frame(EVENT, 3, {}, b"open"))
        self.assertEqual({self.response(host).call, self.response(host).call}, {2, 3})

    def test_drain_waits_for_what_runs(self):
        host = self.serve(
            "import asyncio\nasync def handler(context, event):\n    await asyncio.sleep(0.2)\n    return 'done'"
        )
        host.send(frame(EVENT, 1, {}))
        time.sleep(0.05)
        host.send(frame(8))  # drain
        self.assertEqual(self.response(host).body, b"done")
        self.assertIsNone(host.read())


class BatchTest(EventCase):
    CODE = """
    def handler(context, events):
        R = context.Response
        if events[0].body == b"raise":
            raise ValueError("all of it")
        if events[0].body == b"few":
            return [R(body="second", event_id=events[1].id), R(body="?", event_id="unknown")]
        if events[0].body == b"text":
            return "one"
        return ["%d" % len(events) for _ in events]
    """

    def test_batches(self):
        host = self.serve(self.CODE, batch=True)

        def ask(first):
            bodies = [first, b"b", b"c"]
            host.send(
                b"".join(
                    frame(EVENT, at + 1, {"id": "e%d" % at}, body, BATCH if at < 2 else 0)
                    for at, body in enumerate(bodies)
                )
            )
            answers = [self.response(host) for _ in bodies]
            self.assertEqual([answer.call for answer in answers], [1, 2, 3])
            return answers

        self.assertEqual([answer.body for answer in ask(b"a")], [b"3"] * 3)
        few = ask(b"few")
        self.assertEqual([answer.flags for answer in few], [FAILED, 0, FAILED])
        self.assertEqual(few[1].body, b"second")
        self.assertIn(b"no response for this event", few[0].body)
        for text, part in ((b"raise", b"all of it"), (b"text", b"a list of responses")):
            for answer in ask(text):
                self.assertEqual(answer.flags, FAILED)
                self.assertIn(part, answer.body)
        self.assertEqual([answer.body for answer in ask(b"a")], [b"3"] * 3)


class LoadTest(EventCase):
    def test_handlers_are_found(self):
        code = "def handler(context, event):\n    return 'handler'\ndef other(context, event):\n    return 'other'"
        path = self.write("found.py", code)
        for name, expected in (("handler", "handler"), ("other", "other"), ("found:other", "other"), ("", "handler")):
            with self.subTest(name):
                host = self.serve("", name, file=path)
                self.assertEqual(self.ask(host).body.decode(), expected)

    def test_what_cannot_be_loaded(self):
        event = {"trigger": {"kind": "http", "name": "web"}, "worker": "0"}
        cases = [
            ("def handler(context, event): pass\ndef init_context(context): raise ValueError('no model')", "no model"),
            ("import nothing_of_that_name", "nothing_of_that_name"),
            ("def other(): pass", "handler"),
        ]
        for code, part in cases:
            self.assertIn(part, self.refused(code, mode="event", event=event)["message"])

    def test_termination(self):
        host = self.serve(
            "def init_context(context):\n    context.platform.set_termination_callback(lambda: print('bye', flush=True))\n"
            "def handler(context, event):\n    pass"
        )
        self.ask(host)
        self.assertEqual(self.drain(host), 0)
        self.assertIn("bye", host.log())

    def test_a_fork_does_not_answer(self):
        host = self.serve(
            "import os\ndef handler(context, event):\n    pid = os.fork()\n    if pid:\n        os.waitpid(pid, 0)\n    return str(bool(pid))"
        )
        for call in (1, 2):
            self.assertEqual(self.ask(host, call=call).body, b"True")
        os.kill(host.process.pid, 0)
