"""Real Redis and PostgreSQL servers for tests: on free ports of 127.0.0.1, data in a temporary folder, stopped by pid.

    with start_redis() as redis:                 # or start_redis("--maxmemory", "4mb")
        redis.url                                # redis://127.0.0.1:PORT/0
        redis.command("SET", "a", "b")           # over a connection of the test's own
        redis.freeze(); redis.thaw(); redis.kill(); redis.start()
    with start_postgresql(max_connections=20) as postgresql:
        postgresql.sql("SELECT 1")               # as the superuser, by psql
        postgresql.freeze(); ...                 # the server and all its processes

Redis and PostgreSQL are Debian's packages redis-server and postgresql; what is missing raises unittest.SkipTest.
PostgreSQL does not run as root: under root it runs as the user postgres, or nobody.
"""
import atexit
import glob
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import unittest

PATIENCE = 60  # seconds for what should take a moment: test machines are busy


def hold_port(port=0):
    """A socket that is bound and does not listen. As long as it is open the port is refused to clients and given to nobody
    who asks for any port, while a server that names it (with SO_REUSEADDR, as servers do) may listen on it: a free port that
    is only looked up may be another's by the time it is used."""
    s = socket.socket()
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    s.bind(("127.0.0.1", port))
    return s


def until(condition, what, patience=PATIENCE, step=0.01):
    """Waits for condition() to be true; gives its value."""
    deadline = time.monotonic() + patience
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError("waited %d s in vain for %s" % (patience, what))
        time.sleep(step)


def children(pid):
    """Processes whose parent is pid."""
    found = []
    for path in glob.glob("/proc/[0-9]*/stat"):
        try:
            with open(path) as f:
                text = f.read()
        except OSError:
            continue
        fields = text.rsplit(")", 1)[1].split()
        if int(fields[1]) == pid:
            found.append(int(path.split("/")[2]))
    return found


class Server:
    """A process on a port that stays its own over restarts."""

    def __init__(self):
        self.folder = tempfile.mkdtemp(prefix="embedd-server-", dir="/tmp")
        self.holder = hold_port()
        self.port = self.holder.getsockname()[1]
        self.process = None
        self.frozen = []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def launch(self, arguments):
        with open(os.path.join(self.folder, "log"), "ab") as log:
            self.process = subprocess.Popen(arguments, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.folder)

    def log(self):
        with open(os.path.join(self.folder, "log"), errors="replace") as f:
            return f.read()[-2000:]

    def wait_up(self):
        def up():
            if self.process.poll() is not None:
                raise AssertionError("%s ended: %s" % (type(self).__name__, self.log()))
            return self.answers()
        until(up, "%s on port %d" % (type(self).__name__, self.port))

    def family(self):
        return [self.process.pid, *children(self.process.pid)]

    def freeze(self):
        for pid in self.family():
            try:
                os.kill(pid, signal.SIGSTOP)
                self.frozen.append(pid)
            except ProcessLookupError:
                pass

    def thaw(self):
        for pid in self.frozen:
            try:
                os.kill(pid, signal.SIGCONT)
            except ProcessLookupError:
                pass
        self.frozen = []

    def kill(self):
        """At once, as by a power cut."""
        if self.process and self.process.poll() is None:
            pids = self.family()
            for pid in pids:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass
            self.process.wait()
        self.frozen = []

    def stop(self):
        """In order, so that what was written is kept."""
        self.thaw()
        if self.process and self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)  # PostgreSQL: fast shutdown
            try:
                self.process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                self.kill()

    def close(self):
        self.thaw()
        self.kill()
        self.holder.close()
        shutil.rmtree(self.folder, ignore_errors=True)


class Redis(Server):
    def __init__(self, *settings):
        super().__init__()
        self.settings = settings
        self.program = shutil.which("redis-server")
        if not self.program:
            self.close()
            raise unittest.SkipTest("redis-server is not installed")
        self.socket_path = os.path.join(self.folder, "redis.sock")
        self.password = None

    @property
    def url(self):
        return "redis://127.0.0.1:%d/0" % self.port

    def start(self):
        self.launch([self.program, "--port", str(self.port), "--bind", "127.0.0.1", "--dir", self.folder, "--save", "",
                     "--appendonly", "no", "--unixsocket", self.socket_path, *self.settings])
        self.wait_up()
        return self

    def connect(self):
        return RedisClient(self.port, self.password)

    def answers(self):
        try:
            with self.connect() as c:
                return c.command("PING") == b"PONG"
        except (OSError, RedisError):
            return False

    def command(self, *words):
        with self.connect() as c:
            return c.command(*words)


class RedisError(Exception):
    pass


