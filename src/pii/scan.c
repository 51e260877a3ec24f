/*
 * scan.c: the scanner: opening, the walk over a text, and what happens to candidates.
 *
 * The walk skips bytes that no kind is anchored on (a table of 256) and calls the recognisers at the others.
 * Anchors are rare in prose: digits, "@", ":", "-", "_", ".", and the capitals J, K, S, z of a few keys. A
 * run of digits is one anchor. Each recogniser looks at a bounded stretch, or, as secret.c says, at bytes
 * that no other call looks at: linear time for any text. Regular expressions for all kinds (Presidio, PCRE2)
 * were rejected for speed and for their worst case.
 *
 * Custom patterns are PCRE2, tried in step with the walk; the number of steps per starting point is limited,
 * and a pattern that reaches the limit is not applied to the rest of the text (progress->gave_up). Its blocks
 * come from a buffer on the stack.
 *
 * Candidates wait in view.pending until nothing that is still to come can overlap them: recognisers look
 * behind at most EMB_PII_BEHIND bytes.
 */
#include "pii/parts.h"

#include "base/error.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include <stdlib.h>

enum { NAME_MAX_BYTES = 32, STEPS = 20000, ARENA_BYTES = 24 << 10 };

struct emb_pii {
    bool hot[256];
    uint32_t kinds;
    size_t patterns;
    char names[EMB_PII_PATTERNS_MAX][NAME_MAX_BYTES + 1];
    pcre2_code *code[EMB_PII_PATTERNS_MAX];
    pcre2_match_context *limits;
};

static const char *const kind_names[EMB_PII_KINDS] = {
    "email",          "phone",         "us_ssn",          "us_itin",    "credit_card", "iban",
    "us_routing",     "passport",      "driving_licence", "ip_address", "mac_address", "birth_date",
    "street_address", "crypto_wallet", "api_key",         "private_key"};

const char *emb_pii_kind_name(const emb_pii *scanner, uint32_t kind)
{
    if (kind < EMB_PII_KINDS)
        return kind_names[kind];
    return scanner && kind - EMB_PII_KINDS < scanner->patterns ? scanner->names[kind - EMB_PII_KINDS] : NULL;
}

const char *emb_pii_confidence_name(emb_pii_confidence confidence)
{
    return confidence == EMB_PII_BY_PATTERN   ? "pattern"
           : confidence == EMB_PII_BY_CONTEXT ? "context"
                                              : "checksum";
}

/* ---- opening ---- */

static emb_status read_kinds(const char *list, uint32_t *kinds, emb_error *err)
{
    *kinds = 0;
    for (; *list; list += *list == ',') {
        list += strspn(list, " ");
        size_t n = strcspn(list, ","), trimmed = n, kind = 0;
        while (trimmed && list[trimmed - 1] == ' ')
            trimmed--;
        while (kind < EMB_PII_KINDS &&
               !(strlen(kind_names[kind]) == trimmed && memcmp(kind_names[kind], list, trimmed) == 0))
            kind++;
        if (kind == EMB_PII_KINDS)
            return emb_fail(err, EMB_E_INVALID, "kinds",
                            "\"%.*s\" is not a kind; there are email, phone, us_ssn, us_itin, credit_card, "
                            "iban, us_routing, "
                            "passport, driving_licence, ip_address, mac_address, birth_date, street_address, "
                            "crypto_wallet, "
                            "api_key and private_key",
                            (int)(trimmed < 40 ? trimmed : 40), list);
        *kinds |= 1u << kind;
        list += n;
    }
    return EMB_OK;
}

