/*
 * cmd_key.c: `embedd key`: a new API key and the entry for it; `embedd key hash`: the entry for a key that
 * there is.
 *
 * A key is 32 random bytes, so that its plain SHA-256 is as good as a slow hash: there is nothing to guess.
 * The key goes to stdout alone on the first line, for scripts; then the YAML entry. It is read from stdin and
 * not from the command line, where others on the machine could see it.
 */
#include "cli/command.h"

#include "crypto/crypto.h"
#include "service/access.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct settings {
    const char *name, *models, *rights;
    size_t requests_per_minute, tokens_per_minute;
} settings;

enum { KEY_BYTES = 32, KEY_MAX = 4096 };

static const emb_option options[] = {
    {.name = "name",
     .letter = 'n',
     .kind = EMB_OPTION_TEXT,
     .argument = "NAME",
     .default_note = "a random one",
     .offset = offsetof(settings, name),
     .help = "what logs, metrics and limits call it"},
    {.name = "requests-per-minute",
     .kind = EMB_OPTION_COUNT,
     .argument = "N",
     .maximum = 1000000000,
     .default_note = "no limit",
     .offset = offsetof(settings, requests_per_minute),
     .help = "how many requests it may make"},
    {.name = "tokens-per-minute",
     .kind = EMB_OPTION_COUNT,
     .argument = "N",
     .maximum = 100000000000,
     .default_note = "no limit",
     .offset = offsetof(settings, tokens_per_minute),
     .help = "how many tokens it may have embedded"},
    {.name = "models",
     .kind = EMB_OPTION_TEXT,
     .argument = "LIST",
     .default_note = "all",
     .offset = offsetof(settings, models),
     .help = "models that it may use, comma between; a * at the end of one matches what follows"},
    {.name = "rights",
     .kind = EMB_OPTION_TEXT,
     .argument = "LIST",
     .default_note = "what access.api_keys_file_rights says",
     .offset = offsetof(settings, rights),
     .help = "what it may do, comma between: use (embed), read (reports, metrics), admin (all)"},
    EMB_OPTIONS_END,
};

/* ---- the entry ---- */

static bool is_name(const char *name)
{
    size_t length = strlen(name);
    for (size_t i = 0; i < length; i++)
        if (name[i] <= ' ' || name[i] > '~' || name[i] == '"' || name[i] == '\\')
            return false;
    return length >= 1 && length <= 64;
}

static void print_models(const char *list)
{
    const char *before = "    models: [";
    while (*list) {
        size_t length = strcspn(list, ",");
        const char *item = list + strspn(list, " "), *end = list + length;
        while (end > item && end[-1] == ' ')
            end--;
        if (end > item) {
            printf("%s\"%.*s\"", before, (int)(end - item), item);
            before = ", ";
        }
        list += length + (list[length] == ',');
    }
    if (*before == ',')
        printf("]\n");
}

static void print_rights(const char *list)
{
    unsigned rights;
    char text[EMB_RIGHTS_TEXT] = "";
    if (emb_rights_parse(list, &rights))
        emb_rights_text(rights & EMB_RIGHT_ADMIN ? EMB_RIGHT_ADMIN : rights, ", ", text, sizeof text);
    printf("    rights: [%s]\n", text);
}

static int print_entry(const settings *s, const char *key, size_t length)
{
    uint8_t digest[EMB_SHA256_BYTES], random[4];
    char hex[2 * EMB_SHA256_BYTES + 1], name[16];
    if (!emb_sha256(key, length, digest) || !emb_random_bytes(random, sizeof random)) {
        emb_report("key", "the system gave no memory or no random bytes");
        return EMB_EXIT_FAILURE;
    }
    memcpy(name, "key-", 4);
    emb_hex(random, sizeof random, name + 4);
    emb_hex(digest, sizeof digest, hex);
    printf("  - name: \"%s\"\n    sha256: \"%s\"\n", s->name ? s->name : name, hex);
    if (s->requests_per_minute)
        printf("    requests_per_minute: %zu\n", s->requests_per_minute);
    if (s->tokens_per_minute)
        printf("    tokens_per_minute: %zu\n", s->tokens_per_minute);
    if (s->models)
        print_models(s->models);
    if (s->rights)
        print_rights(s->rights);
    return EMB_EXIT_OK;
}