class RedisClient:
    """Just enough of the protocol for tests to look and set from outside."""

    def __init__(self, port, password=None):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)
        self.file = self.socket.makefile("rb")
        if password:
            self.command("AUTH", password)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.file.close()
        self.socket.close()

    def command(self, *words):
        words = [w if isinstance(w, bytes) else str(w).encode() for w in words]
        self.socket.sendall(b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(w), w) for w in words))
        return self.reply()

    def reply(self):
        line = self.file.readline()
        if not line.endswith(b"\r\n"):
            raise OSError("Redis closed the connection")
        kind, rest = line[:1], line[1:-2]
        if kind == b"+":
            return rest
        if kind == b"-":
            raise RedisError(rest.decode())
        if kind == b":":
            return int(rest)
        n = int(rest)
        if n < 0:
            return None
        if kind == b"$":
            return self.file.read(n + 2)[:-2]
        return [self.reply() for _ in range(n)]


class Postgresql(Server):
    def __init__(self, **settings):
        super().__init__()
        self.settings = settings
        found = sorted(glob.glob("/usr/lib/postgresql/*/bin"), key=lambda p: int(p.split("/")[4]))
        path = found[-1] if found else os.path.dirname(shutil.which("postgres") or "")
        if not path:
            self.close()
            raise unittest.SkipTest("postgresql is not installed")
        self.programs = path
        self.data = os.path.join(self.folder, "data")
        self.prefix = []
        if os.geteuid() == 0:
            user = self._user()
            os.chown(self.folder, user.pw_uid, user.pw_gid)
            self.prefix = ["setpriv", "--reuid", str(user.pw_uid), "--regid", str(user.pw_gid), "--clear-groups"]
        self._initialise()

    @staticmethod
    def _user():
        for name in ("postgres", "nobody"):
            try:
                return pwd.getpwnam(name)
            except KeyError:
                pass
        raise unittest.SkipTest("PostgreSQL does not run as root, and there is no user postgres or nobody")

    template = None  # a data folder fresh from initdb, which takes long, for all servers of this process

    def _initialise(self):
        if Postgresql.template is None:
            self._run_initdb()
            Postgresql.template = tempfile.mkdtemp(prefix="embedd-initdb-", dir="/tmp")
            atexit.register(shutil.rmtree, Postgresql.template, ignore_errors=True)
            subprocess.run(["cp", "-a", self.data, Postgresql.template], check=True)
        else:
            subprocess.run(["cp", "-a", os.path.join(Postgresql.template, "data"), self.data], check=True)
        self._configure()

    def _run_initdb(self):
        r = subprocess.run([*self.prefix, os.path.join(self.programs, "initdb"), "-D", self.data, "-U", "tests", "-A", "trust",
                            "--locale=C", "-E", "UTF8", "--no-sync", "--no-instructions"], cwd=self.folder,
                           stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        if r.returncode:
            self.close()
            raise AssertionError("initdb failed: %s" % r.stdout.decode(errors="replace"))

    def _configure(self):
        settings = {"listen_addresses": "127.0.0.1", "port": self.port, "unix_socket_directories": self.folder,
                    "fsync": "off", "synchronous_commit": "off", "full_page_writes": "off", "shared_buffers": "16MB",
                    "dynamic_shared_memory_type": "mmap", "max_connections": 40, "autovacuum": "off",
                    "max_worker_processes": 2, "max_wal_senders": 0, "wal_level": "minimal", "jit": "off"}
        settings.update(self.settings)
        with open(os.path.join(self.data, "postgresql.conf"), "a") as f:
            for name, value in settings.items():
                f.write("%s = '%s'\n" % (name, value))

    def start(self):
        self.launch([*self.prefix, os.path.join(self.programs, "postgres"), "-D", self.data])
        self.wait_up()
        return self

    @property
    def url(self):
        return self.url_of("tests")

    def url_of(self, user, password=None, database="postgres"):
        return "postgresql://%s%s@127.0.0.1:%d/%s" % (user, ":" + password if password else "", self.port, database)

    def answers(self):
        return self._psql("SELECT 1").returncode == 0

    def _psql(self, sql):
        return subprocess.run([os.path.join(self.programs, "psql"), "-h", "127.0.0.1", "-p", str(self.port), "-U", "tests",
                               "-d", "postgres", "-X", "-A", "-t", "-q", "-v", "ON_ERROR_STOP=1", "-c", sql],
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                              env={**os.environ, "PGCONNECT_TIMEOUT": "10"})

    def sql(self, text):
        r = self._psql(text)
        if r.returncode:
            raise AssertionError("%s: %s" % (text, r.stderr.decode(errors="replace")))
        return r.stdout.decode().strip()


def start_redis(*settings):
    server = Redis(*settings)
    try:
        return server.start()
    except BaseException:
        server.close()
        raise


def start_postgresql(**settings):
    server = Postgresql(**settings)
    try:
        return server.start()
    except BaseException:
        server.close()
        raise
