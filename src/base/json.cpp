/*
 * JSON in: simdjson's DOM behind plain C handles. A dom::element is a document pointer and an index on
 * its tape, two words, trivially copyable; so is a handle, and converting is a copy of 16 bytes (checked
 * below). The parser's own memory is dropped after parsing; only tape and strings stay.
 * simdjson was measured at 10 times yajl and 30 times cJSON's rate with strict validation; a C parser
 * with string lengths and strict UTF-8 of comparable care was not found in the distribution.
 */
#include "base/json.h"

extern "C" {
#include "base/error.h"
#include "base/file.h"
}

#include <cstdlib>
#include <cstring>
#include <new>
#include <simdjson.h>
#include <type_traits>

using simdjson::dom::element;

static_assert(sizeof(element) == sizeof(emb_json_value), "an element is two words");
static_assert(std::is_trivially_copyable<element>::value, "handles are copies");
static_assert(sizeof(simdjson::dom::array::iterator) == 16, "an iterator is two words");
static_assert(sizeof(simdjson::dom::object::iterator) == 16, "an iterator is two words");

struct emb_json {
    simdjson::dom::document document;
    emb_json_value root;
};

namespace {

template <class T> T restore(const uint64_t *words)
{
    alignas(T) unsigned char bytes[sizeof(T)];
    std::memcpy(bytes, words, sizeof(T));
    T value;
    std::memcpy(static_cast<void *>(&value), bytes, sizeof(T));
    return value;
}

element as_element(emb_json_value value)
{
    return restore<element>(value.opaque);
}

emb_json_value as_value(element e)
{
    emb_json_value value;
    std::memcpy(value.opaque, static_cast<const void *>(&e), sizeof value);
    return value;
}

emb_status parse_error(simdjson::error_code code, const char *where, emb_error *err)
{
    if (code == simdjson::MEMALLOC)
        return emb_fail_nomem(err, where, 0);
    if (code == simdjson::CAPACITY)
        return emb_fail(err, EMB_E_LIMIT, where, "%s: JSON document is too large", where);
    return emb_fail(err, EMB_E_CORRUPT, where, "%s: not valid JSON: %s", where, simdjson::error_message(code));
}

/* simdjson refuses integers beyond 64 bits, and most published tokenizer_config.json hold one
 * (model_max_length 1000000000000000019884624838656). Gives a copy in which integers of 19 digits and more
 * are written as 1…e0, which reads as a double; nullptr if there are none or memory is short. */
char *spell_long_integers(const char *text, size_t length, size_t *out_length)
{
    enum { FEW_DIGITS = 18 };
    std::size_t long_ones = 0;
    char *out = nullptr;
    for (int pass = 0; pass < 2; pass++) {
        bool in_string = false;
        size_t to = 0;
        for (size_t i = 0; i < length;) {
            size_t digits = 0;
            while (!in_string && i + digits < length && text[i + digits] >= '0' && text[i + digits] <= '9')
                digits++;
            size_t take = digits ? digits : 1;
            if (digits == 0 && text[i] == '"')
                in_string = !in_string;
            else if (in_string && text[i] == '\\' && i + 1 < length)
                take = 2;
            if (out)
                std::memcpy(out + to, text + i, take);
            to += take;
            char before = i ? text[i - 1] : ' ', before2 = i > 1 ? text[i - 2] : ' ';
            bool fraction = before == '.' || before == 'e' || before == 'E' || before == '+' ||
                            (before == '-' && (before2 == 'e' || before2 == 'E'));
            i += take;
            bool ends = i == length || (text[i] != '.' && text[i] != 'e' && text[i] != 'E');
            if (digits > FEW_DIGITS && !fraction && ends) {
                if (out)
                    std::memcpy(out + to, "e0", 2);
                to += 2;
                long_ones++;
            }
        }
        *out_length = to;
        if (pass == 0 && (long_ones == 0 || !(out = static_cast<char *>(std::malloc(to)))))
            return nullptr;
    }
    return out;
}

simdjson::error_code parse(simdjson::dom::document &document, const char *text, size_t length, element &root)
{
    simdjson::dom::parser parser;
    return parser.parse_into_document(document, reinterpret_cast<const uint8_t *>(text), length, true).get(root);
}

} // namespace

/* Documents allocate through new(nothrow), but the detection of the CPU on first use builds its tables with
 * plain new inside noexcept functions: failing there would end the process. So it runs when the library is
 * loaded, like the C++ runtime's own allocations, and a call finds it done. */
static const simdjson::implementation *detect_now()
{
    const simdjson::implementation *active = simdjson::get_active_implementation();
    return active->name().empty() ? nullptr : active;
}
__attribute__((used)) static const simdjson::implementation *const detected = detect_now();

extern "C" emb_status emb_json_open(const char *text, size_t length, const char *where, emb_json **out,
                                    emb_error *err)
{
    if (length >= 0xFFFFFFFFu)
        return emb_fail(err, EMB_E_LIMIT, where, "%s: %zu bytes of JSON, at most 4294967294 are read", where, length);
    emb_json *doc = new (std::nothrow) emb_json;
    if (!doc)
        return emb_fail_nomem(err, where, sizeof *doc);
    element root;
    auto code = parse(doc->document, text, length, root);
    if (code == simdjson::NUMBER_ERROR) {
        size_t respelled_length;
        char *respelled = spell_long_integers(text, length, &respelled_length);
        if (respelled && respelled_length < 0xFFFFFFFFu)
            code = parse(doc->document, respelled, respelled_length, root);
        std::free(respelled);
    }
    if (code) {
        delete doc;
        return parse_error(code, where, err);
    }
    doc->root = as_value(root);
    *out = doc;
    return EMB_OK;
}

