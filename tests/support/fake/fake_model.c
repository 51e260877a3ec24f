#include "support/fake_model.h"

#include "base/error.h"
#include "base/file.h"
#include "model/encoder.h"
#include "tokenizer/tokenizer.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

fake_control fake = {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};
static char root[64];

struct emb_tokenizer {
    bool bare, foreign;
};

struct emb_encoder {
    const emb_model_spec *spec;
    emb_precision precision;
};

/* ---- control --------------------------------------------------------------------------------- */

static void remove_root(void)
{
    char command[128];
    if (!root[0])
        return;
    snprintf(command, sizeof command, "rm -rf '%s'", root);
    if (system(command) != 0)
        fprintf(stderr, "cannot remove %s\n", root);
}

void fake_model_reset(void)
{
    static bool registered;
    if (!registered)
        atexit(remove_root);
    registered = true;
    remove_root();
    strcpy(root, "/tmp/embedd-fake-XXXXXX");
    if (!mkdtemp(root))
        abort();
    pthread_mutex_lock(&fake.lock);
    fake.passes = fake.in_gate = fake.loads = 0;
    fake.closed_gate = false;
    fake.pass_us = fake.load_us = 0;
    fake.workspace_limit = fake.workspaces_limit = 0;
    fake.nan_id = 0;
    pthread_mutex_unlock(&fake.lock);
}

const char *fake_model_root(void)
{
    return root;
}

const char *fake_model_make(const char *name, const char *files)
{
    static char paths[2][256];
    static int turn;
    char *path = paths[turn = !turn], file[512], list[256];
    snprintf(path, sizeof paths[0], "%s/%s", root, name);
    mkdir(path, 0777);
    snprintf(list, sizeof list, "config.json %s", files ? files : "");
    for (char *saved, *word = strtok_r(list, " ", &saved); word; word = strtok_r(NULL, " ", &saved)) {
        snprintf(file, sizeof file, "%s/%s", path, word);
        FILE *stream = fopen(file, "w");
        if (!stream)
            abort();
        fclose(stream);
    }
    return path;
}

void fake_model_remove_file(const char *name, const char *file)
{
    char path[512];
    snprintf(path, sizeof path, "%s/%s/%s", root, name, file);
    unlink(path);
}

size_t fake_loads(void)
{
    pthread_mutex_lock(&fake.lock);
    size_t loads = fake.loads;
    pthread_mutex_unlock(&fake.lock);
    return loads;
}

void fake_gate(bool closed)
{
    pthread_mutex_lock(&fake.lock);
    fake.closed_gate = closed;
    pthread_cond_broadcast(&fake.changed);
    pthread_mutex_unlock(&fake.lock);
}

void fake_wait_gate(size_t count)
{
    pthread_mutex_lock(&fake.lock);
    while (fake.in_gate < count)
        pthread_cond_wait(&fake.changed, &fake.lock);
    pthread_mutex_unlock(&fake.lock);
}

/* ---- spec.h ---------------------------------------------------------------------------------- */

static bool has(const char *directory, const char *file)
{
    char *path = emb_path_join(directory, file);
    bool found = path && emb_is_file(path);
    free(path);
    return found;
}

const char *emb_architecture_name(emb_architecture architecture)
{
    (void)architecture;
    return "fake";
}

