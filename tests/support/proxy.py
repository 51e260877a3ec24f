"""A forward proxy on a free port of 127.0.0.1 for tests. Whatever name a client asks for, it goes to one upstream, so that
names that no resolver knows (http://upstream.test/) can be tested.

It speaks HTTP (absolute addresses, CONNECT) and SOCKS5 on the same port.

    with Proxy(to=up.port, user="user", password="secret") as proxy:
        proxy.url                  # http://user:secret@127.0.0.1:PORT
        proxy.seen                 # [(method, target, headers), ...]
        proxy.refuse = 502         # from here on every request is refused
"""
import base64
import http.client
import socket
import threading

HEAD_LIMIT = 65536


class Proxy:
    def __init__(self, to, user=None, password=None, refuse=None):
        self.to, self.user, self.password, self.refuse = to, user, password, refuse
        self.seen, self.lock, self.links = [], threading.Lock(), set()
        self.stopping = False
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port = self.listener.getsockname()[1]
        self.threads = [threading.Thread(target=self._accept, daemon=True)]
        self.threads[0].start()

    @property
    def url(self):
        user = "%s:%s@" % (self.user, self.password) if self.user else ""
        return "http://%s127.0.0.1:%d" % (user, self.port)

    @property
    def socks_url(self):
        return self.url.replace("http:", "socks5h:")

    def methods(self):
        with self.lock:
            return [method for method, _, _ in self.seen]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.stopping = True
        for link in [self.listener, *self.links]:
            try:
                link.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
        self.listener.close()
        for thread in self.threads:
            thread.join(10)

    def _accept(self):
        while not self.stopping:
            try:
                link = self.listener.accept()[0]
            except OSError:
                return
            thread = threading.Thread(target=self._serve, args=(link,), daemon=True)
            self.links.add(link)
            thread.start()
            self.threads.append(thread)

    def _serve(self, link):
        try:
            stream = link.makefile("rb")
            if stream.peek(1)[:1] == b"\5":
                return self._socks(link, stream)
            while self._one(link, stream):
                pass
        except (OSError, http.client.HTTPException):
            pass
        finally:
            link.close()

    def _head(self, stream):
        first = stream.readline(HEAD_LIMIT)
        if not first:
            return None
        method, target, _ = first.decode("latin-1").split(" ", 2)
        headers = {}
        for line in iter(lambda: stream.readline(HEAD_LIMIT), b"\r\n"):
            if not line:
                return None
            name, value = line.decode("latin-1").split(":", 1)
            headers[name.lower()] = value.strip()
        return method, target, headers

    def _refusal(self, headers):
        if self.refuse:
            return self.refuse
        if self.user:
            wanted = "Basic " + base64.b64encode(("%s:%s" % (self.user, self.password)).encode()).decode()
            if headers.get("proxy-authorization") != wanted:
                return 407
        return None

    def _one(self, link, stream):
        head = self._head(stream)
        if not head:
            return False
        with self.lock:
            self.seen.append(head)
        method, target, headers = head
        body = stream.read(int(headers.get("content-length", 0)))
        status = self._refusal(headers)
        if status:
            link.sendall(b"HTTP/1.1 %d No\r\nProxy-Authenticate: Basic realm=\"tests\"\r\nContent-Type: text/html\r\n"
                         b"Content-Length: 19\r\n\r\n<html>refused</html" % status)
            return True
        if method == "CONNECT":
            self._tunnel(link)
            return False
        self._forward(link, method, target, headers, body)
        return True

    def _socks(self, link, stream):
        """RFC 1928 and 1929, as far as CONNECT to a name."""
        offered = stream.read(stream.read(2)[1])
        wanted = 2 if self.user else 0
        link.sendall(bytes([5, wanted if wanted in offered else 255]))
        if wanted not in offered:
            return
        if self.user:
            user = stream.read(stream.read(2)[1]).decode()
            password = stream.read(stream.read(1)[0]).decode()
            good = (user, password) == (self.user, self.password)
            link.sendall(bytes([1, 0 if good else 1]))
            if not good:
                return
        kind = stream.read(4)[3]
        host = stream.read(stream.read(1)[0]).decode() if kind == 3 else socket.inet_ntoa(stream.read(4))
        port = int.from_bytes(stream.read(2), "big")
        with self.lock:
            self.seen.append(("SOCKS", "%s:%d" % (host, port), {}))
        link.sendall(bytes([5, 2 if self.refuse else 0, 0, 1, 0, 0, 0, 0, 0, 0]))  # 2: not allowed
        if not self.refuse:
            self._tunnel(link, None)

    def _tunnel(self, link, say=b"HTTP/1.1 200 Connection established\r\n\r\n"):
        other = socket.create_connection(("127.0.0.1", self.to))
        self.links.add(other)
        if say:
            link.sendall(say)

        def pour(source, target):
            try:
                while data := source.recv(65536):
                    target.sendall(data)
            except OSError:
                pass
            for end in (source, target):
                try:
                    end.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass
        back = threading.Thread(target=pour, args=(other, link), daemon=True)
        back.start()
        pour(link, other)
        back.join(10)
        other.close()

    def _forward(self, link, method, target, headers, body):
        _, _, rest = target.partition("://")
        path = "/" + rest.partition("/")[2]
        upstream = http.client.HTTPConnection("127.0.0.1", self.to, timeout=60)
        try:
            headers = {n: v for n, v in headers.items() if n not in ("proxy-authorization", "proxy-connection")}
            upstream.request(method, path, body, headers)
            answer = upstream.getresponse()
            data = answer.read()
            fields = "".join("%s: %s\r\n" % (n, v) for n, v in answer.getheaders() if n.lower() not in ("content-length", "connection"))
            link.sendall(("HTTP/1.1 %d X\r\n%sContent-Length: %d\r\n\r\n" % (answer.status, fields, len(data))).encode("latin-1") + data)
        finally:
            upstream.close()
