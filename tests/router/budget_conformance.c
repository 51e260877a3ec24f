/* The conformance suite of budgets on the server named by EMBEDD_TEST_STATE. */
#include "unit/router/budget_conformance.h"

int main(void)
{
    const struct CMUnitTest tests[] = {BUDGET_CONFORMANCE};
    budget_url = getenv("EMBEDD_TEST_STATE");
    if (!budget_url)
        return 77;
    return cmocka_run_group_tests_name(budget_url, tests, NULL, NULL);
}
