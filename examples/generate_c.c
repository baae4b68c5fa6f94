/* Streams a greedy continuation with the C ABI.   generate_c MODEL.gguf "Once upon a time" */
#include <stdio.h>

#include "inkstone/inkstone.h"

static int print_text(const char* text, size_t size, void* user) {
  (void)user;
  return fwrite(text, 1, size, stdout) == size && fflush(stdout) == 0;
}

int main(int argc, char** argv) {
  char error[512];
  inkstone_model_options model = {0};
  inkstone_generate_options generate = {0};
  inkstone_session* session;
  int64_t tokens;
  if (argc != 3) {
    fprintf(stderr, "usage: generate_c MODEL PROMPT\n");
    return 2;
  }
  model.path = argv[1];
  session = inkstone_open(&model, error, sizeof(error));
  if (session == NULL) {
    fprintf(stderr, "%s\n", error);
    return 1;
  }
  generate.max_tokens = 64;
  tokens = inkstone_generate(session, argv[2], &generate, print_text, NULL, error, sizeof(error));
  if (tokens < 0) fprintf(stderr, "%s\n", error);
  printf("\n");
  inkstone_close(session);
  return tokens < 0;
}
