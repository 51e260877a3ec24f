"""The wire formats of upstream.py: how each kind of embedding API reads a request, words an answer and an error.

They are as strict as the real ones where clients go wrong: null members and unknown members are refused, keys are
checked, limits of texts per call are kept. A Reply holds rows of vectors and is rendered last, so that a fault can
change it in the meantime whatever the format.
"""
import array
import base64
import json
import math
import re

# Texts of one call.
LIMITS = {"openai": 2048, "azure": 2048, "cohere": 96, "ollama": 4096, "huggingface": 1024, "tei": 32, "remote": 1024,
          "embedd": 2048}


VOCABULARY = 100277  # of cl100k_base


class Row:
    def __init__(self, index, vector):
        self.index, self.vector = index, list(vector)
        self.encoded = None  # in place of the vector: any JSON value


def number(x):
    """The shortest text that every reader turns into the same float32; NaN and infinities as Python writes them."""
    if math.isnan(x):
        return "NaN"
    if math.isinf(x):
        return "Infinity" if x > 0 else "-Infinity"
    return "%.9g" % x


class Raw(str):
    """Text that goes into a body as it is."""


def dump(value):
    """JSON, with lists of floats by `number`."""
    if isinstance(value, Raw):
        return str(value)
    if isinstance(value, dict):
        return "{%s}" % ",".join("%s:%s" % (json.dumps(k), dump(v)) for k, v in value.items())
    if isinstance(value, (list, tuple)):
        return "[%s]" % ",".join(map(dump, value))
    return number(value) if isinstance(value, float) else json.dumps(value)


def base64_of(values):
    return base64.b64encode(array.array("f", values).tobytes()).decode()


class Reply:
    """A good answer before it is text. encoding: "float" or "base64"; render(reply) makes its JSON value."""

    def __init__(self, rows, tokens, render, headers=None, encoding="float"):
        self.status, self.headers = 200, headers or {}
        self.rows, self.tokens, self.encoding, self.render = rows, tokens, encoding, render
        self.raw = None  # bytes in place of everything

    def value(self, row):
        if row.encoded is not None:
            return row.encoded
        return base64_of(row.vector) if self.encoding == "base64" else row.vector

    def body(self):
        return self.raw if self.raw is not None else dump(self.render(self)).encode()


class Plain:
    """An answer that is its status, headers and JSON value (or bytes)."""

    def __init__(self, status, value, headers=None):
        self.status, self.value, self.headers, self.tokens = status, value, headers or {}, 0

    def body(self):
        return self.value if isinstance(self.value, bytes) else dump(self.value).encode()