emb_status emb_model_spec_read(emb_model_spec *spec, const char *directory, emb_error *err)
{
    static const emb_prompt prompts[] = {{"any", "A:", 2}, {"document", "D:", 2}, {"query", "Q:", 2}};
    memset(spec, 0, sizeof *spec);
    emb_arena_init(&spec->arena);
    const char *slash = strrchr(directory, '/');
    spec->directory = emb_arena_strndup(&spec->arena, directory, strlen(directory));
    spec->name = emb_arena_strndup(&spec->arena, slash + 1, strlen(slash + 1));
    if (!spec->directory || !spec->name) {
        emb_arena_fini(&spec->arena);
        return emb_fail_nomem(err, "fake spec", 1);
    }
    spec->transformer = spec->directory;
    spec->dimension = spec->hidden = FAKE_DIMENSION;
    spec->max_tokens = FAKE_MAX_TOKENS;
    spec->vocab_size = FAKE_VOCAB;
    spec->pooling = EMB_POOLING_MEAN;
    spec->pooling_count = 1;
    spec->include_prompt = !has(directory, "exclude");
    spec->truncate_left = has(directory, "left");
    spec->lower_case = has(directory, "lower");
    if (has(directory, "prompts")) {
        spec->prompts = prompts;
        spec->prompt_count = 3;
        spec->default_prompt = "any";
    }
    return EMB_OK;
}

void emb_model_spec_fini(emb_model_spec *spec)
{
    emb_arena_fini(&spec->arena);
}

const emb_prompt *emb_model_spec_prompt(const emb_model_spec *spec, const char *name)
{
    for (size_t i = 0; i < spec->prompt_count; i++)
        if (!strcmp(spec->prompts[i].name, name))
            return &spec->prompts[i];
    return NULL;
}

/* ---- tokenizer.h ----------------------------------------------------------------------------- */

emb_status emb_tokenizer_open(const char *directory, emb_tokenizer **out, emb_error *err)
{
    *out = malloc(sizeof **out);
    if (!*out)
        return emb_fail_nomem(err, "fake tokenizer", sizeof **out);
    (*out)->bare = has(directory, "bare");
    (*out)->foreign = has(directory, "foreign");
    return EMB_OK;
}

emb_status emb_tokenizer_open_json(const char *text, size_t length, const char *where, emb_tokenizer **out,
                                   emb_error *err)
{
    (void)text;
    (void)length;
    *out = NULL;
    return emb_fail(err, EMB_E_UNSUPPORTED, where, "fake");
}

void emb_tokenizer_close(emb_tokenizer *tokenizer)
{
    free(tokenizer);
}

const char *emb_tokenizer_kind(const emb_tokenizer *tokenizer)
{
    (void)tokenizer;
    return "Fake";
}

size_t emb_tokenizer_vocab_size(const emb_tokenizer *tokenizer)
{
    (void)tokenizer;
    return FAKE_VOCAB;
}

int32_t emb_tokenizer_id(const emb_tokenizer *tokenizer, const char *token, size_t length)
{
    (void)tokenizer;
    return length == 1 ? (unsigned char)token[0] : -1;
}

const char *emb_tokenizer_token(const emb_tokenizer *tokenizer, int32_t id, size_t *length)
{
    (void)tokenizer;
    *length = 1;
    return id == 'a' ? "a" : NULL;
}

size_t emb_tokenizer_added_count(const emb_tokenizer *tokenizer)
{
    return tokenizer->bare ? 0 : 2;
}

void emb_encoding_init(emb_encoding *encoding)
{
    memset(encoding, 0, sizeof *encoding);
}

void emb_encoding_fini(emb_encoding *encoding)
{
    free(encoding->ids);
    free(encoding->starts);
    free(encoding->ends);
    free(encoding->special);
    emb_encoding_init(encoding);
}

static emb_status make_room(emb_encoding *encoding, size_t count, emb_error *err)
{
    if (count <= encoding->capacity)
        return EMB_OK;
    emb_encoding_fini(encoding);
    encoding->ids = malloc(count * sizeof *encoding->ids);
    encoding->starts = malloc(count * sizeof *encoding->starts);
    encoding->ends = malloc(count * sizeof *encoding->ends);
    encoding->special = malloc(count);
    if (!encoding->ids || !encoding->starts || !encoding->ends || !encoding->special) {
        emb_encoding_fini(encoding);
        return emb_fail_nomem(err, "fake encoding", count);
    }
    encoding->capacity = count;
    return EMB_OK;
}

