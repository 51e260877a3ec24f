"""A Hugging Face hub on 127.0.0.1 for tests: the model API, /resolve with its headers, files of LFS behind a redirect
to a second port that plays the store, tokens, gated and private repositories; and faults.

    with Hub() as hub:
        hub.add("org/name", {"config.json": b"{}", "model.safetensors": weights})
        hub.fault("model.safetensors", reset_after(1000), times=2)
        ... HF_ENDPOINT=hub.url ...
        hub.requests      # what was asked: Request(port, method, path, headers)
"""
import collections
import hashlib
import http.client
import http.server
import json
import re
import socket
import struct
import threading
import time
import urllib.parse

Request = collections.namedtuple("Request", "place method path headers")
Fault = collections.namedtuple("Fault", "pattern place method act")


def git_hash(data):
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


class Repository:
    def __init__(self, lfs):
        self.commits = {}      # commit: {path: bytes}
        self.references = {}   # branch or tag: commit
        self.lfs = lfs         # path: whether it is kept in LFS
        self.private = self.gated = False


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def handle_error(self, request, address):
        pass


def tail_of(h, data):
    """What "Range" asks for: (start, end), or None for everything, or "bad"."""
    wanted = h.headers.get("Range")
    if not wanted:
        return None
    m = re.fullmatch(r"bytes=(\d+)-(\d*)", wanted)
    start = int(m.group(1))
    end = int(m.group(2)) if m.group(2) else len(data) - 1
    return (start, min(end, len(data) - 1)) if start < len(data) else "bad"


def send_file(h, data, etag, headers=(), body=None, ignore_range=False):
    """data decides length and ranges; body, if given, is called with (handler, bytes) to write them."""
    part = None if ignore_range else tail_of(h, data)
    if part and h.headers.get("If-Range", '"%s"' % etag) != '"%s"' % etag:
        part = None
    if part == "bad":
        h.send_response(416)
        h.send_header("Content-Range", "bytes */%d" % len(data))
        h.send_header("Content-Length", "0")
        h.end_headers()
        return
    sent = data[part[0]:part[1] + 1] if part else data
    h.send_response(206 if part else 200)
    if part:
        h.send_header("Content-Range", "bytes %d-%d/%d" % (part[0], part[1], len(data)))
    h.send_header("Content-Length", str(len(sent)))
    h.send_header("ETag", '"%s"' % etag)
    h.send_header("Accept-Ranges", "bytes")
    for name, value in headers:
        h.send_header(name, value)
    h.end_headers()
    if h.command == "HEAD":
        return
    if body:
        body(h, sent)
    else:
        h.wfile.write(sent)


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    place = "hub"

    def log_message(self, *_):
        pass

    def refuse(self, status, code=None, message=None, headers=(), body=None):
        data = json.dumps(body if body is not None else {"error": message or "no"}).encode()
        self.send_response(status)
        if code:
            self.send_header("X-Error-Code", code)
        if message:
            self.send_header("X-Error-Message", message)
        for name, value in headers:
            self.send_header(name, value)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def cut(self):
        """Resets the connection, as a router does that lost it."""
        self.wfile.flush()
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()
        self.close_connection = True

    def note(self):
        with self.hub.lock:
            self.hub.requests.append(Request(self.place, self.command, self.path, dict(self.headers.items())))
            for i, fault in enumerate(self.hub.faults):
                if (fault[0].place in (None, self.place) and fault[0].method in (None, self.command) and
                        re.search(fault[0].pattern, urllib.parse.unquote(self.path))):
                    if fault[1] is not None:
                        fault[1] -= 1
                        if fault[1] == 0:
                            del self.hub.faults[i]
                    return fault[0].act
        return None

    def do_GET(self):
        act = self.note()
        if act and act(self):
            return
        self.answer()

    do_HEAD = do_GET

    def repository(self, name):
        """The repository, if the caller may see it."""
        repo = self.hub.repositories.get(name)
        token = self.headers.get("Authorization")
        if token is not None and token != "Bearer " + self.hub.token:
            self.refuse(401, None, "Invalid credentials in Authorization header")
            return None
        if repo is None or (repo.private and token is None):
            self.refuse(401 if token is None else 404, "RepoNotFound", "Repository not found")
            return None
        return repo

    def commit(self, repo, revision):
        commit = repo.references.get(revision, revision)
        if commit not in repo.commits:
            self.refuse(404, "RevisionNotFound", "Invalid rev id: %s" % revision)
            return None
        return commit

    def answer(self):
        path = urllib.parse.urlsplit(self.path).path
        m = re.fullmatch(r"/api/models/(.+?)/(revision|tree)/([^/]+)", path)
        if m:
            return self.answer_api(m.group(1), m.group(2), urllib.parse.unquote(m.group(3)))
        m = re.fullmatch(r"/(.+?)/resolve/([^/]+)/(.+)", path)
        if m:
            return self.answer_resolve(m.group(1), urllib.parse.unquote(m.group(2)), urllib.parse.unquote(m.group(3)))
        self.refuse(404, None, "Sorry, we can't find the page you are looking for.")

    def answer_api(self, name, kind, revision):
        repo = self.repository(name)
        commit = repo and self.commit(repo, revision)
        if not commit:
            return
        files = repo.commits[commit]
        blobs = self.hub.lists_blobs and "blobs=true" in self.path
        if kind == "revision":
            body = {"id": name, "modelId": name, "sha": commit, "private": repo.private, "gated": False, "tags": [],
                    "downloads": 0, "siblings": []}
            for path, data in sorted(files.items()):
                item = {"rfilename": path}
                if blobs:
                    item.update(size=len(data), blobId=git_hash(data))
                    if repo.lfs(path):
                        item.update(blobId="f" * 40, lfs={"sha256": hashlib.sha256(data).hexdigest(), "size": len(data),
                                                          "pointerSize": 134})
                body["siblings"].append(item)
            body["siblings"] += [{"rfilename": n, "size": 1, "blobId": "a" * 40} for n in self.hub.extra_names]
        else:
            body = []
            for path, data in sorted(files.items()):
                item = {"type": "file", "path": path, "size": len(data), "oid": git_hash(data)}
                if repo.lfs(path):
                    item.update(lfs={"oid": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 134})
                body.append(item)
        text = json.dumps(body).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(text)

    def answer_resolve(self, name, revision, path):
        repo = self.repository(name)
        if repo is None:
            return
        if repo.gated and self.headers.get("Authorization") is None:
            return self.refuse(401, "GatedRepo", "Access to model %s is restricted." % name)
        commit = self.commit(repo, revision)
        if not commit:
            return
        data = repo.commits[commit].get(path)
        if data is None:
            return self.refuse(404, "EntryNotFound", "Entry not found", [("X-Repo-Commit", commit)])
        etag = self.hub.etags.get(path) or (hashlib.sha256(data).hexdigest() if repo.lfs(path) else git_hash(data))
        if not repo.lfs(path):
            return send_file(self, data, etag, [("X-Repo-Commit", commit)])
        with self.hub.lock:
            self.hub.stored[etag] = data
        self.send_response(302)
        self.send_header("X-Repo-Commit", commit)
        self.send_header("X-Linked-Etag", '"%s"' % etag)
        self.send_header("X-Linked-Size", str(len(data)))
        self.send_header("ETag", '"pointer-of-%s"' % etag)
        self.send_header("Location", "%s/store/%s?Signature=secret-signature" % (self.hub.store_url, etag))
        self.send_header("Content-Length", "0")
        self.end_headers()


