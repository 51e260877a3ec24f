/*
 * gateway_form.c: the value of one member: parsed as its kind, then looked at in its form.
 *
 * Kinds are value.c's. A form says what a text must look like, or in which type a number is kept. Messages
 * are those of settings: place, value (not that of a secret), reason, what is allowed.
 */
#include "config/gateway_parts.h"

#include "base/error.h"
#include "base/utf8.h"

#include <stdio.h>
#include <string.h>

enum { WORD_MAX_BYTES = 64, TEXT_MAX_BYTES = 4096 };

typedef struct input {
    const emb_member *member;
    const emb_origin *origin;
    const char *text;
    size_t length;
    emb_error *err;
} input;

static emb_status refuse(const input *in, const char *problem)
{
    return emb_value_refuse(&in->member->setting, in->origin, in->text, in->length, problem, in->err);
}

static emb_status keep(emb_config_state *state, const input *in, void *field)
{
    const char *copy = emb_arena_strndup(&state->arena, in->text, in->length);
    if (!copy)
        return emb_fail_nomem(in->err, "configuration", in->length + 1);
    *(const char **)field = copy;
    return EMB_OK;
}

static bool all_of(const char *text, size_t length, const char *others)
{
    for (size_t i = 0; i < length; i++) {
        char c = text[i];
        bool word = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
        if (!word && (!c || !strchr(others, c)))
            return false;
    }
    return true;
}

static bool all_printable(const char *text, size_t length)
{
    for (size_t i = 0; i < length; i++)
        if (text[i] <= ' ' || text[i] > '~')
            return false;
    return true;
}

/* ---- addresses ---- */

static bool begins(const char *text, const char *prefix)
{
    return strncasecmp(text, prefix, strlen(prefix)) == 0;
}

/* NULL: it is good. `value` has its end. */
static const char *url_problem(const char *value, bool proxy, bool secret)
{
    bool web = begins(value, "http://") || begins(value, "https://");
    bool socks = proxy && (begins(value, "socks5://") || begins(value, "socks5h://"));
    if (!web && !socks)
        return proxy ? "begins with none of http://, https://, socks5://, socks5h://"
                     : "does not begin with http:// or https://";
    if (strpbrk(value, " \"<>\\^`{|}") || !all_printable(value, strlen(value)))
        return "holds a character that no URL has";
    const char *host = strstr(value, "://") + 3;
    size_t authority = strcspn(host, "/?#");
    if (!authority || *host == ':')
        return "names no host";
    if (!secret && memchr(host, '@', authority))
        return "holds a user name or password, which would be shown in logs; leave it out of the address";
    return NULL;
}

static emb_status set_url(emb_config_state *state, const input *in, const char **field)
{
    bool proxy = in->member->form == EMB_FORM_PROXY;
    emb_status status = keep(state, in, field);
    if (status || (proxy && !**field))
        return status;
    const char *problem = url_problem(*field, proxy, in->member->setting.secret);
    if (problem && strstr(problem, "password")) /* do not show it */
        return emb_fail(in->err, EMB_E_INVALID, in->origin->subject, "%s: the address %s",
                        in->origin->subject, problem);
    if (problem)
        return refuse(in, problem);
    char *end = (char *)*field + strlen(*field);
    while (!proxy && end[-1] == '/') /* a host stands before */
        *--end = 0;
    return EMB_OK;
}

/* ---- texts ---- */

static const char *text_problem(const input *in)
{
    switch (in->member->form) {
    case EMB_FORM_WORD:
        if (!in->length || in->length > WORD_MAX_BYTES || !all_of(in->text, in->length, "._-"))
            return "is not a word; allowed: 1 to 64 letters, digits, '_', '-' and '.'";
        return NULL;
    case EMB_FORM_MODEL:
    case EMB_FORM_SCOPE:
        return in->length && in->length <= 256 && all_printable(in->text, in->length)
                   ? NULL
                   : "is not a name; allowed: 1 to 256 characters of ASCII without spaces";
    case EMB_FORM_OPAQUE:
        return in->length && in->length <= TEXT_MAX_BYTES && all_printable(in->text, in->length)
                   ? NULL
                   : "is empty, too long, or holds a space or a character outside ASCII";
    case EMB_FORM_FILLED:
        return in->length ? NULL : "is empty";
    default:
        return NULL;
    }
}

