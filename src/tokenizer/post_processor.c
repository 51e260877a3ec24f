/*
 * post_processor.c: BertProcessing, RobertaProcessing, TemplateProcessing, ByteLevel and Sequence, for
 * single texts.
 *
 * Whatever a post-processor does to a single text is: ids in front, ids behind, and trimming offsets at
 * some point between. So all kinds are compiled into one flat record, and a Sequence merely goes on
 * adding to it. A template that names its text twice or not at all could not be flattened; nobody
 * publishes one, and it is refused.
 */
#include "tokenizer/post_processor.h"

#include "base/error.h"

#include <string.h>

static emb_status add_id(int32_t *ids, size_t *count, int64_t id, const char *where, emb_error *err)
{
    if (id < 0 || id > INT32_MAX)
        return emb_fail(err, EMB_E_CORRUPT, where, "post_processor: id %lld is out of range", (long long)id);
    if (*count == EMB_POST_MAX_IDS)
        return emb_fail(err, EMB_E_LIMIT, where, "post_processor: more than %d special tokens",
                        EMB_POST_MAX_IDS);
    ids[(*count)++] = (int32_t)id;
    return EMB_OK;
}

/* Puts ids in front of what is there. */
static emb_status add_prefix(emb_post_processor *post, const int32_t *ids, size_t count, const char *where,
                             emb_error *err)
{
    if (count > EMB_POST_MAX_IDS - post->prefix_count)
        return emb_fail(err, EMB_E_LIMIT, where, "post_processor: more than %d special tokens",
                        EMB_POST_MAX_IDS);
    memmove(post->prefix + count, post->prefix, post->prefix_count * sizeof *ids);
    memcpy(post->prefix, ids, count * sizeof *ids);
    post->prefix_count += count;
    return EMB_OK;
}

static emb_status add_trim(emb_post_processor *post, emb_json_value json, const char *where, emb_error *err)
{
    emb_json_value value;
    bool trim = true, prefix_space = true;
    if ((emb_json_get(json, "trim_offsets", &value) && !emb_json_bool(value, &trim)) ||
        (emb_json_get(json, "add_prefix_space", &value) && !emb_json_bool(value, &prefix_space)))
        return emb_fail(err, EMB_E_CORRUPT, where,
                        "post_processor: trim_offsets and add_prefix_space must be true or false");
    if (!trim)
        return EMB_OK;
    if (post->trim_count == EMB_POST_MAX_STEPS)
        return emb_fail(err, EMB_E_LIMIT, where, "post_processor: more than %d steps", EMB_POST_MAX_STEPS);
    post->trims[post->trim_count++] = (emb_trim){prefix_space, post->glued};
    return EMB_OK;
}

/* "cls" and "sep": ["[CLS]", 101]. */
static emb_status read_pair(emb_json_value json, const char *key, int64_t *id, const char *where,
                            emb_error *err)
{
    emb_json_value pair, item;
    const char *name;
    size_t length;
    if (emb_json_get(json, key, &pair) && emb_json_type_of(pair) == EMB_JSON_ARRAY) {
        emb_json_iter it = emb_json_begin(pair);
        if (emb_json_next(&it, &name, &length, &item) && emb_json_next(&it, &name, &length, &item) &&
            emb_json_int(item, id))
            return EMB_OK;
    }
    return emb_fail(err, EMB_E_CORRUPT, where, "post_processor: %s is not a pair of a token and its id", key);
}

/* The reference keeps a template's special tokens apart from the text, and a step behind it that adds more
 * would take the first of them for the text. */
static emb_status refuse_after_template(const emb_post_processor *post, const char *where, emb_error *err)
{
    if (!post->has_template)
        return EMB_OK;
    return emb_fail(err, EMB_E_UNSUPPORTED, where,
                    "post_processor: special tokens are added behind a TemplateProcessing");
}

static emb_status parse_cls_sep(emb_post_processor *post, emb_json_value json, const char *where,
                                emb_error *err)
{
    int64_t cls, sep;
    int32_t prefix[1];
    size_t count = 0;
    emb_status status = refuse_after_template(post, where, err);
    if (status == EMB_OK)
        status = read_pair(json, "cls", &cls, where, err);
    if (status == EMB_OK)
        status = read_pair(json, "sep", &sep, where, err);
    if (status == EMB_OK)
        status = add_id(prefix, &count, cls, where, err);
    if (status == EMB_OK)
        status = add_prefix(post, prefix, count, where, err);
    if (status == EMB_OK)
        status = add_id(post->suffix, &post->suffix_count, sep, where, err);
    if (status == EMB_OK)
        post->glued++;
    return status;
}

/* ---- TemplateProcessing ---- */

