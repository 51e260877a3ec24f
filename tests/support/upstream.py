"""A remote embedding API on a free port of 127.0.0.1 for tests: every wire format that embedd's providers speak, with
vectors that tell whose they are, a record of every request, and scripted faults.

    with Upstream(dimension=8, key="sk-test") as up:
        up.url                                  # http://127.0.0.1:PORT; each kind has its own paths below it:
        up.base_url("openai")                   # ".../v1", what a provider of that kind is configured with
        up.script([faults.reset, faults.rate_limited({"retry-after": "1"})])   # one per request, then all is well
        up.script(lambda r: faults.reset if "bad" in r.texts else None)        # or a function of the request
        ...
        up.requests[0].texts, .headers, .json, .connection, .started, .status, .tokens
        up.calls, up.billed_tokens, up.cost_nusd, up.peak, up.connections
        vector("text-embedding-3-small", "hello", 8)                           # what the answer must hold

With tls=certificates.server() it speaks TLS, and HTTP/2 (upstream_h2.py) if its ALPN agrees on that:
up.handshakes lists (version, resumed, protocol) of each, up.refused_handshakes counts those that failed.

A vector is a function of model, text and dimension: the leading numbers of SHAKE-256 over model and text, normalised,
in float32. So shortening as OpenAI does it (cut, then normalise) gives the vector of the smaller dimension, and any
position of any answer can be checked without a copy of the traffic.

What is billed is what was computed: a request whose answer was then cut, delayed or lost on its way is billed, as the
vendors do it; one that was refused is not. Faults are in upstream_faults.py, formats in upstream_formats.py.
Standard library only. Run as a program it serves until it is terminated: upstream.py [--port N] [--dimension N] ...
"""
import argparse
import array
import collections
import functools
import gzip
import hashlib
import json
import math
import os
import select
import signal
import socket
import ssl
import struct
import sys
import threading
import time
import urllib.parse
import zlib

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

HEAD_LIMIT = 65536
# Dimensions of models that are asked for by their real names; others have the server's.
DIMENSIONS = {"text-embedding-3-small": 1536, "text-embedding-3-large": 3072, "text-embedding-ada-002": 1536}


@functools.lru_cache(maxsize=65536)
def vector(model, text, dimension):
    """The unit vector of a text, as a tuple of float32 values. A list of token ids is a text too."""
    seed = ("%s\0%s" % (model, text)).encode("utf-8", "surrogatepass")
    raw = struct.unpack("<%di" % dimension, hashlib.shake_256(seed).digest(4 * dimension))
    length = math.sqrt(math.fsum(float(x) * x for x in raw))
    return tuple(array.array("f", [x / length for x in raw]))


def tokens(text):
    """What a text is billed as: its words, at least one; token ids are counted."""
    return max(1, len(text) if isinstance(text, (list, tuple)) else len(text.split()))


class Request:
    """What was asked, and how it ended."""

    def __init__(self, number, connection, method, target, headers, body, raw_size):
        parts = urllib.parse.urlsplit(target)
        self.number, self.connection = number, connection
        self.method, self.target, self.path = method, target, urllib.parse.unquote(parts.path)
        self.query = dict(urllib.parse.parse_qsl(parts.query, keep_blank_values=True))
        self.headers, self.body, self.size = headers, body, raw_size
        self.started = time.monotonic()
        self.ended = None          # when the answer was out, or given up
        self.status = None         # of the answer; None: none was sent
        self.fault = None          # the name of what was done to it
        self.abandoned = False     # the client left before the answer was out
        self.tokens = 0            # billed
        self.kind = self.model = self.dimension = None
        self.texts = []
        self.ids = None            # lists of token ids, where those came; texts are then what they spell
        try:
            self.json = json.loads(body) if body else None
        except ValueError:
            self.json = None

    def __repr__(self):
        return "<%s %s #%d on connection %d: %d texts, status %s%s>" % (
            self.method, self.target, self.number, self.connection, len(self.texts), self.status,
            ", " + self.fault if self.fault else "")


class Gone(Exception):
    """The client closed its connection, or the server stops."""


