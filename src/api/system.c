/*
 * system.c: what supervisors and Prometheus ask for.
 *
 * /health says that the process answers, whatever it is busy with: it stays 200 while draining, so that
 * nobody restarts a process that is about to finish. /ready says whether to send it requests. Both answer on
 * the loop's thread and wait for nothing.
 *
 * /metrics goes to a worker, since counting ten thousand open files takes a while; when all workers are busy
 * it is written in place rather than refused: overload is when one wants to look.
 */
#include "api/out.h"

#include <string.h>

static void get_health(emb_api_call *call)
{
    emb_out o;
    emb_out_begin(&o, call);
    emb_out_open(&o, NULL, '{');
    emb_out_text(&o, "status", "healthy");
    emb_out_text(&o, "model", emb_models_default_name(emb_service_models(call->service)));
    emb_out_text(&o, "device", "cpu");
    emb_out_text(&o, "version", emb_version());
    emb_out_close(&o, '}');
    emb_out_reply(&o, call, NULL);
}

static void get_ready(emb_api_call *call)
{
    bool draining = emb_api_draining(call->api), ready = emb_service_ready(call->service) && !draining;
    const char *why = draining ? "The service is stopping: it finishes what it has and takes no new requests."
                               : "The service is starting: models are being loaded.";
    emb_out o;
    emb_out_begin(&o, call);
    emb_out_open(&o, NULL, '{');
    emb_out_text(&o, "status", ready ? "ready" : draining ? "draining" : "starting");
    if (!ready) {
        emb_out_text(&o, "error", why);
        emb_out_text(&o, "error_type", "Unhealthy");
    }
    emb_out_close(&o, '}');
    if (ready || o.status) {
        emb_out_reply(&o, call, NULL);
        return;
    }
    emb_exchange_add_header(call->x, "retry-after", "1");
    emb_call_send(call, 503, "application/json", &o.body);
}

static void write_metrics(emb_api_call *call)
{
    emb_buf body;
    emb_call_body(call, &body);
    emb_status status = emb_metrics_write_prometheus(emb_service_metrics(call->service), &body);
    if (status)
        emb_call_finish(call, NULL, &body, status);
    else
        emb_call_send(call, 200, "text/plain; version=0.0.4; charset=utf-8", &body);
}

static void write_metrics_on_worker(emb_exchange *x)
{
    write_metrics(emb_exchange_data(x));
}

static void get_metrics(emb_api_call *call)
{
    if (!emb_exchange_park(call->x, write_metrics_on_worker))
        write_metrics(call);
}

const emb_route emb_routes_system[] = {
    {EMB_HTTP_GET, "/health", EMB_FAMILY_MODEL_SERVER, EMB_AUTH_HEALTH, EMB_RIGHT_ANY, get_health,
     "Whether the process answers.", NULL,
     "{\"type\":\"object\",\"required\":[\"status\",\"model\",\"device\"],\"properties\":{\"status\":{"
     "\"type\":\"string\"},"
     "\"model\":{\"type\":\"string\"},\"device\":{\"type\":\"string\"},\"version\":{\"type\":\"string\"}}}",
     NULL, NULL},
    {EMB_HTTP_GET, "/ready", EMB_FAMILY_MODEL_SERVER, EMB_AUTH_HEALTH, EMB_RIGHT_ANY, get_ready,
     "Whether to send it requests: 503 until models are loaded, and while it stops.", NULL,
     "{\"type\":\"object\",\"required\":[\"status\"],\"properties\":{\"status\":{\"const\":\"ready\"}}}",
     NULL, NULL},
    {EMB_HTTP_GET, "/metrics", EMB_FAMILY_MODEL_SERVER, EMB_AUTH_METRICS, EMB_RIGHT_READ, get_metrics,
     "Counters for Prometheus.", NULL, NULL, "text/plain", NULL},
    {0}};
