#include "file.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <memory>

#include "error.h"

namespace edgepack {

namespace {

constexpr size_t kPieceBytes = 1 << 20;

std::array<uint64_t, 7> mark_of(const struct stat& s) {
  auto number = [](auto value) { return static_cast<uint64_t>(value); };
  return {number(s.st_size),         number(s.st_dev),          number(s.st_ino),         number(s.st_mtim.tv_sec),
          number(s.st_mtim.tv_nsec), number(s.st_ctim.tv_sec), number(s.st_ctim.tv_nsec)};
}

[[noreturn]] void cannot_open(const std::string& path) {
  int why = errno;
  if (why == ENOENT) refuse(EDGEPACK_BUNDLE_ERROR, "there is no file " + path, "check the path; builds write to artifacts/");
  if (why == EACCES || why == EPERM)
    refuse(EDGEPACK_STORAGE_ERROR, path + " is not readable", "change its permissions");
  refuse(EDGEPACK_BUNDLE_ERROR, path + " cannot be opened: [Errno " + std::to_string(why) + "] " + strerror(why) + ": '" +
                                    path + "'");
}

}  // namespace

File::File(const std::string& path) : path_(path) {
  struct stat status;
  // A pipe or device is refused before opening, which could block.
  if (stat(path.c_str(), &status)) cannot_open(path);
  if (S_ISDIR(status.st_mode))
    refuse(EDGEPACK_BUNDLE_ERROR, path + " is a folder, not a bundle",
           "give a file in it, such as " + path + "/NAME.edgepack");
  if (!S_ISREG(status.st_mode)) refuse(EDGEPACK_BUNDLE_ERROR, path + " is not a regular file");
  handle_ = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (handle_ < 0) cannot_open(path);
  if (fstat(handle_, &status)) cannot_open(path);
  mark_ = mark_of(status);
}

File::~File() {
  if (handle_ >= 0) close(handle_);
}

bool File::unchanged() const {
  struct stat status;
  return fstat(handle_, &status) == 0 && mark_of(status) == mark_;
}

size_t File::read(char* out, uint64_t offset, size_t bytes) const {
  size_t done = 0;
  while (done < bytes) {
    ssize_t got = pread(handle_, out + done, bytes - done, static_cast<off_t>(offset + done));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0)
      refuse(EDGEPACK_STORAGE_ERROR, path_ + " cannot be read: " + strerror(errno), "copy it again, or use another disk");
    if (got == 0) break;
    done += static_cast<size_t>(got);
  }
  return done;
}

std::string File::at(uint64_t offset, uint64_t bytes) const {
  uint64_t left = offset < size() ? size() - offset : 0;
  std::string out(std::min(bytes, left), '\0');
  out.resize(read(out.data(), offset, out.size()));
  return out;
}

void File::pieces(uint64_t offset, uint64_t bytes, const std::function<void(std::string_view)>& take) const {
  std::unique_ptr<char[]> buffer(new char[kPieceBytes]);
  while (bytes > 0) {
    size_t got = read(buffer.get(), offset, static_cast<size_t>(std::min<uint64_t>(bytes, kPieceBytes)));
    if (!got) return;
    take(std::string_view(buffer.get(), got));
    offset += got, bytes -= got;
  }
}

bool read_small(const std::string& path, size_t most_bytes, std::string* out) {
  out->clear();
  int handle = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (handle < 0) return false;
  char piece[4096];
  ssize_t got = 0;
  while (out->size() < most_bytes) {
    got = ::read(handle, piece, std::min(sizeof piece, most_bytes - out->size()));
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) break;
    out->append(piece, static_cast<size_t>(got));
  }
  close(handle);
  if (got < 0) out->clear();
  return got >= 0;
}

}  // namespace edgepack