class Form:
    """One kind of API. read() fills the request's texts, model and dimension and gives an error or None."""
    kind = path = texts_member = None
    members = None        # that a request may have; None: any
    needs_key = True
    has_index = False     # whether rows of the answer are numbered
    takes_ids = False     # lists of token ids in place of texts

    def matches(self, request):
        return request.method == "POST" and request.path == self.path

    # ---- reading ----

    def authorised(self, upstream, request):
        return request.headers.get("authorization") == "Bearer " + upstream.key

    def read(self, upstream, request):
        request.kind = self.kind
        body = request.json
        if upstream.key and (self.needs_key or upstream.require_key) and not self.authorised(upstream, request):
            return self.unauthorised()
        if not isinstance(body, dict):
            return self.error(400, None, "We could not parse the JSON body of your request.", {})
        for member, value in body.items():
            if value is None:
                return self.error(400, None, "None is not of type 'string' - '%s'" % member, {}, param=member)
            if self.members is not None and member not in self.members:
                return self.error(400, None, "Unrecognized request argument supplied: %s" % member, {}, param=member)
        given = body.get(self.texts_member)
        request.single = not isinstance(given, list) or bool(given) and isinstance(given[0], int)
        request.texts = [given] if request.single else given
        request.ids = None
        request.model = self.model_of(upstream, request)
        return self.check(upstream, request)

    def model_of(self, upstream, request):
        return request.json.get("model")

    def asked_dimension(self, request):
        return request.json.get("dimensions")

    def check(self, upstream, request):
        request.ids = self.ids_of(request)
        if not request.texts or not (request.ids or all(isinstance(t, str) for t in request.texts)):
            return self.error(400, None, "'$.%s' is invalid. Please check the API reference." % self.texts_member, {})
        if request.ids and upstream.spell:  # the vector is that of the text, as at a real API
            request.texts = [upstream.spell(tuple(t)) or t for t in request.ids]
        full, asked = upstream.dimension_of(request.model), self.asked_dimension(request)
        if full is None:
            return self.no_model(request.model)
        if asked is not None and (not isinstance(asked, int) or not 1 <= asked <= full):
            return self.error(400, None, "Invalid value for 'dimensions' = %s." % asked, {}, param="dimensions")
        request.dimension = asked or full
        limit = upstream.limits[self.kind]
        if len(request.texts) > limit:
            return self.too_many(len(request.texts), limit)
        for i, text in enumerate(request.texts):
            if text == "" and not upstream.allow_empty:
                return self.error(400, None, "input cannot be an empty string", {}, param="input", index=i)
            billed = upstream.tokens(request.ids[i] if request.ids else text)
            if billed > upstream.max_text_tokens:
                return self.too_long(billed, upstream.max_text_tokens, i)
        return None

    def ids_of(self, request):
        """The lists of token ids, if all are that and this API takes them."""
        texts = request.texts
        good = self.takes_ids and isinstance(texts, list) and all(
            isinstance(t, list) and t and all(type(i) is int and 0 <= i < VOCABULARY for i in t) for t in texts)
        return texts if good and texts else None

    # ---- answering ----

    def prompt(self, upstream, request):
        return ""

    def encoding(self, request):
        return "float"

    def headers(self, upstream, request):
        return {}

    def reply(self, upstream, request):
        prompt, length = self.prompt(upstream, request), 1.0
        if isinstance(request.json, dict) and request.json.get("normalize") is False:
            length = 2.0  # vectors of models that do not normalise are longer
        rows = [Row(i, (length * x for x in upstream.vector(request.model, prompt + t if prompt else _key(t),
                                                            request.dimension)))
                for i, t in enumerate(request.texts)]
        count = sum(upstream.tokens(t) for t in request.ids or request.texts)
        return Reply(rows, count, lambda r: self.render(upstream, request, r), self.headers(upstream, request),
                     self.encoding(request))

    def render(self, upstream, request, reply):
        raise NotImplementedError

    # ---- errors ----

    def error(self, status, code, message, headers, **more):
        raise NotImplementedError

    def unauthorised(self):
        return self.error(401, None, "Unauthorized", {})

    def no_model(self, model):
        return self.error(404, "model_not_found", "The model `%s` does not exist." % model, {})

    def too_many(self, count, limit):
        return self.error(400, None, "%d texts are over the limit of %d." % (count, limit), {})

    def too_long(self, count, limit, index):
        return self.error(400, None, "Text %d has %d tokens, over the limit of %d." % (index, count, limit), {})


def _key(text):
    return tuple(text) if isinstance(text, list) else text


OPENAI_TYPES = {401: "invalid_request_error", 403: "permission_error", 429: "requests"}


