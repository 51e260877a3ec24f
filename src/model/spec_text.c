/*
 * The settings that concern a text before it becomes tokens: how long it may be, which end is cut, lower
 * case, prompts.
 *
 * Longest text, as sentence-transformers has it: max_seq_length of sentence_bert_config.json (or the first
 * of its variants that is there) if given, else the smaller of tokenizer_config.json's model_max_length
 * and max_position_embeddings. Both are then cut to the positions there are, where the reference would
 * fail on a long text (RoBERTa's 514 rows hold 512 positions).
 */
#include "base/error.h"
#include "model/spec_parts.h"

#include <string.h>

enum { MAX_PROMPTS = 4096 };

/* Opens an optional file: *found tells whether it is there. */
static emb_status open_optional(emb_spec_file *file, emb_model_spec *spec, const emb_spec_source *source,
                                const char *folder, const char *name, bool *found, emb_error *err)
{
    emb_status status = emb_spec_file_open(file, spec, source, folder, name, false, err);
    *found = status == EMB_OK;
    return status == EMB_E_NOT_FOUND ? EMB_OK : status;
}

static emb_status read_sentence_config(emb_model_spec *spec, const emb_spec_source *source,
                                       const char *transformer, size_t *max_tokens, emb_error *err)
{
    static const char *const names[] = {
        "sentence_bert_config.json",      "sentence_roberta_config.json", "sentence_distilbert_config.json",
        "sentence_camembert_config.json", "sentence_albert_config.json",  "sentence_xlm-roberta_config.json",
        "sentence_xlnet_config.json",     "sentence_mpnet_config.json",
    };
    emb_spec_file file;
    emb_status status;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        bool found, empty;
        if ((status = open_optional(&file, spec, source, transformer, names[i], &found, err)))
            return status;
        if (!found)
            continue;
        empty = emb_json_count(file.root) == 0;
        status = emb_spec_get_size(&file, "max_seq_length", 1, SIZE_MAX, max_tokens, err);
        if (!status)
            status = emb_spec_get_bool(&file, "do_lower_case", &spec->lower_case, err);
        emb_spec_file_close(&file);
        if (status || !empty)
            return status;
    }
    return EMB_OK;
}

static emb_status read_tokenizer_config(emb_model_spec *spec, const emb_spec_source *source,
                                        const char *transformer, size_t *max_tokens, emb_error *err)
{
    emb_spec_file file;
    const char *side = "right";
    size_t length = 5;
    bool found;
    emb_status status = open_optional(&file, spec, source, transformer, "tokenizer_config.json", &found, err);
    if (status || !found)
        return status;
    status = emb_spec_get_size(&file, "model_max_length", 1, SIZE_MAX, max_tokens, err);
    if (!status)
        status = emb_spec_get_string(&file, "truncation_side", &side, &length, err);
    if (!status) {
        spec->truncate_left = length == 4 && memcmp(side, "left", 4) == 0;
        if (!spec->truncate_left && !(length == 5 && memcmp(side, "right", 5) == 0))
            status = emb_spec_unsupported(&file, "truncation_side", side, length, "left, right", err);
    }
    emb_spec_file_close(&file);
    return status;
}

static emb_status read_prompts(emb_model_spec *spec, const emb_spec_file *file, emb_error *err)
{
    emb_json_value prompts, value;
    if (!emb_spec_has(file, "prompts"))
        return EMB_OK;
    emb_json_get(file->root, "prompts", &prompts);
    if (emb_json_type_of(prompts) != EMB_JSON_OBJECT)
        return emb_fail(err, EMB_E_CORRUPT, file->path, "%s: \"prompts\" is of type %s, an object is needed",
                        file->path, emb_json_type_name(emb_json_type_of(prompts)));
    size_t count = emb_json_count(prompts);
    if (count > MAX_PROMPTS)
        return emb_fail(err, EMB_E_LIMIT, file->path, "%s: %zu prompts, at most %d are read", file->path,
                        count, MAX_PROMPTS);
    emb_prompt *out = emb_arena_calloc(&spec->arena, count ? count : 1, sizeof *out);
    if (!out)
        return emb_fail_nomem(err, "prompts", count * sizeof *out);
    spec->prompts = out;
    emb_json_iter it = emb_json_begin(prompts);
    const char *key, *text;
    size_t key_length, length;
    while (spec->prompt_count < count && emb_json_next(&it, &key, &key_length, &value)) {
        if (emb_json_type_of(value) == EMB_JSON_NULL)
            continue;
        if (!emb_json_string(value, &text, &length))
            return emb_fail(err, EMB_E_CORRUPT, file->path,
                            "%s: prompt \"%.*s\" is of type %s, a string is needed", file->path,
                            (int)(key_length > 80 ? 80 : key_length), key,
                            emb_json_type_name(emb_json_type_of(value)));
        emb_prompt *prompt = &out[spec->prompt_count++];
        prompt->name = emb_arena_strndup(&spec->arena, key, key_length);
        prompt->text = emb_arena_strndup(&spec->arena, text, length);
        prompt->length = length;
        if (!prompt->name || !prompt->text) {
            spec->prompt_count--;
            return emb_fail_nomem(err, "prompt", length);
        }
    }
    return EMB_OK;
}

static emb_status read_model_settings(emb_model_spec *spec, const emb_spec_source *source, emb_error *err)
{
    emb_spec_file file;
    const char *name = NULL;
    size_t length = 0;
    bool found;
    emb_status status =
        open_optional(&file, spec, source, "", "config_sentence_transformers.json", &found, err);
    if (status || !found)
        return status;
    status = read_prompts(spec, &file, err);
    if (!status)
        status = emb_spec_get_string(&file, "default_prompt_name", &name, &length, err);
    if (!status && name) {
        spec->default_prompt = emb_arena_strndup(&spec->arena, name, length);
        if (!spec->default_prompt)
            status = emb_fail_nomem(err, "default_prompt_name", length);
        else if (!emb_model_spec_prompt(spec, spec->default_prompt))
            status = emb_fail(err, EMB_E_CORRUPT, file.path,
                              "%s: \"default_prompt_name\" is \"%.80s\", which is not among \"prompts\"",
                              file.path, spec->default_prompt);
    }
    emb_spec_file_close(&file);
    return status;
}

emb_status emb_spec_read_text_settings(emb_model_spec *spec, const emb_spec_source *source,
                                       const char *transformer, bool sentence, emb_error *err)
{
    size_t by_sentence = 0, by_tokenizer = spec->position_rows;
    emb_status status;
    if (sentence && (status = read_sentence_config(spec, source, transformer, &by_sentence, err)))
        return status;
    if ((status = read_tokenizer_config(spec, source, transformer, &by_tokenizer, err)))
        return status;
    size_t most = spec->position_rows - spec->position_offset;
    spec->max_tokens = by_sentence ? by_sentence : by_tokenizer;
    if (spec->max_tokens > most)
        spec->max_tokens = most;
    return read_model_settings(spec, source, err);
}
