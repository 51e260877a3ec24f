/*
 * convert.c: a tokenizer.json for directories of WordPiece models that have only vocab.txt.
 *
 * The text is what the reference's converters write for BertTokenizer and MPNetTokenizer: a line of
 * vocab.txt is a token and its number the id; flags and special tokens come from tokenizer_config.json
 * where it has them. Going through that text keeps one parser for all directories.
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

typedef struct text {
    const char *data;
    size_t length;
} text;

typedef struct settings {
    bool lowercase, chinese;
    int strip_accents; /* -1: not said */
    bool mpnet;
    text unk, cls, sep, pad, mask;
} settings;

/* A special token: a string or an object with "content". */
static void read_special(emb_json_value config, const char *key, text *out)
{
    emb_json_value value;
    if (!emb_json_get(config, key, &value))
        return;
    if (emb_json_type_of(value) == EMB_JSON_OBJECT && !emb_json_get(value, "content", &value))
        return;
    emb_json_string(value, &out->data, &out->length);
}

static void read_settings(emb_json_value config, settings *s)
{
    emb_json_value value;
    bool flag;
    if (emb_json_get(config, "tokenizer_class", &value))
        s->mpnet =
            emb_json_string_is(value, "MPNetTokenizer") || emb_json_string_is(value, "MPNetTokenizerFast");
    if (s->mpnet) {
        s->cls = (text){"<s>", 3};
        s->sep = (text){"</s>", 4};
        s->pad = (text){"<pad>", 5};
        s->mask = (text){"<mask>", 6};
    }
    if (emb_json_get(config, "do_lower_case", &value))
        emb_json_bool(value, &s->lowercase);
    if (emb_json_get(config, "tokenize_chinese_chars", &value))
        emb_json_bool(value, &s->chinese);
    if (emb_json_get(config, "strip_accents", &value) && emb_json_bool(value, &flag))
        s->strip_accents = flag;
    read_special(config, "unk_token", &s->unk);
    read_special(config, "cls_token", &s->cls);
    read_special(config, "sep_token", &s->sep);
    read_special(config, "pad_token", &s->pad);
    read_special(config, "mask_token", &s->mask);
}

/* The number of the last line that is this token, -1 if none is. */
static int64_t find_line(const char *vocab, size_t length, text token)
{
    int64_t line = 0, found = -1;
    for (size_t i = 0; i < length; line++) {
        const char *newline = memchr(vocab + i, '\n', length - i);
        size_t end = newline ? (size_t)(newline - vocab) : length;
        size_t stop = end > i && vocab[end - 1] == '\r' ? end - 1 : end;
        if (stop - i == token.length && memcmp(vocab + i, token.data, token.length) == 0)
            found = line;
        i = end + 1;
    }
    return found;
}

static emb_status write_added(emb_buf *out, const char *vocab, size_t length, const settings *s)
{
    const text tokens[] = {s->pad, s->unk, s->cls, s->sep, s->mask};
    emb_status status = EMB_OK;
    bool first = true;
    for (size_t i = 0; i < sizeof tokens / sizeof tokens[0] && status == EMB_OK; i++) {
        int64_t id = find_line(vocab, length, tokens[i]);
        if (id < 0)
            continue;
        status = emb_buf_addf(
            out, "%s{\"id\":%lld,\"special\":true,\"normalized\":false,\"lstrip\":%s,\"content\":",
            first ? "" : ",", (long long)id, i == 4 && s->mpnet ? "true" : "false");
        first = false;
        if (status == EMB_OK)
            status = emb_json_write_string(out, tokens[i].data, tokens[i].length);
        if (status == EMB_OK)
            status = emb_buf_add_str(out, "}");
    }
    return status;
}

static emb_status write_vocab(emb_buf *out, const char *vocab, size_t length)
{
    emb_status status = EMB_OK;
    size_t line = 0;
    for (size_t i = 0; i < length && status == EMB_OK; line++) {
        const char *newline = memchr(vocab + i, '\n', length - i);
        size_t end = newline ? (size_t)(newline - vocab) : length;
        size_t stop = end > i && vocab[end - 1] == '\r' ? end - 1 : end;
        if (line > 0)
            status = emb_buf_add_str(out, ",");
        if (status == EMB_OK)
            status = emb_json_write_string(out, vocab + i, stop - i);
        if (status == EMB_OK)
            status = emb_buf_addf(out, ":%zu", line);
        i = end + 1;
    }
    return status;
}

