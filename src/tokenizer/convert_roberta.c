/*
 * convert_roberta.c: a tokenizer.json for directories of RoBERTa models that have only vocab.json and
 * merges.txt.
 *
 * The text is what the reference's converter writes for RobertaTokenizer: byte-level BPE, <s> and </s>
 * around the text, a mask token that takes the white space before it. Names of the special tokens and
 * add_prefix_space come from tokenizer_config.json where it has them. vocab.json goes in as it is.
 */
#include "base/buf.h"
#include "base/error.h"
#include "base/file.h"
#include "base/json.h"
#include "base/json_write.h"
#include "tokenizer/parts.h"

#include <stdlib.h>
#include <string.h>

enum { MAX_VOCAB_BYTES = 64 << 20, MAX_CONFIG_BYTES = 16 << 20 };

typedef struct special {
    const char *key;
    const char *text;
    size_t length;
    bool lstrip, rstrip, present;
    int64_t id;
} special;

enum { CLS, PAD, SEP, UNK, MASK, SPECIALS };

/* ---- reading ---- */

/* A token of the configuration: a string, or an object with "content". */
static void read_special(emb_json_value config, special *s)
{
    emb_json_value value, content;
    if (!emb_json_get(config, s->key, &value))
        return;
    if (emb_json_string(value, &s->text, &s->length))
        return;
    if (!emb_json_get(value, "content", &content) || !emb_json_string(content, &s->text, &s->length))
        return;
    if (emb_json_get(value, "lstrip", &content))
        emb_json_bool(content, &s->lstrip);
    if (emb_json_get(value, "rstrip", &content))
        emb_json_bool(content, &s->rstrip);
}

/* The ids of the tokens that the vocabulary has. */
static void find_ids(emb_json_value vocab, special *tokens)
{
    const char *key;
    size_t length;
    emb_json_value value;
    for (emb_json_iter it = emb_json_begin(vocab); emb_json_next(&it, &key, &length, &value);)
        for (int i = 0; i < SPECIALS; i++)
            if (length == tokens[i].length && memcmp(key, tokens[i].text, length) == 0)
                tokens[i].present = emb_json_int(value, &tokens[i].id);
}

/* Reads a file of the directory; optional ones leave *text NULL. */
static emb_status read_part(const char *directory, const char *name, size_t limit, bool optional, char **text,
                            size_t *length, emb_error *err)
{
    char *path = emb_path_join(directory, name);
    if (path == NULL)
        return emb_fail_nomem(err, "a path", strlen(directory));
    emb_status status = EMB_OK;
    if (!optional || emb_is_file(path))
        status = emb_read_file(path, limit, text, length, err);
    free(path);
    return status;
}

/* ---- writing ---- */

static emb_status write_token(emb_buf *out, const special *s)
{
    emb_status status = emb_buf_add_str(out, "[");
    if (status == EMB_OK)
        status = emb_json_write_string(out, s->text, s->length);
    return status == EMB_OK ? emb_buf_addf(out, ",%lld]", (long long)s->id) : status;
}

static emb_status write_added(emb_buf *out, const special *tokens)
{
    emb_status status = emb_buf_add_str(out, "{\"version\":\"1.0\",\"added_tokens\":[");
    bool first = true;
    for (int i = 0; i < SPECIALS && status == EMB_OK; i++) {
        if (!tokens[i].present)
            continue;
        status =
            emb_buf_addf(out,
                         "%s{\"id\":%lld,\"special\":true,\"normalized\":false,\"lstrip\":%s,\"rstrip\":%s,"
                         "\"content\":",
                         first ? "" : ",", (long long)tokens[i].id, tokens[i].lstrip ? "true" : "false",
                         tokens[i].rstrip ? "true" : "false");
        if (status == EMB_OK)
            status = emb_json_write_string(out, tokens[i].text, tokens[i].length);
        if (status == EMB_OK)
            status = emb_buf_add_str(out, "}");
        first = false;
    }
    return status == EMB_OK ? emb_buf_add_str(out, "],") : status;
}

static emb_status write_stages(emb_buf *out, const special *tokens, bool prefix_space)
{
    const char *prefix = prefix_space ? "true" : "false";
    emb_status status =
        emb_buf_addf(out,
                     "\"pre_tokenizer\":{\"type\":\"ByteLevel\",\"add_prefix_space\":%s,"
                     "\"trim_offsets\":true,\"use_regex\":true},"
                     "\"post_processor\":{\"type\":\"RobertaProcessing\",\"trim_offsets\":true,"
                     "\"add_prefix_space\":%s,\"sep\":",
                     prefix, prefix);
    if (status == EMB_OK)
        status = write_token(out, &tokens[SEP]);
    if (status == EMB_OK)
        status = emb_buf_add_str(out, ",\"cls\":");
    if (status == EMB_OK)
        status = write_token(out, &tokens[CLS]);
    return status == EMB_OK ? emb_buf_add_str(out, "},") : status;
}

