#include "base/duty.h"

#include <stddef.h>

static _Thread_local emb_duty *mine;

void emb_duty_set(emb_duty *duty)
{
    mine = duty;
}

void emb_duty_pass_on(void)
{
    emb_duty *duty = mine;
    if (!duty)
        return;
    mine = NULL;
    duty->pass_on(duty);
}

int emb_duty_fd(void)
{
    return mine ? mine->fd : -1;
}