class OpenAI(Form):
    kind, path, texts_member, has_index, takes_ids = "openai", "/v1/embeddings", "input", True, True
    members = {"input", "model", "encoding_format", "dimensions", "user"}

    def matches(self, request):
        return request.method == "POST" and request.path in ("/v1/embeddings", "/embeddings")

    def check(self, upstream, request):
        if not isinstance(request.model, str) or not request.model:
            return self.error(400, None, "you must provide a model parameter", {})
        if request.model == "text-embedding-ada-002" and "dimensions" in request.json:
            return self.error(400, None, "This model does not support specifying dimensions.", {}, param="dimensions")
        if request.json.get("encoding_format", "float") not in ("float", "base64"):
            return self.error(400, None, "Invalid value for 'encoding_format'.", {}, param="encoding_format")
        return super().check(upstream, request)

    def encoding(self, request):
        return request.json.get("encoding_format", "float")

    def headers(self, upstream, request):
        return {"openai-model": request.model, "openai-organization": "user-mock", "openai-processing-ms": "1",
                "openai-version": "2020-10-01", "x-ratelimit-limit-requests": "3000",
                "x-ratelimit-limit-tokens": "1000000", "x-ratelimit-remaining-requests": "2999",
                "x-ratelimit-remaining-tokens": "999998", "x-ratelimit-reset-requests": "20ms",
                "x-ratelimit-reset-tokens": "0s", "x-request-id": "req_%032x" % request.number}

    def render(self, upstream, request, reply):
        return {"object": "list",
                "data": [{"object": "embedding", "index": row.index, "embedding": reply.value(row)} for row in reply.rows],
                "model": request.model, "usage": {"prompt_tokens": reply.tokens, "total_tokens": reply.tokens}}

    def error(self, status, code, message, headers, type=None, param=None, **_):
        type = type or OPENAI_TYPES.get(status, "server_error" if status >= 500 else "invalid_request_error")
        return Plain(status, {"error": {"message": message, "type": type, "param": param, "code": code}},
                     {"x-request-id": "req_error", **headers})

    def unauthorised(self):
        return self.error(401, "invalid_api_key", "Incorrect API key provided: sk-ups****cret. You can find your API key at "
                          "https://platform.openai.com/account/api-keys.", {})

    def no_model(self, model):
        return self.error(404, "model_not_found", "The model `%s` does not exist or you do not have access to it." % model,
                          {})

    def too_many(self, count, limit):
        return self.error(400, "array_above_max_length", "Invalid 'input': array too long. Expected an array with maximum "
                          "length %d, but got an array with length %d instead." % (limit, count), {}, param="input")

    def too_long(self, count, limit, index):
        return self.error(400, None, "This model's maximum context length is %d tokens, however you requested %d tokens (%d "
                          "in your prompt; 0 for the completion). Please reduce your prompt; or completion length."
                          % (limit, count, count), {})


class Azure(OpenAI):
    kind = "azure"
    members = {"input", "model", "encoding_format", "dimensions", "user", "input_type"}
    pattern = re.compile(r"/openai/deployments/([^/]+)/embeddings$")

    def matches(self, request):
        return request.method == "POST" and bool(self.pattern.fullmatch(request.path))

    def authorised(self, upstream, request):
        return request.headers.get("api-key") == upstream.key

    def model_of(self, upstream, request):
        return self.pattern.fullmatch(request.path).group(1)

    def check(self, upstream, request):
        if not request.query.get("api-version"):
            return self.error(404, "404", "Resource not found", {})
        return super().check(upstream, request)

    def unauthorised(self):
        return self.error(401, "401", "Access denied due to invalid subscription key or wrong API endpoint. Make sure to "
                          "provide a valid key for an active subscription and use a correct regional API endpoint for your "
                          "resource.", {})

    def no_model(self, model):
        return self.error(404, "DeploymentNotFound", "The API deployment for this resource does not exist. If you created "
                          "the deployment within the last 5 minutes, please wait a moment and try again.", {})


class Cohere(Form):
    kind, path, texts_member = "cohere", "/v2/embed", "texts"
    members = {"model", "texts", "input_type", "output_dimension", "embedding_types", "truncate", "max_tokens"}
    INPUT_TYPES = ("search_document", "search_query", "classification", "clustering", "image")

    def asked_dimension(self, request):
        return request.json.get("output_dimension")

    def check(self, upstream, request):
        if request.json.get("input_type") not in self.INPUT_TYPES:
            return self.error(400, None, "invalid request: valid input_type must be provided with the provided model", {})
        if request.json.get("truncate", "END") not in ("NONE", "START", "END"):
            return self.error(400, None, "invalid request: truncate must be one of NONE|START|END", {})
        if any(t not in ("float", "base64") for t in request.json.get("embedding_types", [])):
            return self.error(400, None, "invalid request: the mock has embedding_types float and base64", {})
        return super().check(upstream, request)

    def render(self, upstream, request, reply):
        wanted = request.json.get("embedding_types") or ["float"]
        embeddings = {}
        for name in wanted:
            reply.encoding = name
            embeddings[name] = [reply.value(row) for row in reply.rows]
        return {"id": "00000000-0000-4000-8000-%012d" % request.number, "embeddings": embeddings, "texts": request.texts,
                "meta": {"api_version": {"version": "2"}, "billed_units": {"input_tokens": reply.tokens}},
                "response_type": "embeddings_by_type"}

    def error(self, status, code, message, headers, **_):
        return Plain(status, {"id": "error", "message": message}, headers)

    def unauthorised(self):
        return self.error(401, None, "invalid api token", {})

    def no_model(self, model):
        return self.error(404, None, "model '%s' not found, make sure the correct model ID was used and that you have access "
                          "to the model." % model, {})

    def too_many(self, count, limit):
        return self.error(400, None, "invalid request: total number of texts must be at most %d - received %d"
                          % (limit, count), {})

    def too_long(self, count, limit, index):
        return self.error(400, None, "too many tokens: text at index %d has %d tokens, maximum is %d"
                          % (index, count, limit), {})


