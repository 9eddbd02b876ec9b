"""The frames: order, pipelining, cancelling, and what breaks the protocol."""

from __future__ import annotations

import os
import signal
import struct

from tests.host import ANSWER, CALL, CANCEL, DRAIN, EMIT, FAILURE, LOAD, LOADED, WorkerCase, frame

ECHO = "def handler(context, x=0):\n    return x\n"


class ProtocolTest(WorkerCase):
    def test_everything_may_be_sent_before_the_worker_is_up(self):
        host = self.start()
        path = self.write("code.py", ECHO)
        data = frame(LOAD, head={"file": path, "handler": "handler"})
        data += b"".join(frame(CALL, n, {"parameters": {"x": n}}) for n in range(1, 1001)) + frame(DRAIN)
        host.send(data)
        self.assertEqual(host.read().kind, LOADED)
        for n in range(1, 1001):
            answer = host.read()
            self.assertEqual((answer.kind, answer.call), (ANSWER, n))
            self.assertEqual(answer.head, {"state": "completed", "update": {"results": {"return": n}}})
        self.assertIsNone(host.read())
        self.assertEqual(host.process.wait(), 0)

    def test_large_frames_in_both_directions(self):
        host = self.loaded(ECHO)
        text = "ü" * 3_000_000
        answer, emitted = self.call(host, {"parameters": {"x": text}})
        self.assertEqual(answer["state"], "completed")
        self.assertEqual(emitted[-1]["results"]["return"], text)

    def test_an_answer_over_the_limit_fails_the_call_and_not_the_worker(self):
        host = self.loaded("def handler(context, n):\n    context.log_result('x', 1)\n    return 'x' * n\n")
        answer, _ = self.call(host, {"parameters": {"n": 65 << 20}})
        self.assertEqual(answer["state"], "error")
        self.assertIn("more than the", answer["failure"]["message"])
        answer, _ = self.call(host, {"parameters": {"n": 3}}, call=2)
        self.assertEqual(answer["state"], "completed")

    def test_unknown_optional_frame_is_ignored(self):
        host = self.loaded(ECHO)
        host.send(frame(99, head={"new": True}, body=b"xyz", flags=0x80))
        self.assertEqual(self.call(host)[0]["state"], "completed")

    def test_violations_end_the_worker(self):
        cases = {
            "unknown type": frame(99),
            "over-long frame": struct.pack("<IBBHII", 65 << 20, CALL, 0, 0, 1, 0),
            "head longer than frame": struct.pack("<IBBHII", 4, CALL, 0, 0, 1, 5) + b"{}{}",
            "reserved bytes": struct.pack("<IBBHII", 0, CALL, 0, 7, 1, 0),
        }
        for name, data in cases.items():
            with self.subTest(name):
                host = self.start()
                host.send(data)
                failure = host.read()
                self.assertEqual((failure.kind, failure.head["type"]), (FAILURE, "ProtocolError"))
                self.assertIsNone(host.read())
                self.assertEqual(host.process.wait(), 70)

    def test_end_of_input(self):
        for name, data, status in (("between frames", b"", 0), ("within a frame", frame(DRAIN)[:9], 70)):
            with self.subTest(name):
                host = self.start()
                host.send(data)
                os.close(host.out)
                host.out = -1
                host.process.wait(60)
                self.assertEqual(host.process.returncode, status)

    def test_malformed_call_fails_that_call(self):
        host = self.loaded(ECHO)
        host.send(struct.pack("<IBBHII", 3, CALL, 0, 0, 1, 3) + b"{x}")
        answer = host.read()
        self.assertEqual((answer.kind, answer.head["state"]), (ANSWER, "error"))
        self.assertEqual(self.call(host, call=2)[0]["state"], "completed")

    def test_cancel_of_a_running_call(self):
        host = self.loaded(
            """
            import time
            def handler(context):
                context.log_result('begun', 1)
                time.sleep(60)
            """
        )
        host.send(frame(CALL, 1))
        self.assertEqual(host.read().kind, EMIT)
        host.send(frame(CALL, 2) + frame(CANCEL, 1) + frame(CANCEL, 2))
        host.process.send_signal(signal.SIGINT)
        answers = [host.read(), host.read()]
        self.assertEqual([(a.call, a.head["state"]) for a in answers], [(1, "aborted"), (2, "aborted")])
        self.assertEqual(self.drain(host), 0)

    def test_interrupt_without_cancel_is_an_error_of_the_code(self):
        host = self.loaded(
            "import os, signal\ndef handler(context):\n    os.kill(os.getpid(), signal.SIGINT)\n    while True: pass\n"
        )
        answer, _ = self.call(host)
        self.assertEqual((answer["state"], answer["failure"]["type"]), ("error", "KeyboardInterrupt"))

    def test_interrupt_between_calls_does_nothing(self):
        host = self.loaded(ECHO)
        for n in range(1, 20):
            host.process.send_signal(signal.SIGINT)
            self.assertEqual(self.call(host, call=n)[0]["state"], "completed")

    def test_call_without_load(self):
        host = self.start()
        answer, _ = self.call(host)
        self.assertEqual(answer["failure"]["message"], "no code is loaded")

    def test_marks_say_where_the_output_is(self):
        host = self.loaded("def handler(context, x):\n    print('line', x)\n")
        self.call(host, {"parameters": {"x": 1}, "marks": True}, 1)
        answer, _ = self.call(host, {"parameters": {"x": 2}, "marks": True}, 2)
        start, end = answer["log"]
        self.assertEqual(host.log().encode()[start:end], b"line 2\n")