class StoreHandler(Handler):
    place = "store"

    def answer(self):
        m = re.fullmatch(r"/store/([^?]+)\?Signature=secret-signature", self.path)
        data = m and self.hub.stored.get(m.group(1))
        if data is None:
            return self.refuse(403, None, "AccessDenied")
        send_file(self, data, hashlib.md5(data).hexdigest() + "-1")  # S3's own, of no use


class Hub:
    token = "hf_right"

    def __init__(self):
        self.lock = threading.Lock()
        self.repositories, self.stored, self.etags = {}, {}, {}
        self.requests, self.faults, self.extra_names = [], [], []
        self.lists_blobs = True
        self.closing = threading.Event()
        self.servers = [self._serve(Handler), self._serve(StoreHandler)]
        self.url, self.store_url = ["http://127.0.0.1:%d" % s.server_address[1] for s in self.servers]

    def _serve(self, base):
        server = Server(("127.0.0.1", 0), type("Bound", (base,), {"hub": self}))
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return server

    def close(self):
        self.closing.set()
        for server in self.servers:
            server.shutdown()
            server.server_close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def add(self, name, files, references=("main",), lfs=lambda path: path.endswith(".safetensors")):
        """A new commit of a repository; gives its name."""
        repo = self.repositories.setdefault(name, Repository(lfs))
        commit = hashlib.sha1(repr((name, sorted(files.items()))).encode()).hexdigest()
        repo.commits[commit] = dict(files)
        for reference in references:
            repo.references[reference] = commit
        return commit

    def fault(self, pattern, act, times=1, place=None, method=None):
        """act(handler) for the next `times` requests (None: all) whose path matches; it gives whether it answered."""
        with self.lock:
            self.faults.append([Fault(pattern, place, method, act), times])

    def asked(self, pattern="", method=None, place=None):
        with self.lock:
            return [r for r in self.requests if re.search(pattern, urllib.parse.unquote(r.path)) and
                    method in (None, r.method) and place in (None, r.place)]

    def forget(self):
        with self.lock:
            self.requests.clear()


