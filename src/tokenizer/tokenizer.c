/*
 * tokenizer.c: opening tokenizers and looking into them.
 *
 * Everything is read from the text of a tokenizer.json. Directories that have only the older files are
 * first converted to such a text, as the reference does, so that there is one parser and one behaviour.
 * A parsed tokenizer never changes.
 */
#include "base/error.h"
#include "base/file.h"
#include "tokenizer/pipeline.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_FILE_BYTES = 256 << 20 };

static _Atomic uint64_t last_serial;

/* ---- parsing ---- */

/* Files before 2021 leave the model's type out; it shows in the members. */
static emb_status parse_model(emb_tokenizer *t, emb_json_value root, const char *where, emb_error *err)
{
    emb_json_value model, value;
    const char *name = "";
    size_t length = 0;
    if (!emb_json_get(root, "model", &model) || emb_json_type_of(model) != EMB_JSON_OBJECT)
        return emb_fail(err, EMB_E_CORRUPT, where, "has no object \"model\"");
    if (emb_json_get(model, "type", &value)) {
        if (!emb_json_string(value, &name, &length))
            return emb_fail(err, EMB_E_CORRUPT, where, "model.type is not a string");
    } else if (emb_json_get(model, "merges", &value)) {
        name = "BPE";
    } else if (emb_json_get(model, "vocab", &value) && emb_json_type_of(value) == EMB_JSON_ARRAY) {
        name = "Unigram";
    } else {
        name = "WordPiece";
    }
    length = length ? length : strlen(name);
    if (length == 9 && memcmp(name, "WordPiece", 9) == 0)
        return emb_wordpiece_parse(model, &t->arena, where, &t->model, err);
    if (length == 7 && memcmp(name, "Unigram", 7) == 0)
        return emb_unigram_parse(model, &t->arena, where, &t->model, err);
    if (length == 3 && memcmp(name, "BPE", 3) == 0)
        return emb_bpe_parse(model, &t->arena, where, &t->model, err);
    return emb_fail(err, EMB_E_UNSUPPORTED, where, "model.type \"%.*s\" is not supported",
                    (int)(length < 64 ? length : 64), name);
}

/* The member of an object, JSON null where it is absent. */
static emb_json_value member(emb_json_value root, const char *key, emb_json_value null)
{
    emb_json_value value = null;
    emb_json_get(root, key, &value);
    return value;
}

/* The table from ids to added tokens, for those that the model does not know. */
static emb_status index_added(emb_tokenizer *t, emb_error *err)
{
    size_t model_size = t->model->size(t->model);
    t->vocab_size = model_size;
    for (size_t i = 0; i < t->added.count; i++)
        if ((size_t)t->added.tokens[i].id + 1 > t->vocab_size)
            t->vocab_size = (size_t)t->added.tokens[i].id + 1;
    t->by_id_count = t->vocab_size - model_size;
    t->by_id = emb_arena_calloc(&t->arena, t->by_id_count ? t->by_id_count : 1, sizeof *t->by_id);
    if (t->by_id == NULL)
        return emb_fail_nomem(err, "added tokens", t->by_id_count * sizeof *t->by_id);
    for (size_t i = 0; i < t->added.count; i++)
        if ((size_t)t->added.tokens[i].id >= model_size)
            t->by_id[(size_t)t->added.tokens[i].id - model_size] = &t->added.tokens[i];
    return EMB_OK;
}

static emb_status parse(emb_tokenizer *t, emb_json_value root, emb_json_value null, const char *where,
                        emb_error *err)
{
    emb_json_value version;
    if (emb_json_type_of(root) != EMB_JSON_OBJECT)
        return emb_fail(err, EMB_E_CORRUPT, where, "is %s, an object is needed",
                        emb_json_type_name(emb_json_type_of(root)));
    if (emb_json_get(root, "version", &version) && !emb_json_string_is(version, "1.0"))
        return emb_fail(err, EMB_E_UNSUPPORTED, where, "version is not \"1.0\"");
    emb_status status = parse_model(t, root, where, err);
    if (status == EMB_OK)
        status =
            emb_normalizer_parse(member(root, "normalizer", null), &t->arena, where, &t->normalizer, err);
    if (status == EMB_OK)
        status = emb_pre_tokenizer_parse(member(root, "pre_tokenizer", null), &t->arena, where,
                                         &t->pre_tokenizer, err);
    if (status == EMB_OK)
        status = emb_post_processor_parse(&t->post, member(root, "post_processor", null), where, err);
    if (status == EMB_OK)
        status = emb_added_parse(&t->added, member(root, "added_tokens", null), t->model, t->normalizer,
                                 &t->arena, where, err);
    if (status == EMB_OK)
        status = index_added(t, err);
    if (status == EMB_OK &&
        emb_decoder_parse(member(root, "decoder", null), t->model->kind, &t->arena, &t->decoder) != EMB_OK)
        status = emb_fail_nomem(err, "the decoder", sizeof t->decoder);
    if (status == EMB_OK)
        status = emb_bert_fast_make(t->normalizer, t->pre_tokenizer, t->model, &t->added, &t->arena, &t->fast,
                                    err);
    return status;
}