/* Appends the ids of a template's special token. */
static emb_status special_ids(emb_json_value specials, const char *name, size_t name_length, int32_t *ids,
                              size_t *count, const char *where, emb_error *err)
{
    emb_json_value special, list, item;
    const char *key;
    size_t key_length;
    for (emb_json_iter it = emb_json_begin(specials); emb_json_next(&it, &key, &key_length, &special);) {
        if (key_length != name_length || memcmp(key, name, name_length) != 0)
            continue;
        if (!emb_json_get(special, "ids", &list) || emb_json_type_of(list) != EMB_JSON_ARRAY)
            break;
        emb_status status = EMB_OK;
        for (emb_json_iter ids_it = emb_json_begin(list);
             status == EMB_OK && emb_json_next(&ids_it, &key, &key_length, &item);) {
            int64_t id = -1;
            emb_json_int(item, &id);
            status = add_id(ids, count, id, where, err);
        }
        return status;
    }
    return emb_fail(err, EMB_E_CORRUPT, where, "post_processor: special_tokens has no ids for \"%.*s\"",
                    (int)(name_length < 64 ? name_length : 64), name);
}

static emb_status parse_template(emb_post_processor *post, emb_json_value json, const char *where,
                                 emb_error *err)
{
    emb_json_value single, specials = json, piece, part, id;
    const char *key, *name;
    size_t key_length, length, prefix_count = 0;
    int32_t prefix[EMB_POST_MAX_IDS];
    bool seen_text = false;
    emb_status status = refuse_after_template(post, where, err);
    if (status != EMB_OK)
        return status;
    post->has_template = true;
    if (!emb_json_get(json, "single", &single) || emb_json_type_of(single) != EMB_JSON_ARRAY)
        return emb_fail(err, EMB_E_CORRUPT, where, "TemplateProcessing needs the array \"single\"");
    emb_json_get(json, "special_tokens", &specials);
    for (emb_json_iter it = emb_json_begin(single);
         status == EMB_OK && emb_json_next(&it, &key, &key_length, &piece);) {
        bool text = emb_json_get(piece, "Sequence", &part);
        if ((!text && !emb_json_get(piece, "SpecialToken", &part)) || !emb_json_get(part, "id", &id) ||
            !emb_json_string(id, &name, &length))
            return emb_fail(err, EMB_E_CORRUPT, where,
                            "TemplateProcessing: an entry is neither a Sequence nor a SpecialToken");
        if (text && (seen_text || !emb_json_string_is(id, "A")))
            return emb_fail(err, EMB_E_UNSUPPORTED, where,
                            "TemplateProcessing: \"single\" must hold the sequence A once");
        if (text)
            seen_text = true;
        else if (!seen_text)
            status = special_ids(specials, name, length, prefix, &prefix_count, where, err);
        else
            status = special_ids(specials, name, length, post->suffix, &post->suffix_count, where, err);
    }
    if (status == EMB_OK && !seen_text)
        return emb_fail(err, EMB_E_UNSUPPORTED, where,
                        "TemplateProcessing: \"single\" must hold the sequence A once");
    return status == EMB_OK ? add_prefix(post, prefix, prefix_count, where, err) : status;
}

/* ---- dispatch ---- */

static emb_status parse_step(emb_post_processor *post, emb_json_value json, unsigned *steps,
                             const char *where, emb_error *err)
{
    emb_json_value type, list, item;
    const char *name;
    size_t length;
    if (emb_json_type_of(json) == EMB_JSON_NULL)
        return EMB_OK;
    if (!emb_json_get(json, "type", &type) || !emb_json_string(type, &name, &length))
        return emb_fail(err, EMB_E_CORRUPT, where, "a post-processor has no \"type\"");
    if (++*steps > EMB_POST_MAX_STEPS)
        return emb_fail(err, EMB_E_LIMIT, where, "post_processor: more than %d steps", EMB_POST_MAX_STEPS);
    if (emb_json_string_is(type, "BertProcessing"))
        return parse_cls_sep(post, json, where, err);
    if (emb_json_string_is(type, "TemplateProcessing"))
        return parse_template(post, json, where, err);
    if (emb_json_string_is(type, "ByteLevel"))
        return add_trim(post, json, where, err);
    if (emb_json_string_is(type, "RobertaProcessing")) {
        emb_status status = add_trim(post, json, where, err);
        return status == EMB_OK ? parse_cls_sep(post, json, where, err) : status;
    }
    if (!emb_json_string_is(type, "Sequence"))
        return emb_fail(err, EMB_E_UNSUPPORTED, where, "post-processor type \"%.*s\" is not supported",
                        (int)(length < 64 ? length : 64), name);
    if (!emb_json_get(json, "processors", &list) || emb_json_type_of(list) != EMB_JSON_ARRAY)
        return emb_fail(err, EMB_E_CORRUPT, where,
                        "a Sequence of post-processors needs the array \"processors\"");
    emb_status status = EMB_OK;
    for (emb_json_iter it = emb_json_begin(list);
         status == EMB_OK && emb_json_next(&it, &name, &length, &item);)
        status = parse_step(post, item, steps, where, err);
    return status;
}

emb_status emb_post_processor_parse(emb_post_processor *post, emb_json_value json, const char *where,
                                    emb_error *err)
{
    unsigned steps = 0;
    *post = (emb_post_processor){.prefix_count = 0};
    return parse_step(post, json, &steps, where, err);
}
