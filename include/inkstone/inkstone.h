/* Inkstone's C ABI: a small, stable surface over inkstone.hpp. Strings are UTF-8. */
#ifndef INKSTONE_INKSTONE_H_
#define INKSTONE_INKSTONE_H_

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct inkstone_session inkstone_session;

/* Zero-initialize, then set what matters: 0 and NULL mean "choose". */
typedef struct inkstone_model_options {
  const char* path; /* GGUF file or Hugging Face folder */
  int threads;
  int64_t context;
  const char* cache_type;      /* "f16" by default */
  const char* const* adapters; /* "FILE" or "FILE:SCALE", applied in this order */
  size_t num_adapters;
} inkstone_model_options;

typedef struct inkstone_generate_options {
  int max_tokens;     /* 0: to the end of the context */
  double temperature; /* 0 is greedy */
  int top_k;          /* 0: off */
  double top_p;       /* 0 counts as 1 (off) */
  uint64_t seed;
} inkstone_generate_options;

/* Called with whole characters as they come; return 0 to stop. */
typedef int (*inkstone_text_fn)(const char* text, size_t size, void* user);

/* NULL on failure; `error` (of `error_size` bytes, may be NULL) then holds one sentence. */
inkstone_session* inkstone_open(const inkstone_model_options* options, char* error,
                                size_t error_size);
/* Tokens generated, or -1 on failure with the reason in `error`. */
int64_t inkstone_generate(inkstone_session* session, const char* prompt,
                          const inkstone_generate_options* options, inkstone_text_fn on_text,
                          void* user, char* error, size_t error_size);
void inkstone_close(inkstone_session* session);

#ifdef __cplusplus
}
#endif

#endif /* INKSTONE_INKSTONE_H_ */
