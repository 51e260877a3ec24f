/*
 * sentencepiece.c: from a SentencePiece model file to the text of a tokenizer.json.
 *
 * The file is a protocol buffer message, of which a few fields matter, so it is read by hand: every
 * length is checked against what is left, unknown fields are skipped by their wire type, and nothing is
 * recursive. Going through the text of a tokenizer.json keeps one loader for all directories.
 *
 * XLM-RoBERTa counts ids its own way: <s>, <pad>, </s> and <unk> come first, in place of the file's own
 * three (<unk>, <s>, </s>), then the file's pieces from its fourth on, and <mask> is last. Scores are
 * floats; they are written with the fewest digits that identify them, as published files have them.
 */
#include "tokenizer/sentencepiece.h"

#include "base/buf.h"
#include "base/error.h"
#include "base/file.h"
#include "base/float_text.h"
#include "base/json_write.h"
#include "base/utf8.h"
#include "tokenizer/parts.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_MODEL_BYTES = 128 << 20, OWN_PIECES = 3 };

/* ---- protocol buffers ---- */

enum wire { VARINT = 0, FIXED64 = 1, BYTES = 2, FIXED32 = 5 };

typedef struct message {
    const unsigned char *at, *end;
    bool broken;
} message;

typedef struct field {
    uint64_t number;
    unsigned wire;
    uint64_t value;             /* of VARINT and FIXED32 */
    const unsigned char *bytes; /* of BYTES */
    size_t length;
} field;

static bool read_varint(message *m, uint64_t *value)
{
    *value = 0;
    for (unsigned shift = 0; shift < 64 && m->at < m->end; shift += 7) {
        unsigned char byte = *m->at++;
        *value |= (uint64_t)(byte & 0x7F) << shift;
        if (byte < 0x80)
            return true;
    }
    return false;
}

/* The next field; false at the end, or with m->broken set. */
static bool next_field(message *m, field *f)
{
    uint64_t tag;
    if (m->at == m->end || m->broken)
        return false;
    m->broken = true;
    if (!read_varint(m, &tag))
        return false;
    *f = (field){.number = tag >> 3, .wire = tag & 7};
    size_t left, fixed = f->wire == FIXED64 ? 8 : 4;
    uint64_t length;
    switch (f->wire) {
    case VARINT:
        if (!read_varint(m, &f->value))
            return false;
        break;
    case FIXED64:
    case FIXED32:
        if ((size_t)(m->end - m->at) < fixed)
            return false;
        for (size_t i = 0; i < fixed; i++)
            f->value |= (uint64_t)m->at[i] << (8 * i);
        m->at += fixed;
        break;
    case BYTES:
        if (!read_varint(m, &length))
            return false;
        left = (size_t)(m->end - m->at);
        if (length > left)
            return false;
        f->bytes = m->at;
        f->length = (size_t)length;
        m->at += f->length;
        break;
    default: /* groups are not in use */
        return false;
    }
    m->broken = false;
    return true;
}

/* ---- the model ---- */

typedef struct model {
    size_t pieces;
    const unsigned char *charsmap;
    size_t charsmap_length;
    uint64_t type; /* 1: Unigram */
    bool byte_fallback, add_dummy_prefix, remove_extra_whitespaces;
} model;

typedef struct piece {
    const char *text;
    size_t length;
    float score;
} piece;

static bool read_piece(const field *source, piece *p)
{
    message m = {source->bytes, source->bytes + source->length, false};
    field f;
    *p = (piece){"", 0, 0.0f};
    while (next_field(&m, &f)) {
        if (f.number == 1 && f.wire == BYTES) {
            p->text = (const char *)f.bytes;
            p->length = f.length;
        } else if (f.number == 2 && f.wire == FIXED32) {
            uint32_t bits = (uint32_t)f.value;
            memcpy(&p->score, &bits, sizeof bits);
        }
    }
    return !m.broken && isfinite(p->score) && emb_utf8_valid_prefix(p->text, p->length) == p->length;
}

static bool read_trainer(const field *source, model *out)
{
    message m = {source->bytes, source->bytes + source->length, false};
    field f;
    while (next_field(&m, &f)) {
        if (f.number == 3 && f.wire == VARINT)
            out->type = f.value;
        else if (f.number == 35 && f.wire == VARINT)
            out->byte_fallback = f.value != 0;
    }
    return !m.broken;
}