static emb_status write_json(emb_buf *out, const char *vocab, size_t length, const settings *s)
{
    int64_t cls = find_line(vocab, length, s->cls), sep = find_line(vocab, length, s->sep);
    emb_status status = emb_buf_add_str(out, "{\"version\":\"1.0\",\"added_tokens\":[");
    if (status == EMB_OK)
        status = write_added(out, vocab, length, s);
    if (status == EMB_OK)
        status = emb_buf_addf(out,
                              "],\"normalizer\":{\"type\":\"BertNormalizer\",\"clean_text\":true,"
                              "\"handle_chinese_chars\":%s,\"strip_accents\":%s,\"lowercase\":%s},"
                              "\"pre_tokenizer\":{\"type\":\"BertPreTokenizer\"},\"post_processor\":",
                              s->chinese ? "true" : "false",
                              s->strip_accents < 0 ? "null"
                              : s->strip_accents   ? "true"
                                                   : "false",
                              s->lowercase ? "true" : "false");
    if (status == EMB_OK)
        status = emb_buf_addf(out, "{\"type\":\"BertProcessing\",\"cls\":[\"\",%lld],\"sep\":[\"\",%lld]}",
                              (long long)cls, (long long)sep);
    if (status == EMB_OK)
        status =
            emb_buf_add_str(out, ",\"model\":{\"type\":\"WordPiece\",\"continuing_subword_prefix\":\"##\","
                                 "\"max_input_chars_per_word\":100,\"unk_token\":");
    if (status == EMB_OK)
        status = emb_json_write_string(out, s->unk.data, s->unk.length);
    if (status == EMB_OK)
        status = emb_buf_add_str(out, ",\"vocab\":{");
    if (status == EMB_OK)
        status = write_vocab(out, vocab, length);
    return status == EMB_OK ? emb_buf_add_str(out, "}}}") : status;
}

/* Opens a file of the directory if it is there; *doc becomes NULL if it is not. */
static emb_status open_config(const char *directory, const char *name, emb_json **doc, emb_error *err)
{
    *doc = NULL;
    char *path = emb_path_join(directory, name);
    if (path == NULL)
        return emb_fail_nomem(err, "a path", strlen(directory));
    emb_status status = EMB_OK;
    if (emb_is_file(path))
        status = emb_json_open_file(path, MAX_CONFIG_BYTES, doc, err);
    free(path);
    return status;
}

emb_status emb_convert_vocab_txt(const char *directory, char **json, size_t *length, emb_error *err)
{
    settings s = {.lowercase = true,
                  .chinese = true,
                  .strip_accents = -1,
                  .unk = {"[UNK]", 5},
                  .cls = {"[CLS]", 5},
                  .sep = {"[SEP]", 5},
                  .pad = {"[PAD]", 5},
                  .mask = {"[MASK]", 6}};
    emb_buf out = EMB_BUF_INIT((size_t)8 * MAX_VOCAB_BYTES);
    emb_json *config = NULL;
    char *vocab = NULL;
    size_t vocab_length = 0;
    char *path = emb_path_join(directory, "vocab.txt");
    if (path == NULL)
        return emb_fail_nomem(err, "a path", strlen(directory));
    emb_status status = emb_read_file(path, MAX_VOCAB_BYTES, &vocab, &vocab_length, err);
    if (status == EMB_OK)
        status = open_config(directory, "tokenizer_config.json", &config, err);
    if (status != EMB_OK)
        goto out;
    if (config != NULL)
        read_settings(emb_json_root(config), &s);
    if (find_line(vocab, vocab_length, s.cls) < 0 || find_line(vocab, vocab_length, s.sep) < 0) {
        text missing = find_line(vocab, vocab_length, s.cls) < 0 ? s.cls : s.sep;
        status = emb_fail(err, EMB_E_CORRUPT, path, "has no line \"%.*s\"",
                          (int)(missing.length < 64 ? missing.length : 64), missing.data);
        goto out;
    }
    status = write_json(&out, vocab, vocab_length, &s);
    if (status != EMB_OK) {
        status = emb_fail(err, status, path, "%s", emb_status_text(status));
        goto out;
    }
    *json = out.data;
    *length = out.length;
    out = (emb_buf)EMB_BUF_INIT(0);
out:
    emb_buf_fini(&out);
    emb_json_close(config);
    free(vocab);
    free(path);
    return status;
}
