// The zip structures of a bundle, by the rules of edgepack/bundle/layout.py: every structural byte is made again from
// names, sizes and checksums, and compared. Source: PKWARE APPNOTE.TXT 6.3.10, sections 4.3 to 4.5.

#ifndef EDGEPACK_LAYOUT_H_
#define EDGEPACK_LAYOUT_H_

#include <stdint.h>

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace edgepack {

class File;

struct Member {
  std::string name;
  uint64_t size_bytes;
  uint32_t crc32;
  uint64_t offset;  // where its data starts
};

// A file is not laid out as a bundle; the words complete "FILE ...".
struct LayoutProblem {
  std::string words;
};

// Why a name may not be a member's, or why names may not stand together; nothing where they may.
std::optional<std::string> name_problem(std::string_view name);
std::optional<std::string> names_problem(const std::vector<std::string>& names);

// Returns the members of an open file, which are not read. Throws LayoutProblem.
std::vector<Member> read_layout(const File& file);

}  // namespace edgepack

#endif  // EDGEPACK_LAYOUT_H_
