/*
 * docs.c: the pages of the program itself: /openapi.json, and /docs, which is also what / shows.
 *
 * web/docs.html is taken into the object file by the assembler (.incbin), so that the program needs no file
 * at run time; the build knows of the dependency (CMakeLists.txt). The page fetches /openapi.json and nothing
 * else.
 */
#include "api/call.h"
#include "api/openapi.h"

#include <string.h>

__asm__(".pushsection .rodata\n"
        ".global emb_docs_begin\n"
        ".global emb_docs_end\n"
        "emb_docs_begin:\n"
        ".incbin \"" EMB_WEB_DIR "/docs.html\"\n"
        "emb_docs_end:\n"
        ".byte 0\n"
        ".popsection\n");

extern const char emb_docs_begin[] __attribute__((visibility("hidden"))),
    emb_docs_end[] __attribute__((visibility("hidden")));

const char *emb_docs_page(size_t *length)
{
    *length = (size_t)(emb_docs_end - emb_docs_begin);
    return emb_docs_begin;
}

static void send_copy(emb_api_call *call, const char *type, const char *text, size_t length)
{
    emb_buf body;
    emb_call_body(call, &body);
    emb_status status = emb_buf_add(&body, text, length);
    if (status)
        emb_call_finish(call, NULL, &body, status);
    else
        emb_call_send(call, 200, type, &body);
}

static void get_document(emb_api_call *call)
{
    const emb_buf *document = emb_api_document(call->api);
    send_copy(call, "application/json", document->data, document->length);
}

static void get_page(emb_api_call *call)
{
    size_t length;
    const char *page = emb_docs_page(&length);
    emb_exchange_add_header(
        call->x, "content-security-policy",
        "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'; "
        "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'");
    emb_exchange_add_header(call->x, "x-content-type-options", "nosniff");
    send_copy(call, "text/html; charset=utf-8", page, length);
}

const emb_route emb_routes_docs[] = {
    {EMB_HTTP_GET, "/openapi.json", EMB_FAMILY_OPENAI, EMB_AUTH_OPEN, EMB_RIGHT_ANY, get_document,
     "This document.", NULL, "{\"type\":\"object\"}", NULL, NULL},
    {EMB_HTTP_GET, "/docs", EMB_FAMILY_OPENAI, EMB_AUTH_OPEN, EMB_RIGHT_ANY, get_page,
     "This document as a page to read and try.", NULL, NULL, "text/html", NULL},
    {EMB_HTTP_GET, "/", EMB_FAMILY_OPENAI, EMB_AUTH_OPEN, EMB_RIGHT_ANY, get_page, "The same page.", NULL,
     NULL, "text/html", NULL},
    {0}};
