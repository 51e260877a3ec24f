"""/openapi.json against what is served: every route is there, answers and errors are what it says, and the requests that
it gives as examples are taken."""
import unittest

import schema
from case import MODEL, Case

# A request that every route with a body takes; routes that are not here get what their schema suggests.
BODIES = {
    "/v1/embeddings": [{"input": "hello"}, {"input": ["a", "b"], "encoding_format": "base64"}, {"input": [101, 102]},
                       {"input": [[101, 102]], "model": MODEL, "dimensions": 12, "user": None}],
    "/openai/deployments/{model}/embeddings": [{"input": "hello"}],
    "/v1/embed": [{"texts": ["a"]}, {"texts": ["a"], "embedding_types": ["float", "int8", "ubinary", "base64"]}],
    "/v2/embed": [{"texts": ["a"], "input_type": "search_query", "embedding_types": ["float", "uint8", "binary", "base64"]}],
    "/api/embed": [{"model": MODEL, "input": "a"}, {"model": MODEL, "input": ["a", "b"], "truncate": False, "keep_alive": "1m"}],
    "/api/embeddings": [{"model": MODEL, "prompt": "a"}],
    "/api/show": [{"model": MODEL}],
}
PARAMETERS = {"{model}": MODEL, "{id}": MODEL, "{task}": "feature-extraction"}
CANNOT = {"/v1/rerank", "/v2/rerank", "/rerank", "/embed_sparse", "/predict"}  # while no model can: 4xx


def sample(s, document, name=""):
    """A value that the schema allows: its first example, or the plainest thing of its type."""
    while "$ref" in s:
        target = document
        for part in s["$ref"].lstrip("#/").split("/"):
            target = target[part]
        s = target
    for keyword, pick in (("examples", lambda v: v[0]), ("const", lambda v: v), ("enum", lambda v: v[0])):
        if keyword in s:
            return pick(s[keyword])
    for keyword in ("oneOf", "anyOf"):
        if keyword in s:
            return sample(s[keyword][0], document, name)
    kind = s.get("type", "object" if "properties" in s else "string")
    kind = kind if isinstance(kind, str) else kind[0]
    if kind == "object":
        return {n: sample(s["properties"][n], document, n) for n in s.get("required", ())}
    if kind == "array":
        return [sample(s.get("items", {}), document, name)]
    return {"integer": s.get("minimum", 1), "number": s.get("minimum", 1), "boolean": True, "null": None,
            "string": MODEL if name == "model" else "hello"}[kind]


def filled(path):
    for name, value in PARAMETERS.items():
        path = path.replace(name, value)
    return path


class Schema(Case):
    def setUp(self):
        self.document = self.get("/openapi.json")

    def operations(self):
        for path, methods in self.document["paths"].items():
            for method, operation in methods.items():
                yield path, method, operation

    def response_schema(self, operation, status):
        response = operation["responses"].get(str(status)) or operation["responses"]["default"]
        return response.get("content", {}).get("application/json", {}).get("schema")

    def check_answer(self, operation, path, method, body, **headers):
        status, fields, answer = self.service.request(method.upper(), path, body, headers=headers)
        what = "%s %s %.200r: %d %.300r" % (method, path, body, status, answer)
        self.assertLess(status, 500, what)
        wanted = self.response_schema(operation, status)
        if fields.get("content-type", "").startswith("application/json"):
            self.assertIsNotNone(wanted, what)
            try:
                schema.check(answer, wanted, self.document)
            except schema.Invalid as failure:
                self.fail("%s\n%s" % (what, failure))
        return status

    def test_document(self):
        self.assertEqual(self.document["openapi"], "3.1.0")
        ids = [o["operationId"] for _, _, o in self.operations()]
        self.assertEqual(len(ids), len(set(ids)))
        self.assertGreater(len(ids), 15)
        for path, method, o in self.operations():
            with self.subTest(path=path, method=method):
                self.assertTrue(o["summary"])
                names = {p["name"] for p in o["parameters"] if p.get("in") == "path"}
                self.assertEqual(names, {p[1:-1] for p in path.split("/") if p.startswith("{")})
                self.assertIn("200", o["responses"])

    def test_what_is_asked_as_it_says(self):
        for path, method, operation in self.operations():
            content = operation.get("requestBody", {}).get("content", {}).get("application/json")
            if content:
                bodies = BODIES.get(path, [sample(content["schema"], self.document)])
            else:
                bodies = [None]
            target = filled(path)
            self.assertNotIn("{", target, "the test knows no value for a parameter")
            for body in bodies:
                with self.subTest(path=path, method=method, body=body):
                    if body is not None:
                        schema.check(body, content["schema"], self.document, "request")
                    status = self.check_answer(operation, target, method, body)
                    if path in CANNOT:
                        self.assertGreaterEqual(status, 400)
                    elif method == "get" or path in BODIES:
                        self.assertEqual(status, 200)

    def test_what_is_asked_wrongly(self):
        """Errors of every kind have the family's schema, at every route with a body."""
        wrong = (b"", b"{", b"[]", b"null", b'"a"', b"{}", b'{"input":"\xff"}', b'{"a":NaN}', b"[" * 2000,
                 b'{"input":5,"texts":5,"text":5,"query":5,"prompt":5,"inputs":5,"model":5}',
                 b'{"input":"a\\u0000","texts":["\\u0000"],"text":"\\u0000","query":"\\u0000","prompt":"\\u0000","inputs":"\\u0000",'
                 b'"model":"' + MODEL.encode() + b'","input_type":"search_query","documents":["a"]}',
                 b'{"input":"a","texts":["a"],"text":"a","query":"a","prompt":"a","inputs":"a","model":"no/such",'
                 b'"input_type":"search_query","documents":["a"]}',
                 b'{"input":"a","texts":["a"],"text":"a","query":"a","prompt":"a","inputs":"a","dimensions":100000,'
                 b'"input_type":"search_query","documents":["a"]}')
        for path, method, operation in self.operations():
            if "requestBody" not in operation:
                continue
            for body in wrong:
                with self.subTest(path=path, body=body[:60]):
                    self.check_answer(operation, filled(path), method, body,
                                      **{"content-type": "application/json"})
            with self.subTest(path=path, type="xml"):
                self.assertEqual(self.check_answer(operation, filled(path), method, b"{}",
                                                   **{"content-type": "application/xml"}), 415)

    def test_page(self):
        page = self.get("/docs").decode()
        self.assertIn("/openapi.json", page)
        self.assertIn("default-src 'none'", self.headers["content-security-policy"])
        # nothing from elsewhere
        for mark in ("http://", "https://", "src=", "@import", "url("):
            self.assertNotIn(mark, page)
        self.assertEqual(self.get("/").decode(), page)


if __name__ == "__main__":
    unittest.main()