static bool read_normalizer(const field *source, model *out)
{
    message m = {source->bytes, source->bytes + source->length, false};
    field f;
    while (next_field(&m, &f)) {
        if (f.number == 2 && f.wire == BYTES) {
            out->charsmap = f.bytes;
            out->charsmap_length = f.length;
        } else if (f.number == 3 && f.wire == VARINT) {
            out->add_dummy_prefix = f.value != 0;
        } else if (f.number == 4 && f.wire == VARINT) {
            out->remove_extra_whitespaces = f.value != 0;
        }
    }
    return !m.broken;
}

static emb_status read_model(message m, const char *where, model *out, emb_error *err)
{
    field f;
    piece p;
    *out = (model){.type = 1, .add_dummy_prefix = true, .remove_extra_whitespaces = true};
    while (next_field(&m, &f)) {
        if (f.wire != BYTES)
            continue;
        if (f.number == 1 && !read_piece(&f, &p))
            return emb_fail(err, EMB_E_CORRUPT, where, "pieces[%zu] is damaged", out->pieces);
        if (f.number == 1)
            out->pieces++;
        if (f.number == 2 && !read_trainer(&f, out))
            return emb_fail(err, EMB_E_CORRUPT, where, "trainer_spec is damaged");
        if (f.number == 3 && !read_normalizer(&f, out))
            return emb_fail(err, EMB_E_CORRUPT, where, "normalizer_spec is damaged");
    }
    if (m.broken)
        return emb_fail(err, EMB_E_CORRUPT, where, "is not a SentencePiece model, or is cut short");
    if (out->type != 1)
        return emb_fail(err, EMB_E_UNSUPPORTED, where,
                        "trainer_spec.model_type is %llu, only 1 (Unigram) is supported",
                        (unsigned long long)out->type);
    if (out->pieces < OWN_PIECES || out->pieces > 1u << 28)
        return emb_fail(err, EMB_E_CORRUPT, where, "has %zu pieces, at least %d are needed", out->pieces,
                        OWN_PIECES);
    return EMB_OK;
}

/* ---- writing ---- */

static emb_status write_base64(emb_buf *out, const unsigned char *bytes, size_t length)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    emb_status status = emb_buf_reserve(out, length / 3 * 4 + 4);
    for (size_t i = 0; i < length && status == EMB_OK; i += 3) {
        size_t left = length - i;
        uint32_t word = (uint32_t)bytes[i] << 16 | (left > 1 ? (uint32_t)bytes[i + 1] << 8 : 0) |
                        (left > 2 ? bytes[i + 2] : 0);
        char text[4] = {digits[word >> 18], digits[word >> 12 & 63], left > 1 ? digits[word >> 6 & 63] : '=',
                        left > 2 ? digits[word & 63] : '='};
        status = emb_buf_add(out, text, 4);
    }
    return status;
}

/* The published form cuts at white space and puts U+2581 before each word, which is what removing extra
 * spaces and adding one in front comes to. */
static emb_status write_stages(emb_buf *out, const model *m)
{
    bool words = m->add_dummy_prefix && m->remove_extra_whitespaces;
    emb_status status = emb_buf_add_str(out, "\"normalizer\":{\"type\":\"Sequence\",\"normalizers\":[");
    if (status == EMB_OK && m->charsmap_length > 0) {
        status = emb_buf_add_str(out, "{\"type\":\"Precompiled\",\"precompiled_charsmap\":\"");
        if (status == EMB_OK)
            status = write_base64(out, m->charsmap, m->charsmap_length);
        if (status == EMB_OK)
            status = emb_buf_add_str(out, "\"}");
    }
    if (status == EMB_OK && !words && m->remove_extra_whitespaces)
        status = emb_buf_addf(out,
                              "%s{\"type\":\"Strip\",\"strip_left\":true,\"strip_right\":true},"
                              "{\"type\":\"Replace\",\"pattern\":{\"Regex\":\" {2,}\"},\"content\":\" \"}",
                              m->charsmap_length > 0 ? "," : "");
    if (status == EMB_OK)
        status = emb_buf_addf(
            out,
            "]},\"pre_tokenizer\":{\"type\":\"Sequence\",\"pretokenizers\":[%s"
            "{\"type\":\"Metaspace\",\"replacement\":\"\u2581\",\"prepend_scheme\":\"%s\"}]},",
            words ? "{\"type\":\"WhitespaceSplit\"}," : "", m->add_dummy_prefix ? "always" : "never");
    return status;
}