/* ---- keys ---- */

static int make_key(const settings *s)
{
    uint8_t random[KEY_BYTES];
    char key[8 + 2 * KEY_BYTES] = "emb-";
    if (!emb_random_bytes(random, sizeof random)) {
        emb_report("key", "the system gave no random bytes");
        return EMB_EXIT_FAILURE;
    }
    emb_hex(random, sizeof random, key + 4);
    printf("%s\n\n"
           "# The key stands above and nowhere else. This goes below 'keys:' in the file that\n"
           "# access.api_keys_file (EMBEDD_API_KEYS_FILE) names:\n",
           key);
    int status = print_entry(s, key, strlen(key));
    explicit_bzero(random, sizeof random);
    explicit_bzero(key, sizeof key);
    return status;
}

static int hash_key(const settings *s)
{
    char key[KEY_MAX + 2];
    size_t length = fread(key, 1, sizeof key, stdin);
    if (ferror(stdin)) {
        emb_report("key", "cannot read standard input");
        return EMB_EXIT_FAILURE;
    }
    while (length && (key[length - 1] == '\n' || key[length - 1] == '\r'))
        length--;
    bool good = length >= 1 && length <= KEY_MAX;
    for (size_t i = 0; i < length; i++)
        good = good && key[i] > ' ' && key[i] <= '~';
    if (!good)
        return emb_usage_error(&emb_command_key,
                               "standard input is not a key: one line of 1 to %d ASCII characters "
                               "without spaces is wanted",
                               KEY_MAX);
    int status = print_entry(s, key, length);
    explicit_bzero(key, sizeof key);
    return status;
}

static int run(const void *opaque, char **arguments, size_t count)
{
    const settings *s = opaque;
    if (s->name && !is_name(s->name))
        return emb_usage_error(&emb_command_key,
                               "--name: is not a word of 1 to 64 ASCII characters without spaces, "
                               "quotes and backslashes");
    if (s->models)
        for (const char *c = s->models; *c; c++)
            if (*c < ' ' || *c > '~' || *c == '"' || *c == '\\' ||
                (*c == '*' && c[1] && c[1] != ',' && c[1] != ' '))
                return emb_usage_error(&emb_command_key,
                                       "--models: is not a list of names with commas between, a * "
                                       "only at the end of one");
    unsigned rights;
    if (s->rights && !emb_rights_parse(s->rights, &rights))
        return emb_usage_error(&emb_command_key,
                               "--rights: is not a list of rights with commas between; there are use, read "
                               "and admin");
    if (count == 0)
        return make_key(s);
    if (strcmp(arguments[0], "hash") != 0)
        return emb_usage_error(&emb_command_key, "there is no 'key %s'; there is 'key hash', and 'key' alone",
                               arguments[0]);
    return hash_key(s);
}

const emb_command emb_command_key = {
    .name = "key",
    .summary = "a new API key for the service, and its line in the file of keys",
    .usage = "key [OPTION...]\nkey [OPTION...] hash <FILE",
    .description = "The key is printed once, on the first line; the service keeps its SHA-256 alone.\n"
                   "hash reads a key from standard input and prints the entry for it.",
    .examples = "  embedd key --name search --requests-per-minute 600 --models 'all-MiniLM-L6-v2,bge-*'\n"
                "  embedd key --name ops --rights admin\n"
                "  printf %s \"$OLD_KEY\" | embedd key --name billing hash",
    .options = options,
    .settings_size = sizeof(settings),
    .maximum_arguments = 1,
    .run = run,
};
