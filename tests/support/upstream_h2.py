"""HTTP/2 for upstream.py: one connection, a thread for each stream, frames by hand so that tests can misbehave with them.

A stream stands where faults and answers expect a connection: what they send as HTTP/1.1 goes out as HEADERS and DATA. More
faults, for HTTP/2 alone: refused_stream, goaway, reset_stream, deaf. Compressed headers are read by libnghttp2, on which
libcurl stands, so that it is there wherever embedd is.
"""
import ctypes
import select
import socket
import ssl
import struct
import threading
import time

from upstream import Gone

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)
END_STREAM, ACK, END_HEADERS, PADDED, WITH_PRIORITY = 1, 1, 4, 8, 32
NO_ERROR, INTERNAL_ERROR, REFUSED_STREAM, CANCEL = 0, 2, 7, 8
WINDOW = 65535
PIECE = 16384


class _Nv(ctypes.Structure):
    _fields_ = [("name", ctypes.POINTER(ctypes.c_char)), ("value", ctypes.POINTER(ctypes.c_char)),
                ("namelen", ctypes.c_size_t), ("valuelen", ctypes.c_size_t), ("flags", ctypes.c_uint8)]


class Inflater:
    """HPACK, the reading side."""

    def __init__(self):
        self.lib = ctypes.CDLL("libnghttp2.so.14")
        self.lib.nghttp2_hd_inflate_hd2.restype = ctypes.c_ssize_t
        self.lib.nghttp2_hd_inflate_hd2.argtypes = [ctypes.c_void_p, ctypes.POINTER(_Nv), ctypes.POINTER(ctypes.c_int),
                                                    ctypes.c_char_p, ctypes.c_size_t, ctypes.c_int]
        self.lib.nghttp2_hd_inflate_end_headers.argtypes = self.lib.nghttp2_hd_inflate_del.argtypes = [ctypes.c_void_p]
        self.state = ctypes.c_void_p()
        if self.lib.nghttp2_hd_inflate_new(ctypes.byref(self.state)):
            raise MemoryError

    def read(self, block):
        found, nv, flags, at = [], _Nv(), ctypes.c_int(0), 0
        while True:
            n = self.lib.nghttp2_hd_inflate_hd2(self.state, ctypes.byref(nv), ctypes.byref(flags), block[at:], len(block) - at, 1)
            if n < 0:
                raise ValueError("headers that HPACK does not know: %d" % n)
            at += n
            if flags.value & 2:
                found.append((nv.name[:nv.namelen].decode("latin-1"), nv.value[:nv.valuelen].decode("latin-1")))
            if flags.value & 1:
                break
            if not flags.value and at >= len(block):
                break
        self.lib.nghttp2_hd_inflate_end_headers(self.state)
        return found

    def close(self):
        self.lib.nghttp2_hd_inflate_del(self.state)


def _number(n):
    """With a prefix of 7 bits."""
    if n < 127:
        return bytes([n])
    out, n = [127], n - 127
    while n >= 128:
        out.append(n & 127 | 128)
        n >>= 7
    return bytes(out + [n])


def deflate(fields):
    """Every field a literal that is not indexed."""
    return b"".join(b"\0" + _number(len(n)) + n.encode() + _number(len(v)) + v.encode("latin-1") for n, v in fields)


