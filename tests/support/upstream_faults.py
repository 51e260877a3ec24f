"""What can go wrong with a remote embedding API: faults for Upstream.script().

A fault is a function of an Exchange (upstream.py). It may send what it likes, once or never; one that returns False
ends the connection. Those with parameters are made by calling them: faults.delayed(0.5), faults.status(503).
"""
import email.utils
import functools
import gzip
import json
import math
import time

from upstream import Gone
from upstream_formats import Plain, Raw, base64_of

# ---- making faults ----


def named(name):
    def wrap(fault):
        fault.__name__ = name
        return fault
    return wrap


def edit(change, name=None):
    """The good answer, changed: change(reply, exchange) before it is text."""
    @named(name or change.__name__)
    def fault(x):
        reply = x.reply()
        change(reply, x)
        x.send(reply)
    return fault


def of_body(change):
    """The good answer with its text changed: change(bytes) -> bytes."""
    @named(change.__name__)
    def fault(x):
        reply = x.reply()
        body = change(reply.body())
        x.send(Plain(200, body))
    return fault


def good(x):
    """No fault, where a script needs one to pass."""
    x.send(x.reply())


def sequence(*plan):
    """Each fault once, by request; the last one for ever."""
    state = list(plan)

    def decide(_):
        return state.pop(0) if len(state) > 1 else state[0]
    return decide


# ---- the connection ----


def reset(x):
    """RST instead of an answer."""
    x.connection.reset()


def closed(x):
    """FIN instead of an answer, as a peer does whose keep-alive time is over."""
    return False


def closed_after(x):
    """A good answer, then FIN without a word of it: the next request on this connection finds it dead."""
    x.send(x.reply())
    return False


def connection_close(x):
    """A good answer that says that it is the last."""
    reply = x.reply()
    reply.headers["Connection"] = "close"
    x.send(reply)
    return False


def refused(seconds):
    """No answer, and connections are refused from here on, for this long."""
    @named("refused")
    def fault(x):
        up = x.upstream
        up.stop_listening()
        import threading

        def back():
            if not up.stopping.wait(seconds):
                up.start_listening()
        thread = threading.Thread(target=back, daemon=True)
        thread.start()
        up.threads.append(thread)
        raise Gone
    return fault


def black_hole(x):
    """Takes the request and never answers."""
    x.connection.wait(3600)


def delayed(seconds):
    @named("delayed")
    def fault(x):
        x.connection.wait(seconds)
        x.send(x.reply())
    return fault


def drip(step_s=0.01, count=1, head_only=False):
    """The good answer in small pieces with pauses. head_only: the body comes at once."""
    @named("drip")
    def fault(x):
        head, body = x.render(x.reply())
        data = head if head_only else head + body
        for i in range(0, len(data), count):
            x.connection.send(data[i:i + count])
            x.connection.wait(step_s)
        if head_only:
            x.connection.send(body)
    return fault


