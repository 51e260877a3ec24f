"""A JSON Schema validator for what /openapi.json uses; a keyword that it does not know is an error, not a pass."""
KNOWN = {"type", "properties", "required", "items", "prefixItems", "enum", "const", "oneOf", "anyOf", "allOf", "not", "$ref",
         "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "minItems", "maxItems", "minLength", "maxLength",
         "additionalProperties", "contentEncoding", "uniqueItems", "pattern", "minProperties", "maxProperties"}
NOTES = {"description", "title", "default", "examples", "example", "format", "deprecated", "readOnly", "contentMediaType"}
TYPES = {"string": str, "object": dict, "array": list, "boolean": bool, "null": type(None)}


class Invalid(AssertionError):
    pass


def is_type(value, name):
    if name == "number":
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    if name == "integer":
        return is_type(value, "number") and value == int(value)
    return isinstance(value, TYPES[name])


def check(value, schema, document, where="answer"):
    def fail(what):
        raise Invalid("%s: %s; it is %.200r" % (where, what, value))

    if schema is True:
        return
    if "$ref" in schema:
        target = document
        for part in schema["$ref"].lstrip("#/").split("/"):
            target = target[part]
        check(value, target, document, where)
    unknown = set(schema) - KNOWN - NOTES
    if unknown:
        raise Invalid("%s: the schema has keywords that the test does not know: %s" % (where, sorted(unknown)))
    names = schema.get("type")
    if names and not any(is_type(value, n) for n in ([names] if isinstance(names, str) else names)):
        fail("must be %s" % (names,))
    if "const" in schema and value != schema["const"]:
        fail("must be %r" % (schema["const"],))
    if "enum" in schema and not any(value == e and isinstance(value, bool) == isinstance(e, bool) for e in schema["enum"]):
        fail("must be one of %r" % (schema["enum"],))
    if is_type(value, "number"):
        for keyword, wrong in (("minimum", lambda v, b: v < b), ("maximum", lambda v, b: v > b),
                               ("exclusiveMinimum", lambda v, b: v <= b), ("exclusiveMaximum", lambda v, b: v >= b)):
            if keyword in schema and wrong(value, schema[keyword]):
                fail("%s %s" % (keyword, schema[keyword]))
    if isinstance(value, str) and not schema.get("minLength", 0) <= len(value) <= schema.get("maxLength", 1 << 62):
        fail("is too short or too long")
    if isinstance(value, list):
        if not schema.get("minItems", 0) <= len(value) <= schema.get("maxItems", 1 << 62):
            fail("has too few or too many items")
        for i, item in enumerate(value):
            check(item, schema.get("items", True), document, "%s[%d]" % (where, i))
    if isinstance(value, dict):
        for name in schema.get("required", ()):
            if name not in value:
                fail("has no %r" % name)
        properties = schema.get("properties", {})
        more = schema.get("additionalProperties", True)
        for name, item in value.items():
            if name in properties:
                check(item, properties[name], document, "%s.%s" % (where, name))
            elif more is False:
                fail("has %r, which it may not" % name)
            else:
                check(item, more, document, "%s.%s" % (where, name))
    for keyword, few, many in (("oneOf", 1, 1), ("anyOf", 1, 1 << 62), ("allOf", len(schema.get("allOf", ())), 1 << 62)):
        if keyword in schema:
            failures = []
            for option in schema[keyword]:
                try:
                    check(value, option, document, where)
                except Invalid as failure:
                    failures.append(str(failure))
            if not few <= len(schema[keyword]) - len(failures) <= many:
                fail("%s does not hold (%s)" % (keyword, "; ".join(failures)[:600]))
