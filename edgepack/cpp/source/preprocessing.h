// How a picture becomes the model's input: whether what a manifest says of it can be meant, by edgepack/data/recipes.py.

#ifndef EDGEPACK_PREPROCESSING_H_
#define EDGEPACK_PREPROCESSING_H_

#include <optional>
#include <string>

#include "json.h"

namespace edgepack {

// ``made`` is null, or a table whose types were checked. Returns the first contradiction.
std::optional<std::string> preprocessing_problem(const Value& made);

}  // namespace edgepack

#endif  // EDGEPACK_PREPROCESSING_H_
