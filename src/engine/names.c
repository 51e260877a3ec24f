/* The names of the choices in embedd.h, in one table each, and the library's version. */
#include <embedd.h>

#include <string.h>

static const char *const precision_names[] = {
    [EMB_PRECISION_AUTO] = "auto",
    [EMB_PRECISION_FP32] = "fp32",
    [EMB_PRECISION_BF16] = "bf16",
    [EMB_PRECISION_INT8] = "int8",
};

static const char *const pooling_names[] = {
    [EMB_POOLING_MODEL] = "model", [EMB_POOLING_MEAN] = "mean", [EMB_POOLING_CLS] = "cls",
    [EMB_POOLING_MAX] = "max",     [EMB_POOLING_LAST] = "last", [EMB_POOLING_MEAN_SQRT_LEN] = "mean-sqrt-len",
};

static const char *const truncation_names[] = {
    [EMB_TRUNCATE_MODEL] = "model",
    [EMB_TRUNCATE_RIGHT] = "right",
    [EMB_TRUNCATE_LEFT] = "left",
    [EMB_TRUNCATE_NONE] = "none",
};

#define COUNT(names) (sizeof(names) / sizeof *(names))

static const char *name_at(const char *const *names, size_t count, long value)
{
    return value >= 0 && (size_t)value < count ? names[value] : NULL;
}

/* The value of a name, -1 if there is none. */
static int value_of(const char *const *names, size_t count, const char *name)
{
    for (size_t i = 0; name && i < count; i++)
        if (!strcmp(names[i], name))
            return (int)i;
    return -1;
}

const char *emb_precision_name(emb_precision precision)
{
    return name_at(precision_names, COUNT(precision_names), (long)precision);
}

const char *emb_pooling_name(emb_pooling pooling)
{
    return name_at(pooling_names, COUNT(pooling_names), (long)pooling);
}

const char *emb_truncation_name(emb_truncation truncation)
{
    return name_at(truncation_names, COUNT(truncation_names), (long)truncation);
}

bool emb_precision_parse(const char *name, emb_precision *out)
{
    int value = value_of(precision_names, COUNT(precision_names), name);
    if (value >= 0)
        *out = (emb_precision)value;
    return value >= 0;
}

bool emb_pooling_parse(const char *name, emb_pooling *out)
{
    int value = value_of(pooling_names, COUNT(pooling_names), name);
    if (value >= 0)
        *out = (emb_pooling)value;
    return value >= 0;
}

bool emb_truncation_parse(const char *name, emb_truncation *out)
{
    int value = value_of(truncation_names, COUNT(truncation_names), name);
    if (value >= 0)
        *out = (emb_truncation)value;
    return value >= 0;
}

const char *emb_version(void)
{
    return EMB_VERSION_STRING;
}
