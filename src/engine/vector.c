/* Vector functions of embedd.h. In double, so that the cosine of long vectors that are nearly equal is
 * right to the last digits that single precision can hold. */
#include <embedd.h>

#include <math.h>

double emb_cosine(const float *a, const float *b, size_t n)
{
    double ab = 0, aa = 0, bb = 0;
    for (size_t i = 0; i < n; i++) {
        ab += (double)a[i] * b[i];
        aa += (double)a[i] * a[i];
        bb += (double)b[i] * b[i];
    }
    return aa > 0 && bb > 0 ? ab / (sqrt(aa) * sqrt(bb)) : 0;
}
