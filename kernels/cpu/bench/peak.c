// Prints the multiply-add rate of one core in GFLOP/s, the best of five runs:
// twelve independent chains of AVX2 fused multiply-adds on registers.
//
//	cc -O3 -mavx2 -mfma peak.c -o peak
#include <immintrin.h>
#include <stdio.h>
#include <time.h>

int main(void) {
  const long steps = 10000000;
  double best = 0;
  volatile float sink;
  for (int run = 0; run < 5; run++) {
    __m256 x = _mm256_set1_ps(0.5f), y = _mm256_set1_ps(0.1f), a[12];
    for (int i = 0; i < 12; i++) a[i] = _mm256_set1_ps((float)i);
    struct timespec from, to;
    clock_gettime(CLOCK_MONOTONIC, &from);
    for (long k = 0; k < steps; k++) {
#pragma GCC unroll 12
      for (int i = 0; i < 12; i++) a[i] = _mm256_fmadd_ps(a[i], x, y);
    }
    clock_gettime(CLOCK_MONOTONIC, &to);
    double s = (to.tv_sec - from.tv_sec) + 1e-9 * (to.tv_nsec - from.tv_nsec);
    for (int i = 0; i < 12; i++) sink = _mm256_cvtss_f32(a[i]);
    if (steps * 12 * 16 / s * 1e-9 > best) best = steps * 12 * 16 / s * 1e-9;
  }
  (void)sink;
  printf("%.1f\n", best);
  return 0;
}