static emb_status add_pattern(emb_pii *s, const emb_pii_pattern *p, emb_error *err)
{
    int code;
    PCRE2_SIZE offset;
    PCRE2_UCHAR message[120];
    size_t n = strlen(p->name);
    if (n == 0 || n > NAME_MAX_BYTES || p->name[strspn(p->name, "abcdefghijklmnopqrstuvwxyz0123456789_")])
        return emb_fail(err, EMB_E_INVALID, "patterns",
                        "\"%.40s\" is not a name of 1 to %d small letters, digits and _", p->name,
                        NAME_MAX_BYTES);
    for (uint32_t kind = 0; kind < EMB_PII_KINDS + s->patterns; kind++)
        if (strcmp(emb_pii_kind_name(s, kind), p->name) == 0)
            return emb_fail(err, EMB_E_INVALID, "patterns", "there is a kind \"%s\" already", p->name);
    s->code[s->patterns] = pcre2_compile((PCRE2_SPTR)p->regex, PCRE2_ZERO_TERMINATED, PCRE2_NEVER_BACKSLASH_C,
                                         &code, &offset, NULL);
    if (!s->code[s->patterns]) {
        if (code == PCRE2_ERROR_HEAP_FAILED || code == PCRE2_ERROR_NOMEMORY)
            return emb_fail_nomem(err, "a pattern", strlen(p->regex));
        pcre2_get_error_message(code, message, sizeof message);
        return emb_fail(err, EMB_E_INVALID, "patterns", "%s: %s at byte %zu of the expression", p->name,
                        (const char *)message, (size_t)offset);
    }
    memcpy(s->names[s->patterns++], p->name, n + 1);
    return EMB_OK;
}

static void set_hot(emb_pii *s)
{
    const char *bytes[EMB_PII_KINDS] = {[EMB_PII_EMAIL] = "@",
                                        [EMB_PII_IP_ADDRESS] = ":",
                                        [EMB_PII_MAC_ADDRESS] = ":-.",
                                        [EMB_PII_API_KEY] = "-_KSzJ",
                                        [EMB_PII_PRIVATE_KEY] = "-"};
    for (size_t kind = 0; kind < EMB_PII_KINDS; kind++)
        for (const char *b = bytes[kind]; b && s->kinds >> kind & 1 && *b; b++)
            s->hot[(unsigned char)*b] = true;
    const uint32_t without_digits =
        1u << EMB_PII_EMAIL | 1u << EMB_PII_MAC_ADDRESS | 1u << EMB_PII_API_KEY | 1u << EMB_PII_PRIVATE_KEY;
    for (int c = '0'; c <= '9' && s->kinds & ~without_digits; c++)
        s->hot[c] = true;
}

emb_status emb_pii_open(emb_pii **out, const emb_pii_options *o, emb_error *err)
{
    emb_status status = EMB_OK;
    emb_pii *s = calloc(1, sizeof *s);
    *out = NULL;
    if (!s)
        return emb_fail_nomem(err, "the scanner", sizeof *s);
    s->kinds = (1u << EMB_PII_KINDS) - 1;
    if (o->kinds)
        status = read_kinds(o->kinds, &s->kinds, err);
    if (!status && o->pattern_count > EMB_PII_PATTERNS_MAX)
        status = emb_fail(err, EMB_E_LIMIT, "patterns", "%zu are more than the %d that a scanner can have",
                          o->pattern_count, EMB_PII_PATTERNS_MAX);
    if (!status && o->pattern_count && !(s->limits = pcre2_match_context_create(NULL)))
        status = emb_fail_nomem(err, "the limits of patterns", 0);
    if (s->limits) {
        pcre2_set_match_limit(s->limits, STEPS);
        pcre2_set_heap_limit(s->limits, ARENA_BYTES >> 10);
    }
    for (size_t i = 0; i < o->pattern_count && !status; i++)
        status = add_pattern(s, &o->patterns[i], err);
    if (status) {
        emb_pii_close(s);
        return status;
    }
    set_hot(s);
    *out = s;
    return EMB_OK;
}

void emb_pii_close(emb_pii *s)
{
    if (!s)
        return;
    for (size_t i = 0; i < s->patterns; i++)
        pcre2_code_free(s->code[i]);
    pcre2_match_context_free(s->limits);
    free(s);
}