class Connection:
    """One client: reads requests, has them answered, one after another."""

    def __init__(self, upstream, link, number):
        self.upstream, self.link, self.number = upstream, link, number
        self.buffer = b""
        link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def serve(self):
        try:
            while not self.upstream.stopping.is_set():
                self.upstream.rests(self.number, True)
                request = self.read_request()
                self.upstream.rests(self.number, False)
                if not request or not self.upstream.answer(self, request):
                    break
        except (OSError, Gone):
            pass
        finally:
            self.close()

    def close(self):
        if self.upstream.tls:
            try:
                self.link.setblocking(False)
                self.link.unwrap()  # says goodbye, and waits for no answer
            except (OSError, ValueError):
                pass
        try:
            socket.socket.shutdown(self.link, socket.SHUT_RDWR)
        except OSError:
            pass
        self.link.close()

    def reset(self):
        """Closes with RST instead of FIN."""
        self.link.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.link.close()
        raise Gone

    def more(self):
        data = self.link.recv(262144)
        if not data:
            raise Gone
        self.buffer += data

    def read_until(self, mark, limit):
        while mark not in self.buffer:
            if len(self.buffer) > limit:
                raise ValueError("a head over %d bytes" % limit)
            self.more()
        found, self.buffer = self.buffer.split(mark, 1)
        return found

    def read_exactly(self, count):
        if len(self.buffer) < count:
            parts, have = [self.buffer], len(self.buffer)
            self.buffer = b""
            while have < count:
                data = self.link.recv(min(1 << 20, max(4096, count - have)))
                if not data:
                    raise Gone
                parts.append(data)
                have += len(data)
            self.buffer = b"".join(parts)
        found, self.buffer = self.buffer[:count], self.buffer[count:]
        return found

    def read_chunks(self):
        body = b""
        while True:
            size = int(self.read_until(b"\r\n", 1024).split(b";")[0], 16)
            if size == 0:
                while self.read_until(b"\r\n", HEAD_LIMIT):
                    pass
                return body
            body += self.read_exactly(size)
            self.read_exactly(2)

    def read_request(self):
        try:
            head = self.read_until(b"\r\n\r\n", HEAD_LIMIT).decode("latin-1")
        except (Gone, OSError, ValueError):
            return None
        first, *lines = head.split("\r\n")
        method, target, _ = first.split(" ", 2)
        headers = {}
        for line in lines:
            name, value = line.split(":", 1)
            headers[name.strip().lower()] = value.strip()
        if headers.get("expect", "").lower() == "100-continue":
            self.link.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        if headers.get("transfer-encoding", "").lower() == "chunked":
            body = self.read_chunks()
        else:
            body = self.read_exactly(int(headers.get("content-length", 0)))
        size = len(body)
        if headers.get("content-encoding") == "gzip":
            body = zlib.decompress(body, 31)
        return self.upstream.record(self.number, method, target, headers, body, size)

    def send(self, data):
        self.link.sendall(data)

    def wait(self, seconds):
        """Waits, unless the client goes away or the server stops: then Gone."""
        deadline = time.monotonic() + seconds
        while True:
            left = deadline - time.monotonic()
            if left <= 0:
                return
            if self.upstream.stopping.is_set():
                raise Gone
            if select.select([self.link], [], [], min(left, 0.05))[0]:
                self.more()  # raises Gone at the end of the stream; pipelined bytes are kept
                if len(self.buffer) > HEAD_LIMIT:
                    raise Gone


class Exchange:
    """What a fault acts on: a request, the good answer to it, and the wire."""

    def __init__(self, upstream, connection, request, form):
        self.upstream, self.connection, self.request, self.form = upstream, connection, request, form
        self._reply = None

    def reply(self):
        """The good answer (formats.Reply), computed and so billed."""
        if not self._reply:
            self._reply = self.form.reply(self.upstream, self.request)
            self.upstream.bill(self.request, self._reply)
        return self._reply

    def error(self, status, code=None, message="The mock was told to say so.", headers=None, **more):
        """An error in the words of this kind of API."""
        return self.form.error(status, code, message, headers or {}, **more)

    def head(self, status, headers):
        from http import HTTPStatus
        try:
            phrase = HTTPStatus(status).phrase
        except ValueError:
            phrase = "Unknown"
        self.request.status = status
        return ("HTTP/1.1 %d %s\r\n" % (status, phrase) +
                "".join("%s: %s\r\n" % (n, v) for n, v in headers.items()) + "\r\n").encode("latin-1")

    def render(self, reply):
        """(head, body) as they go over the wire."""
        body = reply.body()
        headers = {"Content-Type": "application/json", **reply.headers}
        if self.upstream.compress and "gzip" in self.request.headers.get("accept-encoding", ""):
            body = gzip.compress(body, 1, mtime=0)
            headers["Content-Encoding"] = "gzip"
        headers["Content-Length"] = len(body)
        return self.head(reply.status, headers), body

    def send(self, reply):
        head, body = self.render(reply)
        self.upstream.ends(self.request)  # before: the client may have its next request out before this thread runs again
        self.connection.send(head + body)