extern "C" emb_status emb_json_open_file(const char *path, size_t max_bytes, emb_json **out, emb_error *err)
{
    char *text;
    size_t length;
    emb_status status = emb_read_file(path, max_bytes, &text, &length, err);
    if (status)
        return status;
    status = emb_json_open(text, length, path, out, err);
    std::free(text);
    return status;
}

extern "C" void emb_json_close(emb_json *doc)
{
    delete doc;
}

extern "C" emb_json_value emb_json_root(const emb_json *doc)
{
    return doc->root;
}

extern "C" emb_json_type emb_json_type_of(emb_json_value value)
{
    switch (as_element(value).type()) {
    case simdjson::dom::element_type::ARRAY:
        return EMB_JSON_ARRAY;
    case simdjson::dom::element_type::OBJECT:
        return EMB_JSON_OBJECT;
    case simdjson::dom::element_type::INT64:
    case simdjson::dom::element_type::UINT64:
    case simdjson::dom::element_type::DOUBLE:
        return EMB_JSON_NUMBER;
    case simdjson::dom::element_type::STRING:
        return EMB_JSON_STRING;
    case simdjson::dom::element_type::BOOL:
        return EMB_JSON_BOOL;
    default:
        return EMB_JSON_NULL;
    }
}

extern "C" const char *emb_json_type_name(emb_json_type type)
{
    static const char *const names[] = {"null", "a boolean", "a number", "a string", "an array", "an object"};
    return type <= EMB_JSON_OBJECT ? names[type] : "unknown";
}

extern "C" bool emb_json_get(emb_json_value object, const char *key, emb_json_value *out)
{
    element found;
    simdjson::dom::object members;
    if (as_element(object).get(members) || members.at_key(key).get(found))
        return false;
    *out = as_value(found);
    return true;
}

extern "C" bool emb_json_string(emb_json_value value, const char **text, size_t *length)
{
    std::string_view view;
    if (as_element(value).get(view))
        return false;
    *text = view.data();
    *length = view.size();
    return true;
}

extern "C" bool emb_json_string_is(emb_json_value value, const char *text)
{
    std::string_view view;
    return !as_element(value).get(view) && view == text;
}

extern "C" bool emb_json_bool(emb_json_value value, bool *out)
{
    bool found;
    if (as_element(value).get(found))
        return false;
    *out = found;
    return true;
}

extern "C" bool emb_json_int(emb_json_value value, int64_t *out)
{
    int64_t found;
    double real;
    element e = as_element(value);
    if (!e.get(found)) {
        *out = found;
        return true;
    }
    /* "512.0" is an integer too */
    if (e.get(real) || !(real >= -9007199254740992.0 && real <= 9007199254740992.0) ||
        real != static_cast<double>(static_cast<int64_t>(real)))
        return false;
    *out = static_cast<int64_t>(real);
    return true;
}

extern "C" bool emb_json_double(emb_json_value value, double *out)
{
    double found;
    if (as_element(value).get(found))
        return false;
    *out = found;
    return true;
}

extern "C" size_t emb_json_count(emb_json_value value)
{
    const size_t saturated = 0xFFFFFF; /* simdjson's count stops here */
    size_t count = 0;
    simdjson::dom::array array;
    simdjson::dom::object object;
    element e = as_element(value);
    if (!e.get(array))
        count = array.size();
    else if (!e.get(object))
        count = object.size();
    if (count < saturated)
        return count;
    count = 0;
    emb_json_iter it = emb_json_begin(value);
    emb_json_value ignored;
    while (emb_json_next(&it, nullptr, nullptr, &ignored))
        count++;
    return count;
}

/* opaque: document, position, end position, 1 for an object */
extern "C" emb_json_iter emb_json_begin(emb_json_value value)
{
    emb_json_iter it = {{0, 0, 0, 0}};
    uint64_t end[2] = {0, 0};
    element e = as_element(value);
    simdjson::dom::array array;
    simdjson::dom::object object;
    if (!e.get(array)) {
        auto first = array.begin(), last = array.end();
        std::memcpy(it.opaque, static_cast<const void *>(&first), 16);
        std::memcpy(end, static_cast<const void *>(&last), 16);
    } else if (!e.get(object)) {
        auto first = object.begin(), last = object.end();
        std::memcpy(it.opaque, static_cast<const void *>(&first), 16);
        std::memcpy(end, static_cast<const void *>(&last), 16);
        it.opaque[3] = 1;
    }
    it.opaque[2] = end[1];
    return it;
}

extern "C" bool emb_json_next(emb_json_iter *it, const char **key, size_t *key_length, emb_json_value *value)
{
    if (it->opaque[1] == it->opaque[2])
        return false;
    if (it->opaque[3]) {
        auto here = restore<simdjson::dom::object::iterator>(it->opaque);
        std::string_view name = here.key();
        if (key)
            *key = name.data();
        if (key_length)
            *key_length = name.size();
        *value = as_value(here.value());
        ++here;
        std::memcpy(it->opaque, static_cast<const void *>(&here), 16);
    } else {
        auto here = restore<simdjson::dom::array::iterator>(it->opaque);
        if (key)
            *key = nullptr;
        *value = as_value(*here);
        ++here;
        std::memcpy(it->opaque, static_cast<const void *>(&here), 16);
    }
    return true;
}
