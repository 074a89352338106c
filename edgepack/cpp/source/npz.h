// Arrays in .npy files (format version 1.0) and .npz archives: plain numbers, stored, nothing executed. Sources: numpy's
// lib/format.py; PKWARE APPNOTE.TXT 6.3.10, sections 4.3 to 4.5.

#ifndef EDGEPACK_NPZ_H_
#define EDGEPACK_NPZ_H_

#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "buffer.h"

namespace edgepack {

// An array with its own memory.
struct Array {
  int dtype = 0;
  std::vector<int64_t> shape;
  std::shared_ptr<Buffer> data;

  size_t count() const;
  TensorView view() const { return {dtype, shape, data->data(), data->size()}; }
};

// What is wrong with a file; the words complete "FILE does not hold arrays: ...".
struct NpzProblem {
  std::string words;
};

Array read_npy(std::string_view file, const std::string& name);

// Returns the arrays of an archive by the names of its members, ".npy" included, in their order.
std::vector<std::pair<std::string, Array>> read_npz(std::string_view file);

std::string write_npy(const TensorView& array);
std::string write_npz(const std::vector<std::pair<std::string, TensorView>>& arrays);  // stored; names without ".npy"

}  // namespace edgepack

#endif  // EDGEPACK_NPZ_H_
