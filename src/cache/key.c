/*
 * What a vector is filed under.
 *
 * Two steps: a scope is the digest of everything that requests of one model and setting have in common, a key
 * is the digest of scope and text. So a text costs one hash of its own length (two SHA-256 blocks for a short
 * query) and nothing is allocated.
 *
 * No two inputs read alike: a scope hashes fields of the form length (8 bytes) + bytes, numbers as 8 bytes,
 * in a fixed order and number; a key hashes 32 bytes of scope, one byte that tells text from ids, and then
 * the input up to its end. Numbers are little-endian; so is every machine embedd runs on, and value.h refuses
 * to compile elsewhere.
 *
 * The version in the first field changes whenever vectors would for equal fields; then nothing old is found
 * again.
 */
#include "cache/key.h"

#include "cache/value.h"

#include <string.h>

static const char SCHEMA[] = "embed:v1";
static const char PREFIX[] = "embed:v1:";

static void add_field(emb_bytes *pieces, uint64_t *lengths, size_t *fields, const char *text, size_t length)
{
    lengths[*fields] = length;
    pieces[2 * *fields] = (emb_bytes){&lengths[*fields], sizeof *lengths};
    pieces[2 * *fields + 1] = (emb_bytes){text ? text : "", length};
    ++*fields;
}

static void add_string(emb_bytes *pieces, uint64_t *lengths, size_t *fields, const char *text)
{
    add_field(pieces, lengths, fields, text, text ? strlen(text) : 0);
}

bool emb_cache_scope_make(const emb_cache_scope_fields *f, emb_cache_scope *out)
{
    emb_bytes pieces[2 * 7 + 1];
    uint64_t lengths[7];
    size_t fields = 0;
    add_string(pieces, lengths, &fields, SCHEMA);
    add_string(pieces, lengths, &fields, f->namespace_);
    add_string(pieces, lengths, &fields, f->provider);
    add_string(pieces, lengths, &fields, f->model);
    add_string(pieces, lengths, &fields, f->revision);
    add_string(pieces, lengths, &fields, f->precision);
    add_field(pieces, lengths, &fields, f->prompt, f->prompt ? f->prompt_length : 0);
    uint64_t numbers[] = {f->dimensions, f->max_tokens, (uint64_t)f->pooling, (uint64_t)f->normalize,
                          (uint64_t)f->truncation};
    pieces[2 * fields] = (emb_bytes){numbers, sizeof numbers};
    return emb_sha256_pieces(pieces, 2 * fields + 1, out->bytes);
}

static bool key_of(const emb_cache_scope *scope, char kind, const void *data, size_t length,
                   emb_cache_key *out)
{
    const emb_bytes pieces[] = {{scope->bytes, sizeof scope->bytes}, {&kind, 1}, {data, length}};
    return emb_sha256_pieces(pieces, 3, out->bytes);
}

bool emb_cache_key_of_text(const emb_cache_scope *scope, const char *text, size_t length, emb_cache_key *out)
{
    return key_of(scope, 'T', text, length, out);
}

bool emb_cache_key_of_ids(const emb_cache_scope *scope, const int32_t *ids, size_t count, emb_cache_key *out)
{
    return key_of(scope, 'I', ids, count * sizeof *ids, out);
}

void emb_cache_key_text(const emb_cache_key *key, char out[EMB_CACHE_KEY_TEXT])
{
    memcpy(out, PREFIX, sizeof PREFIX - 1);
    emb_hex(key->bytes, sizeof key->bytes, out + sizeof PREFIX - 1);
}

bool emb_cache_key_parse(const char *text, emb_cache_key *out)
{
    if (strncmp(text, PREFIX, sizeof PREFIX - 1) == 0)
        text += sizeof PREFIX - 1;
    return strlen(text) == 2 * sizeof out->bytes && emb_unhex(text, out->bytes, sizeof out->bytes);
}
