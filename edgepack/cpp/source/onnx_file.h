// What an ONNX file names, read from its bytes by the rules of edgepack/graph/wire.py: protobuf's wire format
// (https://protobuf.dev/programming-guides/encoding), with the field numbers of onnx.proto.

#ifndef EDGEPACK_ONNX_FILE_H_
#define EDGEPACK_ONNX_FILE_H_

#include <set>
#include <string>
#include <string_view>

namespace edgepack {

// Operators, and the files that tensors lie in: those of the main graph's initializers, and of all other tensors.
struct Named {
  std::set<std::string> operators, weights, others;

  // Whether a graph has what ONNX Runtime's optimizer ends the process at (edgepack/graph/captured.py).
  bool may_end_the_process() const;
};

// Reads the file of that name, wherever what it names stands. Throws Refusal (EDGEPACK_COMPILE_ERROR) for a damaged one.
Named read_named(std::string_view bytes, const std::string& name);

}  // namespace edgepack

#endif  // EDGEPACK_ONNX_FILE_H_