static void put(emb_encoding *encoding, int32_t id, size_t start, size_t end, bool special)
{
    encoding->ids[encoding->count] = id;
    encoding->starts[encoding->count] = (uint32_t)start;
    encoding->ends[encoding->count] = (uint32_t)end;
    encoding->special[encoding->count++] = special;
}

emb_status emb_tokenizer_encode(const emb_tokenizer *tokenizer, const char *text, size_t length,
                                const emb_encode_options *options, emb_encoding *encoding, emb_error *err)
{
    bool special = options->add_special_tokens && !tokenizer->bare;
    size_t keep = length, begin = 0,
           room = options->max_tokens ? options->max_tokens - 2 * special : SIZE_MAX;
    keep = keep < room ? keep : room;
    if (options->truncate_left)
        begin = length - keep;
    emb_status status = make_room(encoding, keep + 3, err);
    if (status)
        return status;
    encoding->count = 0;
    encoding->untruncated = length + 2 * special;
    if (special)
        put(encoding, 256, 0, 0, true);
    for (size_t i = begin; i < begin + keep; i++)
        put(encoding, tokenizer->foreign ? FAKE_VOCAB : (unsigned char)text[i], i, i + 1, false);
    if (special)
        put(encoding, 257, 0, 0, true);
    return EMB_OK;
}

/* ---- encoder.h ------------------------------------------------------------------------------- */

emb_status emb_encoder_open(const emb_model_spec *spec, const emb_kernels *kernels, emb_precision precision,
                            emb_encoder **out, emb_error *err)
{
    pthread_mutex_lock(&fake.lock);
    fake.loads++;
    unsigned load_us = fake.load_us;
    pthread_mutex_unlock(&fake.lock);
    if (load_us)
        usleep(load_us);
    *out = NULL;
    if (has(spec->directory, "broken"))
        return emb_fail(err, EMB_E_CORRUPT, spec->directory, "fake weights are broken");
    *out = malloc(sizeof **out);
    if (!*out)
        return emb_fail_nomem(err, "fake encoder", sizeof **out);
    (*out)->spec = spec;
    (*out)->precision = precision ? precision : kernels->auto_precision;
    pthread_mutex_lock(&fake.lock);
    fake.open_encoders++;
    pthread_mutex_unlock(&fake.lock);
    return EMB_OK;
}

void emb_encoder_close(emb_encoder *encoder)
{
    if (!encoder)
        return;
    pthread_mutex_lock(&fake.lock);
    fake.open_encoders--;
    pthread_mutex_unlock(&fake.lock);
    free(encoder);
}

emb_precision emb_encoder_precision(const emb_encoder *encoder)
{
    return encoder->precision;
}

size_t emb_encoder_parameters(const emb_encoder *encoder)
{
    (void)encoder;
    return 1000;
}

size_t emb_encoder_weight_bytes(const emb_encoder *encoder)
{
    (void)encoder;
    return 4000;
}

emb_status emb_workspace_open(emb_workspace *workspace, const emb_encoder *encoder, size_t max_tokens,
                              emb_error *err)
{
    pthread_mutex_lock(&fake.lock);
    bool refused = (fake.workspace_limit && max_tokens > fake.workspace_limit) ||
                   (fake.workspaces_limit && fake.open_workspaces >= fake.workspaces_limit);
    pthread_mutex_unlock(&fake.lock);
    memset(workspace, 0, sizeof *workspace);
    workspace->memory = refused ? NULL : malloc(max_tokens);
    if (!workspace->memory)
        return emb_fail_nomem(err, "fake workspace", max_tokens);
    workspace->max_tokens = max_tokens;
    workspace->encoder = encoder;
    pthread_mutex_lock(&fake.lock);
    fake.open_workspaces++;
    pthread_mutex_unlock(&fake.lock);
    return EMB_OK;
}

