// Inputs as a caller gives them, by name, brought into the model's order, or what is wrong with them.

#ifndef EDGEPACK_INPUTS_H_
#define EDGEPACK_INPUTS_H_

#include <string>
#include <vector>

#include "runner.h"

namespace edgepack {

struct NamedTensor {
  std::string name;
  TensorView value;
};

// Throws Refusal (EDGEPACK_DATA_ERROR), which names every input that is missing, unknown, or of another type or shape.
std::vector<TensorView> in_order(const std::vector<NamedTensor>& given, const std::vector<TensorSpec>& inputs);

// "[1, 3, height, 224]"; a free size whose name tells nothing is "any".
std::string show_shape(const std::vector<Extent>& shape);
std::string show_shape(const std::vector<int64_t>& shape);

}  // namespace edgepack

#endif  // EDGEPACK_INPUTS_H_
