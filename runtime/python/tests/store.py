"""A runner's end of the data channel for the tests: the routes of docs/protocol.md over a real unix socket."""

from __future__ import annotations

import hashlib
import http.server
import json
import os
import socketserver
import tempfile
import threading
import urllib.parse


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def address_string(self):
        return "worker"

    def log_message(self, *args):
        pass

    def query(self):
        path, _, query = self.path.partition("?")
        return path, {key: values[0] for key, values in urllib.parse.parse_qs(query).items()}

    def say(self, status, body=b"", **headers):
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        headers.setdefault("Content-Length", str(len(data)))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def do_GET(self):
        path, query = self.query()
        store = self.server.store
        store.requests.append((self.command, path, query))
        url = query.get("url", "")
        if path == "/v1/object":
            if "broken" in url:
                self.say(200, b"half", Content_Length="10")
                self.close_connection = True
                return
            if url not in store.objects:
                self.say(404, {"error": "%s does not exist in the store" % url})
                return
            data = store.objects[url]
            digest = "sha256:" + hashlib.sha256(data).hexdigest()
            if self.headers.get("Range"):
                first, _, last = self.headers["Range"][len("bytes=") :].partition("-")
                if int(first) >= len(data):
                    self.say(416, {"error": "no such range"})
                    return
                self.say(206, data[int(first) : int(last) + 1 if last else None])
                return
            self.say(200, data, X_Millrace_Digest=digest, Last_Modified="Thu, 01 Jan 1970 00:01:00 GMT")
        elif path == "/v1/list":
            base = url.rstrip("/") + "/"
            names = [name[len(base) :] for name in store.objects if name.startswith(base)]
            self.say(200, {"entries": [{"name": name, "size": 1, "modified": None, "dir": False} for name in names]})
        elif path == "/v1/artifact":
            found = store.artifacts.get(query["uri"])
            self.say(200, found) if found else self.say(404, {"error": "there is no artifact %s" % query["uri"]})
        elif path == "/v1/secret":
            value = store.secrets.get(query["key"])
            self.say(200, {"value": value}) if value else self.say(404, {"error": "no"})

    do_HEAD = do_GET

    def do_PUT(self):
        _, query = self.query()
        if "forbidden" in query["url"]:
            self.say(403, {"error": "the store refuses %s: wrong credentials" % query["url"]})
            self.close_connection = True
            return
        data = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.store.objects[query["url"]] = data
        self.say(200, {"url": query["url"], "size": len(data)})

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        source, files = body["from"][len("file://") :], 0
        if "forbidden" in body["to"]:
            self.say(403, {"error": "the store refuses %s: wrong credentials" % body["to"]})
            return
        names = [""]
        if body["recursive"]:
            names = [
                os.path.relpath(os.path.join(at, name), source) for at, _, found in os.walk(source) for name in found
            ]
        for name in names:
            with open(os.path.join(source, name) if name else source, "rb") as file:
                self.server.store.objects[body["to"] + name] = file.read()
            files += 1
        self.say(200, {"files": files, "size": 0, "digest": "", "sha1": ""})

    def do_DELETE(self):
        _, query = self.query()
        if self.server.store.objects.pop(query["url"], None) is None:
            self.say(404, {"error": "%s does not exist" % query["url"]})
            return
        self.say(200, {})


class Store(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    """Objects by URL, artifacts by URI and secrets by key; env tells a worker where it is."""

    daemon_threads = True

    def __init__(self, case):
        folder = tempfile.mkdtemp(prefix="ch-")
        self.path = folder + "/s"
        super().__init__(self.path, _Handler)
        self.store = self
        self.objects, self.artifacts, self.secrets, self.requests = {}, {}, {}, []
        self.env = {"MILLRACE_DATA_SOCKET": self.path}
        case.addCleanup(os.rmdir, folder)
        case.addCleanup(os.unlink, self.path)
        thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        case.addCleanup(thread.join)
        case.addCleanup(self.server_close)
        case.addCleanup(self.shutdown)
        thread.start()

    def get_request(self):
        request, _ = super().get_request()
        return request, ("worker", 0)