/* Line breaks and tabs are allowed here, as in "Instruct: …\nQuery: ". */
static emb_status set_lines(emb_config_state *state, const input *in, void *field)
{
    if (emb_utf8_valid_prefix(in->text, in->length) != in->length)
        return refuse(in, "is not valid UTF-8");
    for (size_t i = 0; i < in->length; i++) {
        unsigned char c = (unsigned char)in->text[i];
        if ((c < 0x20 && c != '\n' && c != '\t') || c == 0x7f)
            return refuse(in, "holds a control character");
    }
    if (in->length > TEXT_MAX_BYTES)
        return refuse(in, "is too long; allowed: 4096 bytes");
    return keep(state, in, field);
}

static emb_status set_text(emb_config_state *state, const input *in, void *field)
{
    if (in->member->form == EMB_FORM_LINES)
        return set_lines(state, in, field);
    const char *problem = text_problem(in);
    if (!problem && in->length > TEXT_MAX_BYTES)
        problem = "is too long; allowed: 4096 bytes";
    if (!problem && strcmp(in->member->setting.path, "encoding") == 0 && in->length &&
        (in->length != 11 || memcmp(in->text, "cl100k_base", 11) != 0))
        problem = "is not an encoding; allowed: cl100k_base, or an empty text";
    if (problem)
        return refuse(in, problem);
    emb_status status =
        emb_value_set(&state->arena, &in->member->setting, field, in->origin, in->text, in->length, in->err);
    bool url = in->member->form == EMB_FORM_URL || in->member->form == EMB_FORM_PROXY;
    return !status && url ? set_url(state, in, field) : status;
}

/* ---- numbers and choices ---- */

static emb_status set_money(const input *in, uint64_t *field)
{
    char problem[96];
    uint64_t nusd;
    double most = in->member->setting.maximum;
    switch (emb_money_parse(in->text, in->length, &nusd)) {
    case EMB_MONEY_READ:
        if (nusd <= (uint64_t)(most * 1e9)) {
            *field = nusd;
            return EMB_OK;
        } /* fall through */
    case EMB_MONEY_TOO_LARGE:
        snprintf(problem, sizeof problem, "is out of range; allowed: 0 to %.0f dollars", most);
        break;
    case EMB_MONEY_TOO_FINE:
        snprintf(problem, sizeof problem,
                 "is finer than a nano-dollar, 0.000000001; allowed: 0 to %.0f dollars", most);
        break;
    default:
        snprintf(problem, sizeof problem, "is not an amount; allowed: 0 to %.0f dollars, such as 0.00002",
                 most);
    }
    emb_setting without_range = in->member->setting;
    without_range.kind = EMB_SETTING_TEXT;
    return emb_value_refuse(&without_range, in->origin, in->text, in->length, problem, in->err);
}

static emb_status set_severity(emb_config_state *state, const input *in, const char **field)
{
    int index;
    emb_status status =
        emb_value_set(&state->arena, &in->member->setting, &index, in->origin, in->text, in->length, in->err);
    return status ? status : keep(state, in, field);
}

emb_status emb_member_set(emb_config_state *state, const emb_member *member, void *draft,
                          const emb_origin *origin, const char *text, size_t length, emb_error *err)
{
    input in = {member, origin, text, length, err};
    void *field = emb_member_field(member, draft);
    size_t number = 0;
    int index = 0;
    emb_status status;
    switch (member->form) {
    case EMB_FORM_MONEY:
        return set_money(&in, field);
    case EMB_FORM_SEVERITY:
        return set_severity(state, &in, field);
    case EMB_FORM_UINT:
        status = emb_value_set(&state->arena, &member->setting, &number, origin, text, length, err);
        if (!status)
            *(uint32_t *)field = (uint32_t)number;
        return status;
    case EMB_FORM_KIND:
        status = emb_value_set(&state->arena, &member->setting, &index, origin, text, length, err);
        if (!status)
            *(emb_provider_kind *)field = (emb_provider_kind)(index + 1);
        return status;
    default:
        break;
    }
    if (member->setting.kind == EMB_SETTING_TEXT)
        return set_text(state, &in, field);
    return emb_value_set(&state->arena, &member->setting, field, origin, text, length, err);
}