def stalled(x):
    """Half of the good answer, then silence."""
    head, body = x.render(x.reply())
    x.connection.send(head + body[:len(body) // 2])
    x.connection.wait(3600)


def truncated(x):
    """Half of the good answer, then FIN."""
    head, body = x.render(x.reply())
    x.connection.send(head + body[:len(body) // 2])
    return False


def truncated_head(x):
    head, _ = x.render(x.reply())
    x.connection.send(head[:len(head) // 2])
    return False


def reset_midway(x):
    head, body = x.render(x.reply())
    x.connection.send(head + body[:len(body) // 2])
    x.connection.wait(0.02)
    x.connection.reset()


def truncated_chunks(x):
    """A chunked answer without its last chunk."""
    _chunked(x, end=False)
    return False


def _chunked(x, end=True, zipped=False):
    reply = x.reply()
    body = reply.body()
    headers = {"Content-Type": "application/json", **reply.headers, "Transfer-Encoding": "chunked"}
    if zipped:
        body = gzip.compress(body, 6, mtime=0)
        headers["Content-Encoding"] = "gzip"
    x.connection.send(x.head(200, headers))
    size, at = 1, 0
    while at < len(body):
        piece = body[at:at + size]
        x.connection.send(b"%x;note=1\r\n%s\r\n" % (len(piece), piece))
        at, size = at + size, size * 3 % 4099 + 1
    if end:
        x.connection.send(b"0\r\nX-Trailer: 1\r\n\r\n")


def chunked(x):
    """Legal: the good answer in chunks of odd sizes, with extensions and a trailer."""
    _chunked(x)


def gzipped(x):
    """Legal where it was asked for: the good answer compressed."""
    _zipped(x, lambda b: b)


def gzipped_chunked(x):
    _chunked(x, zipped=True)


def bad_gzip(x):
    """Says gzip, and is not."""
    _zipped(x, lambda b: b"\x1f\x8b" + bytes(reversed(b[2:])))


def _zipped(x, change):
    reply = x.reply()
    body = change(gzip.compress(reply.body(), 6, mtime=0))
    x.send(Plain(200, body, {**reply.headers, "Content-Encoding": "gzip"}))


def until_close(x):
    """Legal: the good answer without a length, ended by FIN."""
    reply = x.reply()
    x.connection.send(x.head(200, {"Content-Type": "application/json", "Connection": "close"}) + reply.body())
    return False


def continue_first(x):
    """Legal: an interim answer before the good one."""
    x.connection.send(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n")
    x.send(x.reply())


def not_http(x):
    x.reply()
    x.connection.send(b"SSH-2.0-OpenSSH_9.9\r\n" * 20)
    return False


def flood(limit=1 << 30):
    """An answer that goes on and on: a JSON array of numbers without end."""
    @named("flood")
    def fault(x):
        x.reply()
        x.connection.send(x.head(200, {"Content-Type": "application/json", "Transfer-Encoding": "chunked"}))
        piece = b"0.125," * 10922
        x.connection.send(b"8\r\n[0.125, \r\n")
        for _ in range(limit // len(piece)):
            x.connection.send(b"%x\r\n%s\r\n" % (len(piece), piece))
        return False
    return fault


def endless_head(x):
    x.connection.send(b"HTTP/1.1 200 OK\r\n")
    for i in range(100000):
        x.connection.send(b"X-Filler-%d: %s\r\n" % (i, b"y" * 200))
    return False


# ---- answers that are no answers ----


def raw(body, content_type="application/json"):
    """200 with this body."""
    @named("raw")
    def fault(x):
        x.reply()
        x.send(Plain(200, body, {"Content-Type": content_type}))
    return fault


empty_body = named("empty_body")(raw(b""))
garbage = named("garbage")(raw(b"\x00\xff{]garbage" * 10))
html = named("html")(raw(b"<html><body><h1>Welcome to the captive portal</h1></body></html>", "text/html"))
null = named("null")(raw(b"null"))
empty_object = named("empty_object")(raw(b"{}"))
empty_list = named("empty_list")(raw(b"[]"))
deep = named("deep")(raw(b"[" * 100000))
no_content = named("no_content")(lambda x: x.connection.send(x.head(204, {})))


def error_in_200(x):
    """200 OK with the body of an error."""
    answer = x.error(500, "server_error", "The server had an error while processing your request.")
    answer.status = 200
    x.send(answer)


@of_body
def cut_json(body):
    """Well-formed HTTP with half of the JSON in it."""
    return body[:len(body) // 2]


@of_body
def trailing_garbage(body):
    return body + b"]}garbage"


def redirect(status=307):
    """To another place, where nobody should take the key to."""
    @named("redirect")
    def fault(x):
        x.send(Plain(status, b"", {"Location": "http://127.0.0.1:9/elsewhere"}))
    return fault


# ---- answers with wrong vectors ----


@edit
def too_few(reply, x):
    reply.rows.pop()


@edit
def too_many(reply, x):
    reply.rows.append(type(reply.rows[0])(len(reply.rows), reply.rows[0].vector))


@edit
def wrong_dimension(reply, x):
    """One row is shorter than the others."""
    reply.rows[-1].vector.pop()


@edit
def other_dimension(reply, x):
    """All rows have the half: `dimensions` was not understood, or it is another model."""
    for row in reply.rows:
        del row.vector[len(row.vector) // 2:]


@edit
def longer(reply, x):
    for row in reply.rows:
        row.vector.append(0.5)


@edit
def empty_vector(reply, x):
    reply.rows[0].vector.clear()


@edit
def zero_vector(reply, x):
    reply.rows[-1].vector[:] = [0.0] * len(reply.rows[-1].vector)


def _indexes(reply, x):
    if not x.form.has_index:
        raise ValueError("answers of %s have no indexes" % x.form.kind)
    return [row.index for row in reply.rows]


@edit
def shuffled(reply, x):
    """Legal where rows are numbered: another order, right numbers."""
    _indexes(reply, x)
    reply.rows.reverse()
    if len(reply.rows) > 2:
        reply.rows.insert(1, reply.rows.pop())


@edit
def wrong_index(reply, x):
    """A number that no text has."""
    _indexes(reply, x)
    reply.rows[-1].index = len(reply.rows) + 5


@edit
def huge_index(reply, x):
    _indexes(reply, x)
    reply.rows[-1].index = Raw("18446744073709551616")


@edit
def negative_index(reply, x):
    _indexes(reply, x)
    reply.rows[0].index = -1


@edit
def real_index(reply, x):
    _indexes(reply, x)
    reply.rows[0].index = Raw("0.5")


@edit
def doubled_index(reply, x):
    """Two rows with one number, so that another has none (of two texts or more)."""
    _indexes(reply, x)
    if len(reply.rows) > 1:
        reply.rows[-1].index = reply.rows[0].index
    else:
        reply.rows.append(reply.rows[0])


@edit
def missing_index(reply, x):
    """Legal enough: rows without numbers, in order."""
    _indexes(reply, x)
    inner = reply.render

    def render(r):
        value = inner(r)
        for item in value["data"]:
            item.pop("index")
        return value
    reply.render = render


@edit
def mixed_index(reply, x):
    """Another order, and only the first row says so: what stands where cannot be known (of three texts or more)."""
    _indexes(reply, x)
    reply.rows[1:] = reversed(reply.rows[1:])
    inner = reply.render

    def render(r):
        value = inner(r)
        for item in value["data"][1:]:
            item.pop("index")
        return value
    reply.render = render


def in_vector(value, name):
    """A number of the last row is this instead; in base64 its bits."""
    def change(reply, x):
        row = reply.rows[-1]
        row.vector[len(row.vector) // 2] = value
    return edit(change, name)


nan = in_vector(math.nan, "nan")
infinity = in_vector(math.inf, "infinity")
minus_infinity = in_vector(-math.inf, "minus_infinity")


def json_in_vector(value, name):
    """A number of the last row is this JSON value instead; as floats even where base64 was asked for."""
    def change(reply, x):
        row = reply.rows[-1]
        row.encoded = list(row.vector)
        row.encoded[0] = value
    return edit(change, name)


null_number = json_in_vector(None, "null_number")
text_number = json_in_vector("0.5", "text_number")
huge_number = json_in_vector(Raw("1e400"), "huge_number")       # infinity after parsing
over_float = json_in_vector(Raw("1e39"), "over_float")          # a double, and infinity as a float32
nested_number = json_in_vector([0.5], "nested_number")


def encoded(make, name):
    """The last row's vector is this JSON value: make(list of numbers)."""
    def change(reply, x):
        reply.rows[-1].encoded = make(reply.rows[-1].vector)
    return edit(change, name)


null_vector = encoded(lambda v: Raw("null"), "null_vector")
text_vector = encoded(lambda v: "no vector", "text_vector")
object_vector = encoded(lambda v: {"a": 1}, "object_vector")
base64_garbage = encoded(lambda v: "!" + base64_of(v)[1:], "base64_garbage")
base64_short = encoded(lambda v: base64_of(v)[:-8], "base64_short")
base64_odd = encoded(lambda v: base64_of(v)[:-3], "base64_odd")
base64_nan = encoded(lambda v: base64_of([math.nan] + v[1:]), "base64_nan")
base64_infinity = encoded(lambda v: base64_of(v[:-1] + [math.inf]), "base64_infinity")


@edit
def floats_instead_of_base64(reply, x):
    """Legal enough: many compatible servers do not know encoding_format."""
    reply.encoding = "float"


@edit
def base64_instead_of_floats(reply, x):
    reply.encoding = "base64"


@edit
def no_usage(reply, x):
    """Legal: an answer that does not say what it cost."""
    inner = reply.render

    def render(r):
        value = inner(r)
        if isinstance(value, dict):
            for member in ("usage", "meta", "prompt_eval_count", "total_tokens"):
                value.pop(member, None)
        return value
    reply.render = render
    reply.headers = {n: v for n, v in reply.headers.items() if n != "x-compute-tokens"}


# ---- statuses ----


def status(code, body=None, headers=None, content_type=None):
    """A bare status; body: bytes, or a JSON value; by default an error in the words of the kind."""
    @named("status_%d" % code)
    def fault(x):
        if body is None:
            x.send(x.error(code, None, "The server says %d." % code, headers))
        else:
            x.send(Plain(code, body, {**({"Content-Type": content_type} if content_type else {}), **(headers or {})}))
    return fault


def error(code, name, message, headers=None, **more):
    """An error with a code in the kind's envelope; headers: a dict, or a function that makes it when it is sent."""
    @named(name or "status_%d" % code)
    def fault(x):
        x.send(x.error(code, name, message, headers() if callable(headers) else headers, **more))
    return fault


def gateway_page(code):
    """What a proxy before the API says: HTML."""
    return status(code, b"<html><head><title>%d</title></head><body>nginx</body></html>" % code, content_type="text/html")


unauthorised = named("unauthorised")(lambda x: x.send(x.form.unauthorised()))
forbidden = error(403, "unsupported_country_region_territory", "Country, region, or territory not supported")
model_not_found = named("model_not_found")(lambda x: x.send(x.form.no_model(x.request.model)))
context_length = named("context_length")(lambda x: x.send(x.form.too_long(8610, 8192, 0)))
bad_request = error(400, "invalid_value", "Invalid value for 'input'.", param="input")
unprocessable = error(422, None, "Input should be a valid string", param="input")
timeout_408 = error(408, None, "Request timed out.")
conflict = error(409, None, "Conflict; try again.")
too_large = error(413, None, "Request body is too large.")
server_error = error(500, None, "The server had an error while processing your request. Sorry about that!")
bad_gateway = gateway_page(502)
unavailable = error(503, None, "The engine is currently overloaded, please try again later")
gateway_timeout = gateway_page(504)
overloaded_529 = error(529, "overloaded_error", "Overloaded")


def loading(estimated_s):
    """Hugging Face: the model is being loaded."""
    return error(503, None, "Model is currently loading", estimated_time=estimated_s)


def echo(code=400):
    """An error that repeats the whole request, key and texts and all, as some proxies do."""
    @named("echo")
    def fault(x):
        heard = json.dumps({"headers": x.request.headers, "body": x.request.json}, ensure_ascii=False)
        x.send(x.error(code, "echo", "Cannot handle this: " + heard))
    return fault


# ---- limits ----


def http_date(seconds):
    """Now and this many seconds, rounded up, as an HTTP-date."""
    return email.utils.formatdate(math.ceil(time.time() + seconds), usegmt=True)


def rate_limited(headers=None, code="rate_limit_exceeded", http_status=429):
    """429 that passes. headers: a dict, or a function that makes it when it is sent."""
    return error(http_status, code, "Rate limit reached for requests. Limit: 3 / min. Please try again in 20s.", headers,
                 type="requests")


# Each way to say when: (name, headers for a wait of about `seconds`). Milliseconds where the form has them.
RESETS = {
    "retry-after": lambda s: {"retry-after": str(math.ceil(s))},
    "retry-after, fraction": lambda s: {"retry-after": "%.3f" % s},
    "retry-after, HTTP-date": lambda s: {"retry-after": http_date(s)},
    "retry-after-ms": lambda s: {"retry-after-ms": str(math.ceil(s * 1000))},
    "reset-requests, ms": lambda s: {"x-ratelimit-remaining-requests": "0",
                                     "x-ratelimit-reset-requests": "%dms" % math.ceil(s * 1000)},
    "reset-requests, s": lambda s: {"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "%gs" % s},
    "reset-requests, m and s": lambda s: {"x-ratelimit-remaining-requests": "0",
                                          "x-ratelimit-reset-requests": "%dm%gs" % (s // 60, s % 60)},
    "reset-tokens, ms": lambda s: {"x-ratelimit-remaining-tokens": "0",
                                   "x-ratelimit-reset-tokens": "%dms" % math.ceil(s * 1000)},
    "reset-tokens, s": lambda s: {"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "%gs" % s},
    "ms before seconds": lambda s: {"retry-after-ms": str(math.ceil(s * 1000)), "retry-after": str(math.ceil(s))},
}


def reset_by(form, seconds):
    """429 that says by one of RESETS when it passes."""
    return rate_limited(lambda: RESETS[form](seconds))


def long_reset(header="x-ratelimit-reset-requests", value="6m0s"):
    """429 that outlasts every deadline of a test."""
    return rate_limited({header: value, "x-ratelimit-remaining-requests": "0"})


# Codes that do not pass by waiting: (status, code, type).
QUOTA_CODES = [
    (429, "insufficient_quota", "insufficient_quota"),
    (429, "billing_hard_limit_reached", "insufficient_quota"),
    (429, "billing_not_active", "billing_not_active"),
    (429, "access_terminated", "access_terminated"),
    (429, "quota_exceeded", "insufficient_quota"),
    (403, "insufficient_quota", "insufficient_quota"),
    (402, None, "payment_required"),
]


def quota(code="insufficient_quota", http_status=429, type="insufficient_quota", headers=None):
    """The account is empty."""
    return error(http_status, code, "You exceeded your current quota, please check your plan and billing details.", headers,
                 type=type)


def quota_by_type(http_status=429):
    """Only `type` tells that it is the quota; the code is null."""
    return error(http_status, None, "You exceeded your current quota, please check your plan and billing details.",
                 type="insufficient_quota")


@functools.lru_cache(maxsize=None)
def names():
    """Every fault that needs no parameters, by name."""
    return {n: f for n, f in globals().items() if callable(f) and getattr(f, "__code__", None) and
            f.__code__.co_varnames[:1] == ("x",) and f.__code__.co_argcount == 1 and not n.startswith("_")}
