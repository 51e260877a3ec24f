/*
 * kit.c: what surrounds embedding: ledger, budget, breakers, rollout, shadow, alerts, as the configuration asks for them.
 */
#include "service/service_parts.h"

emb_ledger *emb_service_ledger(emb_service *service)
{
    return service->kit.ledger;
}

emb_shadow *emb_service_shadow(emb_service *service)
{
    return service->kit.shadow;
}

emb_alerts *emb_service_alerts(emb_service *service)
{
    return service->kit.alerts;
}

emb_rollout *emb_service_rollout(emb_service *service)
{
    return service->kit.rollout;
}

emb_budget *emb_service_budget(emb_service *service)
{
    return service->kit.budget;
}

emb_breakers *emb_service_breakers(emb_service *service)
{
    return service->kit.breakers;
}