class Stream:
    """One request, and where its answer goes."""

    def __init__(self, h2, number):
        self.h2, self.id, self.number = h2, number, h2.number
        self.fields, self.body, self.pending = [], b"", b""
        self.begun = self.over = False
        self.window = h2.initial_window

    def send(self, data):
        """Head and body as HTTP/1.1 has them."""
        if not self.begun:
            self.pending += data
            if b"\r\n\r\n" not in self.pending:
                return
            head, data = self.pending.split(b"\r\n\r\n", 1)
            self.begun = True
            first, *lines = head.decode("latin-1").split("\r\n")
            fields = [(":status", first.split(" ")[1])]
            for line in lines:
                name, value = line.split(":", 1)
                if name.lower() not in ("connection", "transfer-encoding"):
                    fields.append((name.lower(), value.strip()))
            self.h2.write(HEADERS, END_HEADERS, self.id, deflate(fields))
        for at in range(0, len(data), PIECE):
            piece = data[at:at + PIECE]
            self.h2.take_window(self, len(piece))
            self.h2.write(DATA, 0, self.id, piece)

    def end(self):
        if not self.over:
            self.over = True
            if self.begun:
                self.h2.write(DATA, END_STREAM, self.id, b"")
            else:
                self.reset_stream(INTERNAL_ERROR)

    def reset_stream(self, code):
        self.over = True
        self.h2.write(RST_STREAM, 0, self.id, struct.pack(">I", code))

    def reset(self):
        """The whole connection, as Connection.reset."""
        self.h2.abort()
        raise Gone

    def wait(self, seconds):
        deadline = time.monotonic() + seconds
        with self.h2.condition:
            while time.monotonic() < deadline:
                if self.over or self.h2.gone or self.h2.upstream.stopping.is_set():
                    raise Gone
                self.h2.condition.wait(min(0.05, max(0, deadline - time.monotonic())))


