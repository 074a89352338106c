// An open regular file that is read by place, and what tells that it was changed.

#ifndef EDGEPACK_FILE_H_
#define EDGEPACK_FILE_H_

#include <stdint.h>

#include <array>
#include <functional>
#include <string>
#include <string_view>

namespace edgepack {

class File {
 public:
  // Opens a bundle. Throws Refusal for whatever is no regular file that can be read.
  explicit File(const std::string& path);
  ~File();
  File(const File&) = delete;
  File& operator=(const File&) = delete;

  const std::string& path() const { return path_; }
  uint64_t size() const { return mark_[0]; }
  bool unchanged() const;  // no program can set the time of the last change of a file's status

  std::string at(uint64_t offset, uint64_t bytes) const;  // fewer where the file ends
  // Gives what stands from ``offset`` in pieces of at most 1 MiB; fewer bytes where the file ends.
  void pieces(uint64_t offset, uint64_t bytes, const std::function<void(std::string_view)>& take) const;

 private:
  size_t read(char* out, uint64_t offset, size_t bytes) const;

  std::string path_;
  int handle_ = -1;
  std::array<uint64_t, 7> mark_{};
};

// Reads a file up to so many bytes; false where it cannot be read.
bool read_small(const std::string& path, size_t most_bytes, std::string* out);

}  // namespace edgepack

#endif  // EDGEPACK_FILE_H_