static emb_status write_added(emb_buf *out, size_t mask_id)
{
    static const char *const names[] = {"<s>", "<pad>", "</s>", "<unk>"};
    emb_status status = emb_buf_add_str(out, "{\"version\":\"1.0\",\"added_tokens\":[");
    for (size_t i = 0; i < sizeof names / sizeof names[0] && status == EMB_OK; i++)
        status = emb_buf_addf(out,
                              "{\"id\":%zu,\"content\":\"%s\",\"lstrip\":false,\"normalized\":false,"
                              "\"special\":true},",
                              i, names[i]);
    if (status == EMB_OK)
        status = emb_buf_addf(out,
                              "{\"id\":%zu,\"content\":\"<mask>\",\"lstrip\":true,\"normalized\":false,"
                              "\"special\":true}],",
                              mask_id);
    return status;
}

static emb_status write_piece(emb_buf *out, const piece *p)
{
    char score[EMB_FLOAT_TEXT_MAX];
    emb_status status = emb_buf_add(out, ",[", 2);
    if (status == EMB_OK)
        status = emb_json_write_string(out, p->text, p->length);
    if (status == EMB_OK)
        status = emb_buf_add(out, ",", 1);
    if (status == EMB_OK)
        status = emb_buf_add(out, score, emb_float_text(p->score, score));
    return status == EMB_OK ? emb_buf_add(out, "]", 1) : status;
}

static emb_status write_vocab(emb_buf *out, message m, const model *about)
{
    field f;
    piece p;
    size_t number = 0;
    emb_status status =
        emb_buf_addf(out,
                     "\"model\":{\"type\":\"Unigram\",\"unk_id\":3,\"byte_fallback\":%s,\"vocab\":["
                     "[\"<s>\",0.0],[\"<pad>\",0.0],[\"</s>\",0.0],[\"<unk>\",0.0]",
                     about->byte_fallback ? "true" : "false");
    while (status == EMB_OK && next_field(&m, &f))
        if (f.number == 1 && f.wire == BYTES && number++ >= OWN_PIECES && read_piece(&f, &p))
            status = write_piece(out, &p);
    return status == EMB_OK ? emb_buf_add_str(out, ",[\"<mask>\",0.0]]}}") : status;
}

emb_status emb_sentencepiece_json(const void *bytes, size_t size, const char *where, char **json,
                                  size_t *length, emb_error *err)
{
    model about;
    message m = {bytes, (const unsigned char *)bytes + size, false};
    emb_buf out = EMB_BUF_INIT((size_t)16 * MAX_MODEL_BYTES);
    emb_status status = read_model(m, where, &about, err);
    if (status != EMB_OK)
        return status;
    status = write_added(&out, about.pieces + 1);
    if (status == EMB_OK)
        status = write_stages(&out, &about);
    if (status == EMB_OK)
        status = emb_buf_add_str(
            &out,
            "\"post_processor\":{\"type\":\"TemplateProcessing\",\"single\":["
            "{\"SpecialToken\":{\"id\":\"<s>\",\"type_id\":0}},{\"Sequence\":{\"id\":\"A\",\"type_id\":0}},"
            "{\"SpecialToken\":{\"id\":\"</s>\",\"type_id\":0}}],\"pair\":[],\"special_tokens\":{"
            "\"<s>\":{\"id\":\"<s>\",\"ids\":[0],\"tokens\":[\"<s>\"]},"
            "\"</s>\":{\"id\":\"</s>\",\"ids\":[2],\"tokens\":[\"</s>\"]}}},");
    if (status == EMB_OK)
        status = write_vocab(&out, m, &about);
    if (status != EMB_OK) {
        emb_buf_fini(&out);
        return emb_fail(err, status, where, "cannot be converted: %s", emb_status_text(status));
    }
    *json = out.data;
    *length = out.length;
    return EMB_OK;
}

emb_status emb_convert_sentencepiece(const char *directory, char **json, size_t *length, emb_error *err)
{
    emb_mapping file;
    char *path = emb_path_join(directory, "sentencepiece.bpe.model");
    if (path == NULL)
        return emb_fail_nomem(err, "a path", strlen(directory));
    emb_status status = emb_mapping_open(&file, path, err);
    if (status == EMB_OK) {
        if (file.length > MAX_MODEL_BYTES)
            status = emb_fail(err, EMB_E_LIMIT, path, "has %zu bytes, the limit is %d", file.length,
                              MAX_MODEL_BYTES);
        else
            status = emb_sentencepiece_json(file.length ? (const void *)file.data : "", file.length, path,
                                            json, length, err);
        emb_mapping_close(&file);
    }
    free(path);
    return status;
}
