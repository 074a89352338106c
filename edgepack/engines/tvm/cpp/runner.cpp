// Runs a compiled model once, or many times, on files of raw numbers.
//
//   runner FOLDER                          describe the model
//   runner FOLDER IN... --out PREFIX       write PREFIX0.bin, PREFIX1.bin, ... for inputs in their order
//   runner FOLDER IN... --times N          also print the nanoseconds of each of N runs, one a line
//   --threads N                            instead of what interface.txt says
//
// A file holds an input's numbers in C order as they lie in memory. Built by: zig c++ -O2 runner.cpp -ldl (or g++).
// Exit codes: 0 done, 1 the model or a file is wrong, 2 usage.

#include <errno.h>
#include <time.h>

#include "edgepack_tvm.h"

namespace {

int usage() {
  fprintf(stderr, "usage: runner FOLDER [INPUT.bin ...] [--out PREFIX] [--times N] [--threads N]\n");
  return 2;
}

int64_t now_ns() {
  timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return time.tv_sec * 1000000000LL + time.tv_nsec;
}

void describe(const char* kind, const edgepack::Tensor& tensor) {
  printf("%s %s ", kind, tensor.dtype);
  for (int i = 0; i < tensor.ndim; ++i) printf(i ? ",%lld" : "%lld", static_cast<long long>(tensor.shape[i]));
  printf(tensor.ndim ? " %s\n" : "- %s\n", tensor.name);
}

bool read_whole(const char* path, void* data, size_t bytes) {
  FILE* file = fopen(path, "rb");
  if (!file) {
    fprintf(stderr, "error: cannot open %s: %s\n", path, strerror(errno));
    return false;
  }
  size_t found = fread(data, 1, bytes, file);
  bool longer = found == bytes && fgetc(file) != EOF;
  fclose(file);
  if (found == bytes && !longer) return true;
  fprintf(stderr, "error: %s has %s than the %zu bytes of the input\n", path, longer ? "more" : "fewer", bytes);
  return false;
}

bool write_whole(const char* prefix, int index, const edgepack::Tensor& tensor) {
  char path[4096];
  snprintf(path, sizeof path, "%s%d.bin", prefix, index);
  FILE* file = fopen(path, "wb");
  bool good = file && fwrite(tensor.data, 1, tensor.bytes, file) == tensor.bytes;
  if (file && fclose(file)) good = false;
  if (!good) fprintf(stderr, "error: cannot write %s: %s\n", path, strerror(errno));
  return good;
}

}  // namespace

int main(int count, char** words) {
  const char *folder = nullptr, *prefix = nullptr;
  const char* files[256];
  int given = 0, times = 1, threads = 0;
  for (int i = 1; i < count; ++i) {
    bool more = i + 1 < count;
    if (strcmp(words[i], "--out") == 0 && more) {
      prefix = words[++i];
    } else if (strcmp(words[i], "--times") == 0 && more) {
      times = atoi(words[++i]);
    } else if (strcmp(words[i], "--threads") == 0 && more) {
      threads = atoi(words[++i]);
    } else if (words[i][0] == '-' && words[i][1] == '-') {
      return usage();
    } else if (!folder) {
      folder = words[i];
    } else if (given < 256) {
      files[given++] = words[i];
    }
  }
  if (!folder || times < 1) return usage();

  edgepack::Model model;
  if (!model.load(folder, threads)) {
    fprintf(stderr, "error: %s\n", model.error());
    return 1;
  }
  if (!given && model.inputs()) {
    for (int i = 0; i < model.inputs(); ++i) describe("input", model.input(i));
    for (int i = 0; i < model.outputs(); ++i) describe("output", model.output(i));
    return 0;
  }
  if (given != model.inputs()) {
    fprintf(stderr, "error: %d files for %d inputs\n", given, model.inputs());
    return 1;
  }
  for (int i = 0; i < given; ++i)
    if (!read_whole(files[i], model.input(i).data, model.input(i).bytes)) return 1;
  for (int i = 0; i < times; ++i) {
    int64_t begin = now_ns();
    if (!model.run()) {
      fprintf(stderr, "error: %s\n", model.error());
      return 1;
    }
    if (times > 1) printf("%lld\n", static_cast<long long>(now_ns() - begin));
  }
  for (int i = 0; prefix && i < model.outputs(); ++i)
    if (!write_whole(prefix, i, model.output(i))) return 1;
  return 0;
}
