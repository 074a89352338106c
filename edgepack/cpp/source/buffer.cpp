#include "buffer.h"

#include <new>

namespace edgepack {

namespace {

constexpr size_t kAlignment = 64;  // a cache line, and the widest vectors

}  // namespace

Buffer::Buffer(size_t size) : size_(size) {
  if (size > SIZE_MAX / 2) throw std::bad_alloc();
  data_.reset(static_cast<char*>(aligned_alloc(kAlignment, size / kAlignment * kAlignment + kAlignment)));
  if (!data_) throw std::bad_alloc();
}

}  // namespace edgepack
