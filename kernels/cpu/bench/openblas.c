// Times cblas_sgemm for y = x Wᵀ, x (M,K), W (N,K), both row-major: the call a
// linear layer makes. Each shape is checked against a float64 sum before it is
// timed. Prints one line a shape: "M K N gflops", the best of the repetitions.
//
//   cc -O2 openblas.c -lopenblas -lm -o openblas
//   OPENBLAS_NUM_THREADS=2 ./openblas 5 1024x1024x1024 2048x896x4864
#include <cblas.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static double seconds(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec + 1e-9 * t.tv_nsec;
}

static float *filled(size_t n, unsigned seed) {
  float *p = malloc(n * sizeof *p);
  if (p == NULL) exit(2);
  for (size_t i = 0; i < n; i++) {
    seed = seed * 1664525u + 1013904223u;
    p[i] = (float)(seed >> 8) / 8388608.0f - 1.0f;
  }
  return p;
}

static void multiply(int m, int k, int n, const float *x, const float *w, float *y) {
  cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, m, n, k, 1, x, k, w, k, 0, y, n);
}

// Samples rows and columns; the bound is K eps sum |x||w|.
static int wrong(int m, int k, int n, const float *x, const float *w, const float *y) {
  for (int i = 0; i < m; i += 61)
    for (int j = 0; j < n; j += 37) {
      double sum = 0, mass = 0;
      for (int p = 0; p < k; p++) {
        double t = (double)x[(size_t)i * k + p] * w[(size_t)j * k + p];
        sum += t;
        mass += fabs(t);
      }
      if (!(fabs(sum - y[(size_t)i * n + j]) <= k * 0x1p-24 * mass)) return 1;
    }
  return 0;
}

int main(int argc, char **argv) {
  int reps = argc > 1 ? atoi(argv[1]) : 5;
  for (int a = 2; a < argc; a++) {
    int m, k, n;
    if (sscanf(argv[a], "%dx%dx%d", &m, &k, &n) != 3) {
      fprintf(stderr, "shape %s: want MxKxN\n", argv[a]);
      return 2;
    }
    float *x = filled((size_t)m * k, 1), *w = filled((size_t)n * k, 2), *y = filled((size_t)m * n, 3);
    multiply(m, k, n, x, w, y);
    if (wrong(m, k, n, x, w, y)) {
      fprintf(stderr, "shape %s: wrong product\n", argv[a]);
      return 1;
    }
    double best = 1e30;
    for (int r = 0; r < reps; r++) {
      double t = seconds();
      multiply(m, k, n, x, w, y);
      t = seconds() - t;
      if (t < best) best = t;
    }
    printf("%d %d %d %.1f\n", m, k, n, 2.0 * m * k * n / best * 1e-9);
    free(x);
    free(w);
    free(y);
  }
  return 0;
}
