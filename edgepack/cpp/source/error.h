// What is wrong with a bundle, an engine or an input, as one exception with the words and the remedy.

#ifndef EDGEPACK_ERROR_H_
#define EDGEPACK_ERROR_H_

#include <string>
#include <utility>

#include "../include/edgepack.h"

namespace edgepack {

// Thrown inside the library, and turned into a status at the C interface (api.cpp). An empty hint is the kind's own.
struct Refusal {
  edgepack_status kind;
  std::string message;
  std::string hint;
};

[[noreturn]] inline void refuse(edgepack_status kind, std::string message, std::string hint = "") {
  throw Refusal{kind, std::move(message), std::move(hint)};
}

}  // namespace edgepack

#endif  // EDGEPACK_ERROR_H_