class H2Connection:
    def __init__(self, upstream, link, number):
        self.upstream, self.link, self.number = upstream, link, number
        self.buffer, self.streams, self.threads = b"", {}, []
        self.condition = threading.Condition(threading.RLock())
        self.using = threading.Lock()  # of the link: OpenSSL wants one thread at a time
        self.window, self.initial_window = WINDOW, WINDOW
        self.gone = self.deaf = False
        self.block, self.block_of = b"", None
        self.inflater = Inflater()
        link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        link.setblocking(False)

    # ---- frames ----

    def write(self, kind, flags, stream, payload):
        data = struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload
        with self.using:
            while data:
                try:
                    data = data[self.link.send(data):]
                except (ssl.SSLWantWriteError, ssl.SSLWantReadError):
                    if self.upstream.stopping.is_set():
                        raise Gone from None
                    select.select([], [self.link], [], 0.05)

    def more(self):
        try:
            with self.using:
                data = self.link.recv(262144)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            if self.upstream.stopping.is_set():
                raise Gone from None
            select.select([self.link], [], [], 0.05)
            return
        if not data:
            raise Gone
        self.buffer += data

    def read_exactly(self, count):
        while len(self.buffer) < count:
            self.more()
        found, self.buffer = self.buffer[:count], self.buffer[count:]
        return found

    def serve(self):
        try:
            if self.read_exactly(len(PREFACE)) != PREFACE:
                self.upstream.failures.append("no preface of HTTP/2")
                return
            most = getattr(self.upstream, "most_streams", 100)
            self.write(SETTINGS, 0, 0, struct.pack(">HI", 3, most))
            while not self.upstream.stopping.is_set():
                head = self.read_exactly(9)
                length = int.from_bytes(head[:3], "big")
                kind, flags, stream = struct.unpack(">BBI", head[3:])
                self.on_frame(kind, flags, stream & 0x7FFFFFFF, self.read_exactly(length))
        except (OSError, ValueError, Gone):
            pass
        finally:
            with self.condition:
                self.gone = True
                self.condition.notify_all()
            for thread in self.threads:
                thread.join(10)
            self.inflater.close()
            self.close()

    def close(self):
        try:
            socket.socket.shutdown(self.link, socket.SHUT_RDWR)
        except OSError:
            pass
        self.link.close()

    def abort(self):
        self.link.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close()

    def on_frame(self, kind, flags, number, payload):
        if kind == SETTINGS and not flags & ACK:
            self.on_settings(payload)
        elif kind == PING and not flags & ACK and not self.deaf:
            self.write(PING, ACK, 0, payload)
        elif kind == WINDOW_UPDATE:
            self.on_window(number, struct.unpack(">I", payload)[0])
        elif kind == RST_STREAM:
            self.on_reset(number)
        elif kind == HEADERS:
            if flags & PADDED:
                payload = payload[1:len(payload) - payload[0]]
            if flags & WITH_PRIORITY:
                payload = payload[5:]
            self.block, self.block_of = payload, (number, flags & END_STREAM)
        elif kind == CONTINUATION:
            self.block += payload
        elif kind == DATA:
            self.on_data(number, flags, payload)
        if kind in (HEADERS, CONTINUATION) and flags & END_HEADERS:
            self.on_headers()

    def on_settings(self, payload):
        for at in range(0, len(payload), 6):
            name, value = struct.unpack(">HI", payload[at:at + 6])
            if name == 4:
                with self.condition:
                    for stream in self.streams.values():
                        stream.window += value - self.initial_window
                    self.initial_window = value
                    self.condition.notify_all()
        self.write(SETTINGS, ACK, 0, b"")

    def on_window(self, number, more):
        with self.condition:
            if number == 0:
                self.window += more
            elif number in self.streams:
                self.streams[number].window += more
            self.condition.notify_all()

    def take_window(self, stream, count):
        with self.condition:
            while self.window < count or stream.window < count:
                if stream.over or self.gone or self.upstream.stopping.is_set():
                    raise Gone
                self.condition.wait(0.05)
            self.window -= count
            stream.window -= count

    def on_reset(self, number):
        with self.condition:
            if number in self.streams:
                self.streams[number].over = True
            self.condition.notify_all()

    def on_headers(self):
        number, ended = self.block_of
        stream = Stream(self, number)
        stream.fields = self.inflater.read(self.block)
        with self.condition:
            self.streams[number] = stream
        if ended:
            self.start(stream)

    def on_data(self, number, flags, payload):
        stream = self.streams.get(number)
        if payload:
            more = struct.pack(">I", len(payload))
            self.write(WINDOW_UPDATE, 0, 0, more)
            if stream and not flags & END_STREAM:
                self.write(WINDOW_UPDATE, 0, number, more)
        if flags & PADDED:
            payload = payload[1:len(payload) - payload[0]]
        if stream:
            stream.body += payload
            if flags & END_STREAM:
                self.start(stream)

    # ---- requests ----

    def start(self, stream):
        fields = dict(stream.fields)
        request = self.upstream.record(self.number, fields.get(":method"), fields.get(":path", "/"),
                                       {n: v for n, v in fields.items() if not n.startswith(":")}, stream.body, len(stream.body))
        request.protocol = "h2"
        if self.deaf:
            request.abandoned = True
            self.upstream.ends(request)
            return
        thread = threading.Thread(target=self.answer, args=(stream, request), daemon=True)
        thread.start()
        self.threads.append(thread)

    def answer(self, stream, request):
        try:
            self.upstream.answer(stream, request)
            stream.end()
        except (OSError, ValueError, Gone):  # ValueError: select() after the link was closed
            pass
        except Exception as e:
            self.upstream.failures.append(e)
        finally:
            with self.condition:
                self.streams.pop(stream.id, None)

    def goaway(self, last, code=NO_ERROR):
        self.write(GOAWAY, 0, 0, struct.pack(">II", last, code))


# ---- faults ----


def refused_stream(x):
    """It was not looked at, says the server: send it again."""
    x.connection.reset_stream(REFUSED_STREAM)


def reset_stream(x):
    """Computed, and then something broke: nobody knows."""
    x.reply()
    x.connection.reset_stream(INTERNAL_ERROR)


def goaway(x):
    """The server restarts: this stream and later ones were not looked at."""
    x.connection.h2.goaway(max(0, x.connection.id - 2))
    x.connection.wait(30)  # the client leaves


def goaway_after(x):
    """The server restarts, and answers what it has begun."""
    x.connection.h2.goaway(x.connection.id)
    x.send(x.reply())


def deaf(x):
    """The connection is dead without a word, as behind a load balancer that forgot it."""
    x.connection.h2.deaf = True
    x.connection.wait(3600)
