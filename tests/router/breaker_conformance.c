/* The conformance suite of breakers on the server named by EMBEDD_TEST_STATE. */
#include "unit/router/breaker_conformance.h"

int main(void)
{
    const struct CMUnitTest tests[] = {BREAKER_CONFORMANCE};
    breaker_url = getenv("EMBEDD_TEST_STATE");
    if (!breaker_url)
        return 77;
    return cmocka_run_group_tests_name(breaker_url, tests, NULL, NULL);
}