/* ---- candidates ---- */

/* Mail, keys: their form says more than a checksum that digits inside of them happen to have. */
static unsigned weight(const emb_pii_finding *f)
{
    bool whole = f->kind == EMB_PII_EMAIL || f->kind == EMB_PII_API_KEY || f->kind == EMB_PII_PRIVATE_KEY;
    return whole ? 5 + (f->kind != EMB_PII_EMAIL) : 2 * (unsigned)f->confidence;
}

static bool beats(const emb_pii_finding *a, const emb_pii_finding *b)
{
    return weight(a) != weight(b) ? weight(a) > weight(b) : a->end - a->start > b->end - b->start;
}

void emb_pii_add(emb_pii_view *v, uint32_t kind, size_t start, size_t end, emb_pii_confidence confidence)
{
    emb_pii_finding f = {start, end, kind, confidence}, *p = v->pending;
    size_t first = v->pending_count;
    if (start < v->floor || start >= end)
        return;
    while (first > 0 && p[first - 1].end > start)
        first--;
    size_t last = first;
    for (; last < v->pending_count && p[last].start < end; last++)
        if (!beats(&f, &p[last]))
            return;
    if (first == last && v->pending_count == EMB_PII_PENDING) {
        v->crowded = true;
        return;
    }
    memmove(p + first + 1, p + last, (v->pending_count - last) * sizeof *p);
    p[first] = f;
    v->pending_count = v->pending_count + 1 - (last - first);
}

/* Moves out what ends before `safe`. */
static size_t flush(emb_pii_view *v, size_t safe, emb_pii_finding *out, size_t room)
{
    size_t n = 0;
    while (n < v->pending_count && n < room && v->pending[n].end <= safe)
        n++;
    if (!n)
        return 0;
    memcpy(out, v->pending, n * sizeof *out);
    v->floor = v->pending[n - 1].end;
    v->pending_count -= n;
    memmove(v->pending, v->pending + n, v->pending_count * sizeof *v->pending);
    return n;
}

/* ---- custom patterns ---- */

typedef struct arena {
    size_t used;
    _Alignas(16) unsigned char bytes[ARENA_BYTES];
} arena;

static void *take(PCRE2_SIZE size, void *opaque)
{
    arena *a = opaque;
    size = (size + 15) & ~(size_t)15;
    if (size > sizeof a->bytes - a->used)
        return NULL;
    a->used += size;
    return a->bytes + a->used - size;
}

static void leave(void *block, void *opaque)
{
    (void)block;
    (void)opaque;
}

/* The next match of one pattern from `from` on; false: none, or *gave_up. */
static bool next_match(const emb_pii *s, size_t pattern, const emb_pii_view *v, size_t from,
                       emb_pii_finding *f, bool *gave_up)
{
    arena a;
    a.used = 0;
    pcre2_general_context *general = pcre2_general_context_create(take, leave, &a);
    pcre2_match_data *data = general ? pcre2_match_data_create(1, general) : NULL;
    int rc = data ? pcre2_match(s->code[pattern], v->s, v->length, from, PCRE2_NOTEMPTY, data, s->limits)
                  : PCRE2_ERROR_NOMEMORY;
    if (rc < 0) {
        *gave_up = *gave_up || rc != PCRE2_ERROR_NOMATCH;
        return false;
    }
    PCRE2_SIZE *o = pcre2_get_ovector_pointer(data);
    *f = (emb_pii_finding){o[0], o[1], EMB_PII_KINDS + (uint32_t)pattern, EMB_PII_BY_PATTERN};
    return o[0] < o[1] && o[0] >= from;
}

/* ---- the walk ---- */