class Upstream:
    """See above. dimension: of models that DIMENSIONS does not name. models: {name: dimension}, others are 404; None:
    any name is served. served: the model of servers that have one (tei, remote). key: what must be presented; None:
    anything goes. require_key: also by kinds that need none (ollama, tei, remote). price_nusd_per_1k: of tokens.
    max_text_tokens: longer texts are refused as too long. latency_s: before every answer. allow_empty: whether "" is a
    text; OpenAI refuses it. tls: an ssl.SSLContext. pings: a fault for requests that are none for embeddings."""

    def __init__(self, dimension=8, models=None, served="served-model", key="sk-upstream-secret", require_key=False,
                 price_nusd_per_1k=20000, max_text_tokens=8192, latency_s=0, compress=False, allow_empty=True,
                 limits=None, prompts=None, hf_shape="rows", port=0, tls=None, pings=None):
        import upstream_formats
        self.formats = upstream_formats
        self.dimension, self.models, self.served, self.key = dimension, models, served, key
        self.require_key, self.price_nusd_per_1k, self.max_text_tokens = require_key, price_nusd_per_1k, max_text_tokens
        self.latency_s, self.compress, self.allow_empty = latency_s, compress, allow_empty
        self.limits = dict(upstream_formats.LIMITS, **(limits or {}))  # texts of one call, by kind
        self.prompts = prompts or {}   # of tei and huggingface, by prompt_name
        self.revision = "0123456789ab" # in the spaces that an embedd names; None: it names none
        self.keeps_pins = True         # it refuses a pinned space that it does not make
        self.spell = None              # what a tuple of token ids spells, or None: the ids are then the text
        self.hf_shape = hf_shape       # "rows", "bare" (of one string), "tokens" (to be pooled)
        self.pings = pings
        self.tls, self.handshakes, self.refused_handshakes = tls, [], 0
        self.lock = threading.Lock()
        self.stopping = threading.Event()
        self.requests = []
        self.failures = []             # of the mock itself: a test that made one fails when it leaves the mock
        self.connections = self.active = self.peak = self.billed_tokens = self.cost_nusd = 0
        self.queue, self.decide = collections.deque(), None
        self.links, self.resting, self.threads = {}, set(), []
        self.listener = self.holder = None
        self.port = port
        self.start_listening()

    # ---- life ----

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        self.close()
        if kind is None and self.failures:
            raise AssertionError("the mock failed: %r" % self.failures)

    def start_listening(self):
        """Opens the listener (again, on the same port, which nobody else gets meanwhile: the holder is bound to it)."""
        if self.holder is None:
            self.holder = socket.socket()
            self.holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self.holder.bind(("127.0.0.1", self.port))
            self.port = self.holder.getsockname()[1]
        self.listener = socket.create_server(("127.0.0.1", self.port), backlog=256)
        thread = threading.Thread(target=self._accept, args=(self.listener,), daemon=True)
        thread.start()
        self.threads.append(thread)

    def stop_listening(self, drop=True):
        """From here on connections are refused; drop: those that are open are reset too."""
        listener, self.listener = self.listener, None
        if listener:
            try:
                listener.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            listener.close()
        if drop:
            self.drop_connections()

    def drop_connections(self):
        """Resets every open connection, as a peer does that restarts."""
        with self.lock:
            links = list(self.links.values())
        for link in links:
            try:
                link.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                socket.socket.shutdown(link, socket.SHUT_RDWR)  # of the socket itself, below TLS
            except OSError:
                pass

    def close(self):
        self.stopping.set()
        self.stop_listening()
        self.holder.close()
        for thread in self.threads:
            thread.join(10)

    def _accept(self, listener):
        while not self.stopping.is_set():
            try:
                link = listener.accept()[0]
            except OSError:
                return
            with self.lock:
                self.connections += 1
                number = self.connections
                self.links[number] = link
            thread = threading.Thread(target=self._serve, args=(link, number), daemon=True)
            thread.start()
            self.threads.append(thread)

    def _secure(self, link):
        """The link behind TLS; None: the client did not like it."""
        try:
            link.settimeout(30)
            secure = self.tls.wrap_socket(link, server_side=True, suppress_ragged_eofs=True)
            secure.settimeout(None)
        except OSError:
            with self.lock:
                self.refused_handshakes += 1
            link.close()
            return None
        with self.lock:
            self.handshakes.append((secure.version(), secure.session_reused, secure.selected_alpn_protocol()))
        return secure

    def _kind_of_connection(self, link):
        if self.tls and link.selected_alpn_protocol() == "h2":
            from upstream_h2 import H2Connection
            return H2Connection
        return Connection

    def _serve(self, link, number):
        try:
            if self.tls:
                link = self._secure(link)
                if not link:
                    return
                with self.lock:
                    self.links[number] = link
            self._kind_of_connection(link)(self, link, number).serve()
        except Exception as e:
            self.failures.append(e)
        finally:
            with self.lock:
                self.links.pop(number, None)
                self.resting.discard(number)

    # ---- what tests ask ----

    def rests(self, number, waits):
        with self.lock:
            self.resting.add(number) if waits else self.resting.discard(number)

    def is_quiet(self):
        """Every connection that there is waits for its next request: none is about to be closed from here."""
        with self.lock:
            return self.resting == set(self.links)

    @property
    def url(self):
        return "%s://127.0.0.1:%d" % ("https" if self.tls else "http", self.port)

    def base_url(self, kind):
        """What a provider of this kind is configured with."""
        return self.url + {"openai": "/v1", "huggingface": "/hf-inference"}.get(kind, "")

    @property
    def calls(self):
        return len(self.embeddings())

    def embeddings(self):
        """The requests for embeddings, without probes such as GET /v1/models."""
        with self.lock:
            return [r for r in self.requests if r.kind]

    def texts(self):
        """All texts that came, in the order of arrival."""
        return [t for r in self.embeddings() for t in r.texts]

    def reset_record(self):
        """Forgets what happened so far; connections stay."""
        with self.lock:
            self.requests.clear()
            self.peak = self.active
            self.billed_tokens = self.cost_nusd = 0

    def dimension_of(self, model):
        if self.models is not None:
            return self.models.get(model)
        return DIMENSIONS.get(model, self.dimension)

    def vector(self, model, text, dimension=None):
        return vector(model, text, dimension or self.dimension_of(model) or self.dimension)

    tokens = staticmethod(tokens)

    # ---- faults ----

    def script(self, plan):
        """A list: one fault (or None) per request for embeddings, then all is well; or a function of the request."""
        with self.lock:
            self.queue.clear()
            self.decide = None
            if callable(plan):
                self.decide = plan
            else:
                self.queue.extend(plan)

    def always(self, fault):
        self.script(lambda _: fault)

    def next_fault(self, request):
        with self.lock:
            decide = self.decide
            if not decide:
                return self.queue.popleft() if self.queue else None
        return decide(request)

    # ---- requests ----

    def record(self, connection, method, target, headers, body, size):
        with self.lock:
            request = Request(len(self.requests), connection, method, target, headers, body, size)
            self.requests.append(request)
            self.active += 1
            self.peak = max(self.peak, self.active)
        return request

    def bill(self, request, reply):
        with self.lock:
            request.tokens = reply.tokens
            self.billed_tokens += reply.tokens
            self.cost_nusd += -(-reply.tokens * self.price_nusd_per_1k // 1000)

    def answer(self, connection, request):
        """Answers one request; False ends the connection."""
        try:
            form = self.formats.find(request)
            exchange = Exchange(self, connection, request, form)
            if not form and self.pings:
                exchange.form = self.formats.FORMS["openai"]
                return self.pings(exchange) is not False
            if not form:
                exchange.send(self.formats.other(self, request))
                return True
            refusal = form.read(self, request)
            fault = self.next_fault(request)
            if self.latency_s:
                connection.wait(self.latency_s)
            if fault:
                request.fault = getattr(fault, "__name__", str(fault))
                return fault(exchange) is not False
            exchange.send(refusal or exchange.reply())
            return request.headers.get("connection", "").lower() != "close"
        except (Gone, OSError):
            request.abandoned = True
            raise
        finally:
            self.ends(request)

    def ends(self, request):
        """Once: from here on it does not count as active."""
        with self.lock:
            if request.ended is None:
                request.ended = time.monotonic()
                self.active -= 1


def main():
    parser = argparse.ArgumentParser(description="A mock of every embedding API.")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--dimension", type=int, default=1536)
    parser.add_argument("--key")
    parser.add_argument("--latency-ms", type=float, default=0)
    options = parser.parse_args()
    with Upstream(dimension=options.dimension, key=options.key, latency_s=options.latency_ms / 1e3,
                  port=options.port) as up:
        print(up.port, flush=True)
        signal.sigwait({signal.SIGINT, signal.SIGTERM})


if __name__ == "__main__":
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    main()
