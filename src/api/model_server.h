/*
 * model_server.h: what the files of the model server's family share. Internal to api/.
 *
 *     emb_request r = EMB_REQUEST_INIT;
 *     r.normalize = EMB_ON;
 *     if (emb_call_json(call, &root) && emb_call_headers(call, &r))
 *         emb_server_embed_inputs(call, root, &r);
 *
 * model_server.c has /embed and what models of other kinds would do; similarity.c the hub client's paths and
 * cosines; tokens.c tokens and text; embed_all.c vectors of tokens. Rules of ownership and threads are those
 * of call.h.
 */
#ifndef EMB_API_MODEL_SERVER_H
#define EMB_API_MODEL_SERVER_H

#include "api/call.h"

/* The members that all bodies of the family take, at the root or in "parameters". false: has answered. */
EMB_MUST_CHECK bool emb_server_options(emb_api_call *call, emb_json_value root, emb_request *request);
/* Embeds "inputs" and answers the bare array of vectors. */
void emb_server_embed_inputs(emb_api_call *call, emb_json_value root, emb_request *request);
void emb_server_embed_all(emb_api_call *call); /* a route's handler */

#define EMB_SERVER_OPTION_MEMBERS                                                                           \
    "\"model\":{\"type\":[\"string\",\"null\"],\"maxLength\":1024,\"examples\":[\"all-MiniLM-L6-v2\"]},"    \
    "\"normalize\":{\"type\":[\"boolean\",\"null\"],\"default\":true},"                                     \
    "\"truncate\":{\"default\":true,\"enum\":[true,false,\"none\",\"start\",\"end\",null],\"description\":" \
    "\"false: a "                                                                                           \
    "text over the model's limit of tokens is an error.\"},"                                                \
    "\"truncation_direction\":{\"enum\":[\"Left\",\"Right\",\"left\",\"right\",null]},"                     \
    "\"prompt_name\":{\"type\":[\"string\",\"null\"],\"maxLength\":1024},"                                  \
    "\"dimensions\":{\"type\":[\"integer\",\"null\"],\"minimum\":1,\"maximum\":65536},"                     \
    "\"parameters\":{\"type\":[\"object\",\"null\"],\"description\":\"The same members, as the Hugging "    \
    "Face hub's client "                                                                                    \
    "nests them.\"}"
#define EMB_SERVER_IDS                                                                              \
    "{\"type\":\"array\",\"minItems\":1,\"items\":{\"type\":\"integer\",\"minimum\":0,\"maximum\":" \
    "2147483647}}"
#define EMB_SERVER_INPUTS                                                                               \
    "{\"anyOf\":[{\"type\":\"string\",\"minLength\":1},{\"type\":\"array\",\"minItems\":1,\"items\":{"  \
    "\"type\":\"string\","                                                                              \
    "\"minLength\":1}}," EMB_SERVER_IDS ",{\"type\":\"array\",\"minItems\":1,\"items\":" EMB_SERVER_IDS \
    "}],"                                                                                               \
    "\"examples\":[\"What is Deep Learning?\"]}"

#endif