# ---- faults ----

def answers(status, code=None, message=None, headers=(), body=None):
    def act(h):
        h.refuse(status, code, message, headers, body)
        return True
    return act


def drops(h):
    """The connection ends without an answer."""
    h.cut()
    return True


def redirects(location):
    def act(h):
        h.send_response(302)
        h.send_header("Location", location(h) if callable(location) else location)
        h.send_header("Content-Length", "0")
        h.end_headers()
        return True
    return act


def _altered(write, **more):
    """Sends the file that would be sent, with `write` doing the body."""
    def act(h):
        data, etag = _content(h)
        send_file(h, data, etag, body=write, **more)
        return True
    return act


def _content(h):
    m = re.fullmatch(r"/store/([^?]+)\?.*", h.path)
    if m:
        return h.hub.stored[m.group(1)], m.group(1)
    m = re.fullmatch(r"/(.+?)/resolve/([^/]+)/(.+)", urllib.parse.unquote(h.path))
    repo = h.hub.repositories[m.group(1)]
    data = repo.commits[repo.references.get(m.group(2), m.group(2))][m.group(3)]
    return data, git_hash(data)


def reset_after(count):
    def write(h, data):
        h.wfile.write(data[:count])
        h.wfile.flush()
        time.sleep(0.05)  # a reset can overtake what was sent
        h.cut()
    return _altered(write)


def ends_after(count):
    """Fewer bytes than announced, then an orderly end."""
    def write(h, data):
        h.wfile.write(data[:count])
        h.close_connection = True
    return _altered(write)


def damages(h):
    def write(handler, data):
        handler.wfile.write(bytes([data[0] ^ 1]) + data[1:])
    return _altered(write)(h)


def ignores_range(h):
    return _altered(None, ignore_range=True)(h)


def drips(h):
    """A byte now and then, until the other side gives up."""
    def write(handler, data):
        for i in range(len(data)):
            handler.wfile.write(data[i:i + 1])
            handler.wfile.flush()
            if handler.hub.closing.wait(0.05):
                return
    return _altered(write)(h)


def wrong_range(h):
    data, etag = _content(h)
    start = tail_of(h, data)[0]
    sent = data[max(0, start - 7):]
    h.send_response(206)
    h.send_header("Content-Range", "bytes %d-%d/%d" % (max(0, start - 7), len(data) - 1, len(data)))
    h.send_header("Content-Length", str(len(sent)))
    h.end_headers()
    h.wfile.write(sent)
    return True


def too_much(h):
    """More than announced by the list of files."""
    data, etag = _content(h)
    h.send_response(200)
    h.send_header("Content-Length", str(len(data) + 1000))
    h.end_headers()
    h.wfile.write(data + b"x" * 1000)
    return True


def waits_for(event, first=0):
    """Sends `first` bytes, and the rest when the event is set."""
    def write(h, data):
        h.wfile.write(data[:first])
        h.wfile.flush()
        event.wait(60)
        h.wfile.write(data[first:])
    return _altered(write)


class Proxy:
    """A forward proxy with CONNECT, which counts what goes through it."""

    def __init__(self):
        self.seen = []
        outer = self

        class ProxyHandler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_):
                pass

            def do_GET(self):
                outer.seen.append((self.command, self.path))
                u = urllib.parse.urlsplit(self.path)
                upstream = http.client.HTTPConnection(u.hostname, u.port, timeout=30)
                headers = {k: v for k, v in self.headers.items() if not k.lower().startswith("proxy-")}
                upstream.request(self.command, u.path + ("?" + u.query if u.query else ""), headers=headers)
                r = upstream.getresponse()
                data = r.read()
                self.send_response(r.status)
                for k, v in r.getheaders():
                    if k.lower() not in ("server", "date", "connection"):
                        self.send_header(k, v)
                self.end_headers()
                self.wfile.write(data)
                upstream.close()

            do_HEAD = do_GET

            def do_CONNECT(self):
                outer.seen.append((self.command, self.path))
                host, port = self.path.rsplit(":", 1)
                upstream = socket.create_connection((host, int(port)), timeout=30)
                self.send_response(200)
                self.end_headers()
                self.wfile.flush()

                def copy(a, b):
                    try:
                        while True:
                            data = a.recv(65536)
                            if not data:
                                break
                            b.sendall(data)
                    except OSError:
                        pass
                    finally:
                        try:
                            b.shutdown(socket.SHUT_WR)
                        except OSError:
                            pass
                back = threading.Thread(target=copy, args=(upstream, self.connection), daemon=True)
                back.start()
                copy(self.connection, upstream)
                back.join(30)
                upstream.close()
                self.close_connection = True

        self.server = Server(("127.0.0.1", 0), ProxyHandler)
        self.url = "http://127.0.0.1:%d" % self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()