class Ollama(Form):
    kind, path, texts_member, needs_key = "ollama", "/api/embed", "input", False
    members = {"model", "input", "truncate", "dimensions", "keep_alive", "options"}

    def render(self, upstream, request, reply):
        return {"model": request.model, "embeddings": [reply.value(row) for row in reply.rows], "total_duration": 14143917,
                "load_duration": 1019500, "prompt_eval_count": reply.tokens}

    def error(self, status, code, message, headers, **_):
        return Plain(status, {"error": message}, headers)

    def no_model(self, model):
        return self.error(404, None, 'model "%s" not found, try pulling it first' % model, {})

    def too_long(self, count, limit, index):
        return self.error(400, None, "the input length exceeds the context length", {})


class HuggingFace(Form):
    kind, texts_member = "huggingface", "inputs"
    members = {"inputs", "normalize", "prompt_name", "truncate", "truncation_direction", "dimensions", "parameters",
               "options"}
    pattern = re.compile(r"(?:/hf-inference)?/models/(.+?)/pipeline/feature-extraction")

    def matches(self, request):
        return request.method == "POST" and bool(self.pattern.fullmatch(request.path))

    def model_of(self, upstream, request):
        return self.pattern.fullmatch(request.path).group(1)

    def prompt(self, upstream, request):
        return upstream.prompts.get(request.json.get("prompt_name"), "")

    def render(self, upstream, request, reply):
        rows = [reply.value(row) for row in reply.rows]
        if upstream.hf_shape == "tokens":  # three tokens, whose mean is the vector
            rows = [[[x + y for x, y in zip(row, row[::-1])], list(row), [x - y for x, y in zip(row, row[::-1])]]
                    for row in rows]
        bare = request.single and upstream.hf_shape in ("bare", "tokens") and len(rows) == 1
        return rows[0] if bare else rows

    def error(self, status, code, message, headers, estimated_time=None, **_):
        value = {"error": message}
        if estimated_time is not None:
            value["estimated_time"] = float(estimated_time)
        return Plain(status, value, headers)

    def unauthorised(self):
        return self.error(401, None, "Invalid credentials in Authorization header", {})

    def no_model(self, model):
        return self.error(404, None, "Model %s does not exist" % model, {})


class TEI(Form):
    kind, path, texts_member, needs_key = "tei", "/embed", "inputs", False
    members = {"inputs", "normalize", "prompt_name", "truncate", "truncation_direction", "dimensions"}
    TYPES = {429: "Overloaded", 424: "Backend", 503: "Unhealthy", 500: "Backend"}

    def matches(self, request):
        return super().matches(request) and isinstance(request.json, dict) and "texts" not in request.json

    def model_of(self, upstream, request):
        return upstream.served

    def prompt(self, upstream, request):
        return upstream.prompts.get(request.json.get("prompt_name"), "")

    def check(self, upstream, request):
        name = request.json.get("prompt_name")
        if name is not None and name not in upstream.prompts:
            return self.error(422, None, "default-prompt-name not found: prompt `%s` is not known" % name, {})
        return super().check(upstream, request)

    def render(self, upstream, request, reply):
        return [reply.value(row) for row in reply.rows]

    def headers(self, upstream, request):
        return {"x-compute-type": "cpu", "x-compute-time": "3", "x-total-time": "4", "x-queue-time": "0",
                "x-compute-characters": str(sum(len(t) for t in request.texts)),
                "x-compute-tokens": str(sum(upstream.tokens(t) for t in request.texts))}

    def error(self, status, code, message, headers, **_):
        return Plain(status, {"error": message, "error_type": self.TYPES.get(status, "Validation")}, headers)

    def too_many(self, count, limit):
        return self.error(422, None, "batch size %d > maximum allowed batch size %d" % (count, limit), {})

    def too_long(self, count, limit, index):
        return self.error(422, None, "`inputs` must have less than %d tokens. Given: %d" % (limit, count), {})


