/*
 * tiktoken_pieces.c: the pattern of cl100k_base by hand.
 *
 *     (?i:'s|'t|'re|'ve|'m|'ll|'d) | [^\r\n\p{L}\p{N}]?\p{L}+ | \p{N}{1,3} | ␣?[^\s\p{L}\p{N}]+[\r\n]* |
 *     \s*[\r\n]+ | \s+(?!\S) | \s+
 *
 * Its alternatives are told apart by the first two characters, so that nothing is ever taken back but the end
 * of a run of white space, which at most two pieces look at: the scan is linear, which PCRE2 could not
 * promise, and many times faster. Newer tiktoken writes the last three as \s++$|\s*[\r\n]|\s+(?!\S)|\s. That
 * leaves white space at the end of a text in one piece where this one cuts behind its last line end, but no
 * token goes over such a place, so the tokens are the same (compared with both).
 */
#include "tokenizer/tiktoken_pieces.h"

#include "tokenizer/transform.h"
#include "tokenizer/unicode.h"

enum {
    LETTER = EMB_UNICODE_LETTER,
    NUMBER = EMB_UNICODE_NUMBER,
    SPACE = EMB_UNICODE_WHITESPACE,
    ANY = LETTER | NUMBER | SPACE
};

/* The flags of the character at `at` and its size; none, and 0, at the end. */
static inline uint32_t flags_at(const char *s, size_t n, size_t at, size_t *size)
{
    uint32_t c;
    *size = 0;
    if (at >= n)
        return 0;
    *size = emb_utf8_next(s + at, &c);
    return emb_unicode_flags(c) & ANY;
}

static inline bool is_line_end(char c)
{
    return c == '\r' || c == '\n';
}

/* Case is ignored as Unicode folds it: U+017F is an s. */
static size_t contraction(const char *s, size_t n)
{
    if (n < 2)
        return 0;
    char a = (char)(s[1] | 0x20), b = n > 2 ? (char)(s[2] | 0x20) : 0;
    if (a == 's' || a == 't' || a == 'm' || a == 'd')
        return 2;
    if ((a == 'r' && b == 'e') || (a == 'v' && b == 'e') || (a == 'l' && b == 'l'))
        return 3;
    return n > 2 && s[1] == '\xC5' && s[2] == '\xBF' ? 3 : 0;
}

/* The end of the characters from `at` on that have one of `flags`, or none of the three if that is 0. */
static size_t run_end(const char *s, size_t n, size_t at, uint32_t flags)
{
    for (size_t size; at < n; at += size) {
        uint32_t found = flags_at(s, n, at, &size);
        if (flags ? !(found & flags) : found != 0)
            break;
    }
    return at;
}

static size_t number_end(const char *s, size_t n, size_t at)
{
    size_t size;
    for (int i = 0; i < 3 && flags_at(s, n, at, &size) == NUMBER; i++)
        at += size;
    return at;
}

/* Nothing but white space at `at`, or one character and then no letter. */
static size_t space_end(const char *s, size_t n, size_t at)
{
    size_t size, last = at, line = 0, i = at;
    for (; flags_at(s, n, i, &size) == SPACE; i += size) {
        last = i;
        if (is_line_end(s[i]))
            line = i + 1;
    }
    if (line > 0)
        return line;
    return i == n || last == at ? i : last;
}

size_t emb_cl100k_piece_end(const char *s, size_t n, size_t at)
{
    size_t size, next_size;
    if (s[at] == '\'') {
        size_t length = contraction(s + at, n - at);
        if (length > 0)
            return at + length;
    }
    uint32_t first = flags_at(s, n, at, &size);
    if (first == LETTER)
        return run_end(s, n, at + size, LETTER);
    if (first == NUMBER)
        return number_end(s, n, at);
    uint32_t next = flags_at(s, n, at + size, &next_size);
    if (next == LETTER && !is_line_end(s[at]))
        return run_end(s, n, at + size + next_size, LETTER);
    if (first == SPACE && !(s[at] == ' ' && next == 0 && next_size > 0))
        return space_end(s, n, at);
    size_t end = run_end(s, n, at + size, 0);
    while (end < n && is_line_end(s[end]))
        end++;
    return end;
}