/* A line of merges.txt is "left right"; the first one names the version. */
static emb_status write_merges(emb_buf *out, const char *text, size_t length)
{
    emb_status status = emb_buf_add_str(out, ",\"merges\":[");
    bool first = true;
    for (size_t i = 0, end; i < length && status == EMB_OK; i = end + 1) {
        const char *newline = memchr(text + i, '\n', length - i);
        end = newline ? (size_t)(newline - text) : length;
        size_t stop = end > i && text[end - 1] == '\r' ? end - 1 : end;
        if (stop == i || (stop - i >= 8 && memcmp(text + i, "#version", 8) == 0))
            continue;
        if (!first)
            status = emb_buf_add(out, ",", 1);
        if (status == EMB_OK)
            status = emb_json_write_string(out, text + i, stop - i);
        first = false;
    }
    return status == EMB_OK ? emb_buf_add_str(out, "]}}") : status;
}

static emb_status write_json(emb_buf *out, const special *tokens, bool prefix_space, const char *vocab,
                             size_t vocab_length, const char *merges, size_t merges_length)
{
    emb_status status = write_added(out, tokens);
    if (status == EMB_OK)
        status = write_stages(out, tokens, prefix_space);
    if (status == EMB_OK)
        status = emb_buf_add_str(out, "\"model\":{\"type\":\"BPE\",\"vocab\":");
    if (status == EMB_OK)
        status = emb_buf_add(out, vocab, vocab_length);
    return status == EMB_OK ? write_merges(out, merges, merges_length) : status;
}

emb_status emb_convert_vocab_merges(const char *directory, char **json, size_t *length, emb_error *err)
{
    special tokens[SPECIALS] = {
        [CLS] = {.key = "cls_token", .text = "<s>", .length = 3},
        [PAD] = {.key = "pad_token", .text = "<pad>", .length = 5},
        [SEP] = {.key = "sep_token", .text = "</s>", .length = 4},
        [UNK] = {.key = "unk_token", .text = "<unk>", .length = 5},
        [MASK] = {.key = "mask_token", .text = "<mask>", .length = 6, .lstrip = true},
    };
    emb_buf out = EMB_BUF_INIT((size_t)8 * MAX_VOCAB_BYTES);
    emb_json *vocab = NULL, *config = NULL;
    char *vocab_text = NULL, *merges = NULL, *config_text = NULL;
    size_t vocab_length = 0, merges_length = 0, config_length = 0;
    emb_json_value value;
    bool prefix_space = false;
    emb_status status =
        read_part(directory, "vocab.json", MAX_VOCAB_BYTES, false, &vocab_text, &vocab_length, err);
    if (status == EMB_OK)
        status = read_part(directory, "merges.txt", MAX_VOCAB_BYTES, false, &merges, &merges_length, err);
    if (status == EMB_OK)
        status = read_part(directory, "tokenizer_config.json", MAX_CONFIG_BYTES, true, &config_text,
                           &config_length, err);
    if (status == EMB_OK)
        status = emb_json_open(vocab_text, vocab_length, "vocab.json", &vocab, err);
    if (status == EMB_OK && config_text != NULL)
        status = emb_json_open(config_text, config_length, "tokenizer_config.json", &config, err);
    if (status != EMB_OK)
        goto out;
    if (config != NULL) {
        for (int i = 0; i < SPECIALS; i++)
            read_special(emb_json_root(config), &tokens[i]);
        if (emb_json_get(emb_json_root(config), "add_prefix_space", &value))
            emb_json_bool(value, &prefix_space);
    }
    find_ids(emb_json_root(vocab), tokens);
    if (!tokens[CLS].present || !tokens[SEP].present) {
        const special *missing = &tokens[tokens[CLS].present ? SEP : CLS];
        status = emb_fail(err, EMB_E_CORRUPT, "vocab.json", "has no token \"%.*s\"",
                          (int)(missing->length < 64 ? missing->length : 64), missing->text);
        goto out;
    }
    status = write_json(&out, tokens, prefix_space, vocab_text, vocab_length, merges, merges_length);
    if (status != EMB_OK) {
        status = emb_fail(err, status, directory, "cannot convert vocab.json and merges.txt: %s",
                          emb_status_text(status));
        goto out;
    }
    *json = out.data;
    *length = out.length;
    out = (emb_buf)EMB_BUF_INIT(0);
out:
    emb_buf_fini(&out);
    emb_json_close(vocab);
    emb_json_close(config);
    free(vocab_text);
    free(merges);
    free(config_text);
    return status;
}