class Remote(Form):
    kind, path, texts_member, needs_key = "remote", "/embed", "texts", False
    members = {"texts", "batch_size", "model"}

    def matches(self, request):
        return super().matches(request) and isinstance(request.json, dict) and "texts" in request.json

    def model_of(self, upstream, request):
        return upstream.served

    def render(self, upstream, request, reply):
        return {"embeddings": [reply.value(row) for row in reply.rows], "model": upstream.served,
                "dimension": request.dimension}

    def error(self, status, code, message, headers, **_):
        return Plain(status, {"detail": message}, headers)


class Embedd(Form):
    kind, path, texts_member, needs_key = "embedd", "/api/v1/embeddings", "texts", True
    members = {"texts", "model", "context", "preferred_provider", "space", "input_type", "use_cache", "dimensions",
               "prompt_name", "normalize", "truncate", "category", "encoding_format"}

    def prompt(self, upstream, request):
        return upstream.prompts.get(request.json.get("prompt_name"), "")

    def space(self, upstream, request):
        if upstream.revision is None:
            return None
        length = "none" if request.json.get("normalize") is False else "l2"
        return "local/%s@%s:%d:mean:%s" % (request.model, upstream.revision, request.dimension or 0, length)

    def check(self, upstream, request):
        if request.json.get("input_type", "none") not in ("none", "query", "document"):
            return self.error(422, None, "input_type is none, query or document.", {}, param="input_type")
        failure = super().check(upstream, request)
        pinned = request.json.get("space")
        if not failure and pinned and upstream.keeps_pins and pinned != self.space(upstream, request):
            return self.error(409, "space_unavailable", "The space \"%s\" was asked for; what is here makes \"%s\", and "
                              "vectors of two spaces cannot be compared." % (pinned, self.space(upstream, request)), {})
        return failure

    def render(self, upstream, request, reply):
        space, model = self.space(upstream, request), request.model
        results = [{"index": row.index, "provider": "local", "model": model, "space": space, "cost_usd": 0,
                    "latency_ms": 1.5, "cached": False, "source": "computed", "tokens": 1,
                    "route": {"provider": "local", "reason": "local is the only provider of this service"}}
                   for row in reply.rows]
        named = {} if space is None else {"space": space}
        return {"embeddings": [reply.value(row) for row in reply.rows], "dimension": request.dimension, "provider": "local",
                "model": model, **named, "results": results, "cached_count": 0, "total_tokens": reply.tokens,
                "total_cost_usd": 0, "latency_ms": 1.5}

    def error(self, status, code, message, headers, param=None, **_):
        if status == 422:
            return Plain(422, {"detail": [{"loc": ["body"] + ([param] if param else []), "msg": message,
                                           "type": "value_error"}]}, headers)
        return Plain(status, {"detail": message}, headers)

    def unauthorised(self):
        return self.error(401, None, "The API key is missing or not known here.", {})


FORMS = {f.kind: f for f in (OpenAI(), Azure(), Cohere(), Ollama(), HuggingFace(), TEI(), Remote(), Embedd())}


def find(request):
    """The format of a request for embeddings, by its path; None for others."""
    return next((f for f in FORMS.values() if f.matches(request)), None)


def other(upstream, request):
    """What else clients ask: lists of models, health."""
    if request.method in ("GET", "HEAD"):
        if request.path in ("/v1/models", "/models"):
            return Plain(200, {"object": "list", "data": []})
        if request.path == "/info":
            return Plain(200, {"model_id": upstream.served, "max_client_batch_size": upstream.limits["tei"],
                               "max_input_length": upstream.max_text_tokens})
        if request.path in ("/", "/health", "/api/version", "/api/tags", "/api/v1/embeddings/health"):
            return Plain(200, b"" if request.method == "HEAD" else {"status": "ok"})
    return Plain(404, {"error": {"message": "Invalid URL (%s %s)" % (request.method, request.path),
                                 "type": "invalid_request_error", "param": None, "code": None}})
