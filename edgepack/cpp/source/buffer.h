// Arrays of numbers, and memory that engines take.

#ifndef EDGEPACK_BUFFER_H_
#define EDGEPACK_BUFFER_H_

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <memory>
#include <vector>

namespace edgepack {

// Numbers in C order; ``dtype`` counts in facts::kDtypes. The memory is somebody else's.
struct TensorView {
  int dtype = 0;
  std::vector<int64_t> shape;
  const void* data = nullptr;
  size_t bytes = 0;
};

// Memory of its own, aligned as engines want it.
class Buffer {
 public:
  explicit Buffer(size_t size);
  char* data() const { return data_.get(); }
  size_t size() const { return size_; }

 private:
  struct Free {
    void operator()(char* memory) const { free(memory); }
  };
  std::unique_ptr<char, Free> data_;
  size_t size_;
};

}  // namespace edgepack

#endif  // EDGEPACK_BUFFER_H_
