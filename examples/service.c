/* The service in process.   cc service.c $(pkg-config --cflags --libs embedd-service) && ./a.out */
#include <embedd_service.h>
#include <stdio.h>
#include <string.h>

int main(int argc, char **argv)
{
    static const char *const settings[] = {"cache.url=none", NULL};
    const char *text = argc > 1 ? argv[1] : "portfolio rebalancing strategy";
    emb_service_options options = EMB_SERVICE_OPTIONS_INIT;
    emb_service *service;
    emb_service_result *result = NULL;
    emb_error error;
    int status = 1;
    options.settings = settings;
    if (emb_service_create(&options, &service, &error))
        return fprintf(stderr, "%s\n", error.message), 1;
    if (emb_service_generate_with_metadata(service, text, strlen(text), "analysis", &result, &error)) {
        fprintf(stderr, "%s\n", error.message);
    } else {
        printf("%s by %s: %zu dimensions, %s, $%.9f, because %s\n", result->model, result->provider,
               result->dimension, result->cached[0] ? "cached" : "computed", (double)result->cost_nusd * 1e-9,
               result->reason);
        status = 0;
    }
    emb_service_result_free(result);
    emb_service_destroy(service);
    return status;
}