static size_t at_digit(emb_pii_view *v, size_t i)
{
    size_t run = i + 1;
    while (emb_pii_digit(emb_pii_at(v, run)))
        run++;
    if (emb_pii_wants(v, EMB_PII_IBAN))
        emb_pii_iban(v, i);
    if (emb_pii_wants(v, EMB_PII_CRYPTO_WALLET))
        emb_pii_wallet(v, i);
    if (run - i <= 3 && emb_pii_wants(v, EMB_PII_IP_ADDRESS))
        emb_pii_ipv4(v, i);
    if ((run - i <= 4 || run - i == 8) && emb_pii_wants(v, EMB_PII_BIRTH_DATE))
        emb_pii_birth_date(v, i);
    if (run - i <= 6 && emb_pii_wants(v, EMB_PII_STREET_ADDRESS))
        emb_pii_street(v, i);
    if (v->kinds & (1u << EMB_PII_PASSPORT | 1u << EMB_PII_DRIVING_LICENCE))
        emb_pii_document(v, i);
    const uint32_t numbers = 1u << EMB_PII_PHONE | 1u << EMB_PII_US_SSN | 1u << EMB_PII_US_ITIN |
                             1u << EMB_PII_CREDIT_CARD | 1u << EMB_PII_US_ROUTING;
    size_t end = v->kinds & numbers ? emb_pii_number(v, i) : 0;
    return end > run ? end : run;
}

static size_t at_anchor(emb_pii_view *v, size_t i)
{
    unsigned char c = v->s[i];
    if (emb_pii_digit(c))
        return emb_pii_digit(emb_pii_before(v, i)) && i > v->floor ? i + 1 : at_digit(v, i);
    if (c == '@' && emb_pii_wants(v, EMB_PII_EMAIL))
        emb_pii_email(v, i);
    if (c == ':')
        emb_pii_colon(v, i);
    if ((c == '-' || c == '.') && emb_pii_wants(v, EMB_PII_MAC_ADDRESS))
        emb_pii_mac(v, i);
    size_t end = c != '@' && c != ':' && c != '.' ? emb_pii_secret(v, i) : 0;
    return end > i ? end : i + 1;
}

/* Custom matches that begin up to `i` become candidates; `ahead` has the next of each. */
static void add_custom(const emb_pii *s, emb_pii_view *v, emb_pii_finding *ahead, size_t i, bool *gave_up)
{
    for (size_t k = 0; k < s->patterns; k++)
        while (ahead[k].start <= i && ahead[k].end) {
            size_t from = ahead[k].end;
            emb_pii_add(v, ahead[k].kind, ahead[k].start, ahead[k].end, EMB_PII_BY_PATTERN);
            if (v->crowded)
                return;
            if (!next_match(s, k, v, from, &ahead[k], gave_up))
                ahead[k].end = 0;
        }
}

size_t emb_pii_scan(const emb_pii *s, const char *text, size_t length, emb_pii_finding *findings,
                    size_t capacity, emb_pii_progress *progress)
{
    emb_pii_progress own = {0};
    emb_pii_progress *p = progress ? progress : &own;
    emb_pii_view v;
    emb_pii_finding ahead[EMB_PII_PATTERNS_MAX];
    size_t count = 0, i = p->next;
    v.s = (const unsigned char *)text;
    v.length = length;
    v.floor = p->next;
    v.kinds = s->kinds;
    v.pending_count = 0;
    v.crowded = false;
    for (size_t k = 0; k < s->patterns; k++)
        if (i > length || !next_match(s, k, &v, i, &ahead[k], &p->gave_up))
            ahead[k].end = 0;
    while (i < length) {
        while (i < length && !s->hot[v.s[i]])
            i++;
        if (v.pending_count)
            count +=
                flush(&v, i > EMB_PII_BEHIND ? i - EMB_PII_BEHIND : 0, findings + count, capacity - count);
        if (s->patterns)
            add_custom(s, &v, ahead, i, &p->gave_up);
        if (i < length)
            i = at_anchor(&v, i);
        if (v.crowded || count == capacity)
            break;
    }
    count += flush(&v, length, findings + count, capacity - count);
    bool done = !v.pending_count && !v.crowded && i >= length;
    p->next = done ? length : v.floor;
    return count;
}