/* doc is borrowed. */
static emb_status open_parsed(const emb_json *doc, const char *where, emb_tokenizer **out, emb_error *err)
{
    emb_json *null_doc = NULL;
    emb_tokenizer *t = calloc(1, sizeof *t);
    if (t == NULL)
        return emb_fail_nomem(err, "the tokenizer", sizeof *t);
    emb_arena_init(&t->arena);
    t->serial = atomic_fetch_add_explicit(&last_serial, 1, memory_order_relaxed) + 1;
    const char *kept = emb_arena_strndup(&t->arena, where, strlen(where));
    emb_status status = kept == NULL ? emb_fail_nomem(err, "the tokenizer", strlen(where)) : EMB_OK;
    if (status == EMB_OK)
        status = emb_json_open("null", 4, "null", &null_doc, err);
    if (status == EMB_OK)
        status = parse(t, emb_json_root(doc), emb_json_root(null_doc), kept, err);
    emb_json_close(null_doc);
    if (status != EMB_OK) {
        emb_tokenizer_close(t);
        return status;
    }
    *out = t;
    return EMB_OK;
}

emb_status emb_tokenizer_open_json(const char *text, size_t length, const char *where, emb_tokenizer **out,
                                   emb_error *err)
{
    emb_json *doc;
    *out = NULL;
    emb_status status = emb_json_open(text, length, where, &doc, err);
    if (status != EMB_OK)
        return status;
    status = open_parsed(doc, where, out, err);
    emb_json_close(doc);
    return status;
}

/* ---- directories ---- */

typedef emb_status (*converter)(const char *directory, char **json, size_t *length, emb_error *err);

static const struct {
    const char *file;
    converter convert;
} old_files[] = {
    {"vocab.txt", emb_convert_vocab_txt},
    {"sentencepiece.bpe.model", emb_convert_sentencepiece},
    {"merges.txt", emb_convert_vocab_merges},
};

static emb_status open_converted(const char *directory, const char *path, converter convert,
                                 emb_tokenizer **out, emb_error *err)
{
    char *json = NULL;
    size_t length = 0;
    emb_status status = convert(directory, &json, &length, err);
    if (status != EMB_OK)
        return status;
    status = emb_tokenizer_open_json(json, length, path, out, err);
    free(json);
    return status;
}

emb_status emb_tokenizer_open(const char *directory, emb_tokenizer **out, emb_error *err)
{
    *out = NULL;
    char *path = emb_path_join(directory, "tokenizer.json");
    if (path == NULL)
        return emb_fail_nomem(err, "a path", strlen(directory));
    if (emb_is_file(path)) {
        emb_json *doc;
        emb_status status = emb_json_open_file(path, MAX_FILE_BYTES, &doc, err);
        if (status == EMB_OK) {
            status = open_parsed(doc, path, out, err);
            emb_json_close(doc);
        }
        free(path);
        return status;
    }
    free(path);
    for (size_t i = 0; i < sizeof old_files / sizeof old_files[0]; i++) {
        path = emb_path_join(directory, old_files[i].file);
        if (path == NULL)
            return emb_fail_nomem(err, "a path", strlen(directory));
        if (emb_is_file(path)) {
            emb_status status = open_converted(directory, path, old_files[i].convert, out, err);
            free(path);
            return status;
        }
        free(path);
    }
    return emb_fail(
        err, EMB_E_NOT_FOUND, directory,
        "has no tokenizer: none of tokenizer.json, vocab.txt, sentencepiece.bpe.model, merges.txt");
}

void emb_tokenizer_close(emb_tokenizer *tokenizer)
{
    if (tokenizer == NULL)
        return;
    emb_normalizer_release(tokenizer->normalizer);
    emb_pre_tokenizer_release(tokenizer->pre_tokenizer);
    if (tokenizer->model != NULL && tokenizer->model->release != NULL)
        tokenizer->model->release(tokenizer->model);
    emb_added_fini(&tokenizer->added);
    emb_arena_fini(&tokenizer->arena);
    free(tokenizer);
}

/* ---- looking into it ---- */

const char *emb_tokenizer_kind(const emb_tokenizer *tokenizer)
{
    return tokenizer->model->kind;
}

size_t emb_tokenizer_vocab_size(const emb_tokenizer *tokenizer)
{
    return tokenizer->vocab_size;
}

int32_t emb_tokenizer_id(const emb_tokenizer *tokenizer, const char *token, size_t length)
{
    int32_t added = emb_trie_find(&tokenizer->added.by_content, token, length);
    return added >= 0 ? tokenizer->added.tokens[added].id
                      : tokenizer->model->id(tokenizer->model, token, length);
}

const char *emb_tokenizer_token(const emb_tokenizer *tokenizer, int32_t id, size_t *length)
{
    size_t model_size = tokenizer->vocab_size - tokenizer->by_id_count;
    if (id < 0 || (size_t)id >= tokenizer->vocab_size)
        return NULL;
    const emb_added_token *token = NULL;
    if ((size_t)id < model_size) {
        const char *text = tokenizer->model->token(tokenizer->model, id, length);
        if (text != NULL)
            return text;
        /* A vocabulary with gaps: an added token may have got an id in one of them. */
        for (size_t i = 0; i < tokenizer->added.count && token == NULL; i++)
            if (tokenizer->added.tokens[i].id == id)
                token = &tokenizer->added.tokens[i];
    } else {
        token = tokenizer->by_id[(size_t)id - model_size];
    }
    if (token == NULL)
        return NULL;
    *length = token->length;
    return token->content;
}

size_t emb_tokenizer_added_count(const emb_tokenizer *tokenizer)
{
    return tokenizer->post.prefix_count + tokenizer->post.suffix_count;
}