void emb_workspace_close(emb_workspace *workspace)
{
    if (!workspace->memory)
        return;
    free(workspace->memory);
    workspace->memory = NULL;
    pthread_mutex_lock(&fake.lock);
    fake.open_workspaces--;
    pthread_mutex_unlock(&fake.lock);
}

static void vector_of(const int32_t *ids, size_t count, size_t skip, const emb_batch *batch, float *out)
{
    float sum = 0, turned = 0;
    for (size_t i = skip; i < count; i++)
        sum += (float)ids[i];
    for (size_t i = 0; i < count; i++)
        turned = (float)((int64_t)(turned * 31 + (float)ids[i]) % 65521);
    float all[FAKE_DIMENSION] = {
        sum, (float)count, turned, (float)batch->pooling, (float)batch->normalize, (float)batch->dimensions};
    size_t n = batch->dimensions ? batch->dimensions : FAKE_DIMENSION;
    int nan_id = atomic_load(&fake.nan_id);
    for (size_t i = 0; i < count && nan_id; i++)
        if (ids[i] == nan_id)
            all[n - 1] = NAN;
    memcpy(out, all, n * sizeof *out);
}

typedef struct job {
    const emb_batch *batch;
    float *const *out;
} job;

static void one_row(void *args, size_t i)
{
    const job *j = args;
    const emb_batch *batch = j->batch;
    uint32_t begin = batch->offsets[i], count = batch->offsets[i + 1] - begin;
    vector_of(batch->ids + begin, count, batch->skip ? batch->skip[i] : 0, batch, j->out[i]);
}

static void note_pass(const emb_encoder *encoder, const emb_batch *batch, emb_team *team)
{
    pthread_mutex_lock(&fake.lock);
    fake_pass *pass = &fake.log[fake.passes < FAKE_LOG ? fake.passes++ : FAKE_LOG - 1];
    *pass = (fake_pass){.thread = pthread_self(),
                        .model = encoder->spec->name[0],
                        .sequences = batch->count,
                        .tokens = batch->offsets[batch->count],
                        .team = team ? 1 : 0,
                        .first_id = batch->offsets[1] > 1 ? batch->ids[1] : -1};
    for (size_t i = 0; i < pass->tokens; i++)
        if (batch->ids[i] < 256)
            pass->letters[batch->ids[i]] = true;
    fake.in_gate++;
    pthread_cond_broadcast(&fake.changed);
    while (fake.closed_gate)
        pthread_cond_wait(&fake.changed, &fake.lock);
    fake.in_gate--;
    unsigned pass_us = fake.pass_us;
    pthread_mutex_unlock(&fake.lock);
    if (pass_us)
        usleep(pass_us);
}

void emb_encoder_forward(const emb_encoder *encoder, emb_workspace *workspace, const emb_batch *batch,
                         emb_team *team, float *const *out)
{
    size_t tokens = batch->offsets[batch->count];
    if (workspace->encoder != encoder || tokens > workspace->max_tokens || !batch->count)
        abort();
    memset(workspace->memory, 1, tokens); /* two passes in one workspace are a data race */
    note_pass(encoder, batch, team);
    job j = {batch, out};
    emb_team_run(team, one_row, &j, batch->count);
}

void fake_vector(const char *text, size_t length, float *out)
{
    int32_t ids[FAKE_MAX_TOKENS];
    uint32_t offsets[2];
    size_t count = 0, keep = length < FAKE_MAX_TOKENS - 2 ? length : FAKE_MAX_TOKENS - 2;
    ids[count++] = 256;
    for (size_t i = 0; i < keep; i++)
        ids[count++] = (unsigned char)text[i];
    ids[count++] = 257;
    offsets[0] = 0;
    offsets[1] = (uint32_t)count;
    emb_batch batch = {.ids = ids, .offsets = offsets, .count = 1, .pooling = EMB_POOLING_MEAN};
    vector_of(ids, count, 0, &batch, out);
}
