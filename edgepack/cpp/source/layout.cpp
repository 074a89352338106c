#include "layout.h"

#include <algorithm>
#include <map>
#include <unordered_map>

#include "facts.h"
#include "file.h"
#include "text.h"

namespace edgepack {

namespace {

constexpr uint64_t kMax32 = 0xFFFFFFFF;
constexpr size_t kLocalBytes = 30, kCentralBytes = 46, kEndBytes = 22, kEnd64Bytes = 56, kLocator64Bytes = 20;
constexpr uint16_t kVersion = 20, kVersion64 = 45, kUnix = 3 << 8, kTime = 0, kDate = 1 << 5 | 1;
constexpr uint32_t kRegularFile = 0100644u << 16;
constexpr uint16_t kAlignmentField = 0xD935, kZip64Field = 1;
constexpr size_t kNameLimit = 255;

[[noreturn]] void wrong(const std::string& words) { throw LayoutProblem{words}; }

bool starts(std::string_view text, std::string_view with) { return text.substr(0, with.size()) == with; }

// Little-endian numbers, as zip archives hold them.
uint64_t number(std::string_view data, size_t place, int bytes) {
  uint64_t value = 0;
  for (int i = bytes - 1; i >= 0; --i) value = value << 8 | static_cast<uint8_t>(data[place + static_cast<size_t>(i)]);
  return value;
}
void put(std::string* out, uint64_t value, int bytes) {
  for (int i = 0; i < bytes; ++i) out->push_back(static_cast<char>(value >> 8 * i));
}

// What a central directory says of one member, before any of it is believed.
struct Entry {
  std::string name;
  uint16_t flags, method;
  uint32_t crc32, mode;
  uint64_t packed_bytes, size_bytes, offset;
};

struct End {
  uint64_t count, size, offset, place;
};

std::string local_header(const Member& member, uint64_t position) {
  bool large = member.size_bytes >= kMax32;
  std::string wide;
  if (large) put(&wide, kZip64Field, 2), put(&wide, 16, 2), put(&wide, member.size_bytes, 8), put(&wide, member.size_bytes, 8);
  uint64_t before = position + kLocalBytes + member.name.size() + wide.size() + 6;
  uint64_t padding = (facts::kAlignmentBytes - before % facts::kAlignmentBytes) % facts::kAlignmentBytes;
  std::string out = "PK\3\4";
  uint64_t size = large ? kMax32 : member.size_bytes;
  for (uint64_t field : {uint64_t{large ? kVersion64 : kVersion}, uint64_t{0}, uint64_t{0}, uint64_t{kTime}, uint64_t{kDate}})
    put(&out, field, 2);
  put(&out, member.crc32, 4), put(&out, size, 4), put(&out, size, 4);
  put(&out, member.name.size(), 2), put(&out, wide.size() + 6 + padding, 2);
  out += member.name + wide;
  put(&out, kAlignmentField, 2), put(&out, 2 + padding, 2), put(&out, facts::kAlignmentBytes, 2);
  return out.append(padding, '\0');
}

std::string central_entry(const Member& member, uint64_t position) {
  bool large = member.size_bytes >= kMax32, far = position >= kMax32;
  std::string extra;
  if (large || far) put(&extra, kZip64Field, 2), put(&extra, (large ? 16 : 0) + (far ? 8 : 0), 2);
  if (large) put(&extra, member.size_bytes, 8), put(&extra, member.size_bytes, 8);
  if (far) put(&extra, position, 8);
  uint16_t version = large || far ? kVersion64 : kVersion;
  uint64_t size = large ? kMax32 : member.size_bytes;
  std::string out = "PK\1\2";
  put(&out, kUnix | version, 2), put(&out, version, 2), put(&out, 0, 4), put(&out, kTime, 2), put(&out, kDate, 2);
  put(&out, member.crc32, 4), put(&out, size, 4), put(&out, size, 4);
  put(&out, member.name.size(), 2), put(&out, extra.size(), 2), put(&out, 0, 6);
  put(&out, kRegularFile, 4), put(&out, far ? kMax32 : position, 4);
  return out + member.name + extra;
}

std::string end_records(uint64_t count, uint64_t size, uint64_t offset) {
  std::string out;
  if (offset >= kMax32) {
    out = "PK\6\6";
    put(&out, kEnd64Bytes - 12, 8), put(&out, kUnix | kVersion64, 2), put(&out, kVersion64, 2), put(&out, 0, 8);
    put(&out, count, 8), put(&out, count, 8), put(&out, size, 8), put(&out, offset, 8);
    out += "PK\6\7";
    put(&out, 0, 4), put(&out, offset + size, 8), put(&out, 1, 4);
  }
  out += "PK\5\6";
  put(&out, 0, 4), put(&out, count, 2), put(&out, count, 2), put(&out, size, 4);
  put(&out, std::min(offset, kMax32), 4), put(&out, 0, 2);
  return out;
}

End read_end(const File& file, std::string_view start) {
  uint64_t size = file.size();
  if (size == 0) wrong("is empty");
  std::string end = size >= kEndBytes ? file.at(size - kEndBytes, kEndBytes) : "";
  if (!starts(end, "PK\5\6")) {
    uint64_t looked = std::min<uint64_t>(size, 0x10000 + kEndBytes);
    if (file.at(size - looked, looked).find("PK\5\6") != std::string::npos)
      wrong("has data after the archive, or is damaged at its end");
    wrong(start == "PK\3\4" ? "is cut off" : "is not a zip archive");
  }
  if (start != "PK\3\4") wrong("has data before the archive, or is damaged at its start");
  if (number(end, 20, 2)) wrong("has a comment, or is damaged at its end");
  if (number(end, 16, 4) != kMax32) return {number(end, 10, 2), number(end, 12, 4), number(end, 16, 4), size - kEndBytes};
  uint64_t records = kEndBytes + kLocator64Bytes + kEnd64Bytes;
  std::string wide = size >= records ? file.at(size - records, kEnd64Bytes) : "";
  if (!starts(wide, "PK\6\6") || wide.size() < kEnd64Bytes) wrong("is damaged at its end");
  return {number(wide, 32, 8), number(wide, 40, 8), number(wide, 48, 8), size - records};
}

// The 64-bit numbers of an extra field take the place of those that are 0xFFFFFFFF, in this order.
void widen(std::string_view extra, uint64_t* size, uint64_t* packed, uint64_t* offset) {
  if (extra.size() < 4 || extra.substr(0, 2) != std::string_view("\1\0", 2)) return;
  size_t place = 4;
  for (uint64_t* value : {size, packed, offset})
    if (*value == kMax32 && place + 8 <= extra.size()) *value = number(extra, place, 8), place += 8;
}

std::vector<Entry> entries_of(const std::string& listing, uint64_t count) {
  std::vector<Entry> found;
  uint64_t position = 0;
  auto piece = [&](uint64_t from, uint64_t bytes) {
    return std::string_view(listing).substr(std::min<uint64_t>(from, listing.size()), bytes);
  };
  for (uint64_t i = 0; i < count; ++i) {
    std::string_view fixed = piece(position, kCentralBytes);
    if (fixed.size() < kCentralBytes || !starts(fixed, "PK\1\2")) wrong("has a damaged directory");
    uint64_t name = number(fixed, 28, 2), extra = number(fixed, 30, 2), comment = number(fixed, 32, 2);
    Entry entry{backslash_replaced(piece(position + kCentralBytes, name)),
                static_cast<uint16_t>(number(fixed, 8, 2)),
                static_cast<uint16_t>(number(fixed, 10, 2)),
                static_cast<uint32_t>(number(fixed, 16, 4)),
                static_cast<uint32_t>(number(fixed, 38, 4) >> 16),
                number(fixed, 20, 4),
                number(fixed, 24, 4),
                number(fixed, 42, 4)};
    widen(piece(position + kCentralBytes + name, extra), &entry.size_bytes, &entry.packed_bytes, &entry.offset);
    position += kCentralBytes + name + extra + comment;
    found.push_back(std::move(entry));
  }
  if (position != listing.size()) wrong("has a damaged directory");
  return found;
}

bool in_order(const std::vector<std::string>& names) {
  auto before = [](const std::string& a, const std::string& b) {
    bool first = a == facts::kManifest, second = b == facts::kManifest;
    return first != second ? first : a < b;
  };
  return std::is_sorted(names.begin(), names.end(), before);
}

// Says in words what other archives have and a bundle has not.
void refuse_foreign(const std::vector<Entry>& entries) {
  std::vector<std::string> names;
  for (const Entry& entry : entries) {
    std::string shown = repr(entry.name);
    if (auto problem = name_problem(entry.name))
      wrong("holds a member whose name " + *problem + ": " + repr(first(entry.name, 80)));
    if (entry.flags & 1) wrong("holds the encrypted member " + shown + "; a bundle's members are stored plainly");
    if (entry.method || entry.packed_bytes != entry.size_bytes)
      wrong("holds the compressed member " + shown + "; a bundle's members are stored");
    uint32_t kind = entry.mode & 0170000;
    if (kind != 0 && kind != 0100000) wrong("holds " + shown + ", which is a link or a special file");
    names.push_back(entry.name);
  }
  if (auto problem = names_problem(names)) wrong("is ambiguous: " + *problem);
  if (std::find(names.begin(), names.end(), facts::kManifest) == names.end())
    wrong("has no " + std::string(facts::kManifest));
  if (!in_order(names)) wrong("does not have " + std::string(facts::kManifest) + " first and the other members sorted");
}

bool part_is_good(std::string_view part) {
  auto good = [](char c) {
    return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_' || c == '+' || c == '@' ||
           c == '=' || c == '-';
  };
  if (part.empty() || !good(part[0])) return false;
  return std::all_of(part.begin(), part.end(), [&](char c) { return good(c) || c == '.'; });
}

std::vector<std::string_view> parts_of(std::string_view name) {
  std::vector<std::string_view> parts;
  for (size_t begin = 0;;) {
    size_t end = name.find('/', begin);
    parts.push_back(name.substr(begin, end - begin));
    if (end == name.npos) return parts;
    begin = end + 1;
  }
}

std::string lower(std::string text) {  // names are ASCII when this is asked
  for (char& c : text)
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c + 32);
  return text;
}

}  // namespace

std::optional<std::string> name_problem(std::string_view name) {
  if (name.find('\\') != name.npos) return "holds a backslash";
  bool drive = name.size() > 1 && name[1] == ':' && ((name[0] | 32) >= 'a' && (name[0] | 32) <= 'z');
  if (starts(name, "/") || drive) return "is an absolute path";
  std::vector<std::string_view> parts = parts_of(name);
  if (std::find(parts.begin(), parts.end(), "..") != parts.end()) return "leads out of the bundle";
  if (length(name) > kNameLimit) return "is longer than " + std::to_string(kNameLimit) + " characters";
  if (!std::all_of(parts.begin(), parts.end(), part_is_good))
    return "holds characters other than A-Z a-z 0-9 _ + @ = - . or a part that is empty or starts with a dot";
  return std::nullopt;
}

std::optional<std::string> names_problem(const std::vector<std::string>& names) {
  std::map<std::string, std::string> seen;
  std::unordered_map<std::string, std::string> folders;
  for (const std::string& name : names) {
    std::string key = lower(name);
    auto [before, added] = seen.emplace(key, name);
    if (!added && before->second == name) return repr(name) + " is listed twice";
    if (!added) return repr(before->second) + " and " + repr(name) + " differ only in case";
    for (size_t slash = key.find('/'); slash != key.npos; slash = key.find('/', slash + 1))
      folders[key.substr(0, slash)] = name;
  }
  for (const auto& [key, name] : seen)
    if (auto folder = folders.find(key); folder != folders.end())
      return repr(name) + " is a file and the folder of " + repr(folder->second);
  return std::nullopt;
}

std::vector<Member> read_layout(const File& file) {
  std::string start = file.at(0, 4);
  End end = read_end(file, start);
  if (end.count > facts::kMemberLimit || end.size > facts::kDirectoryLimitBytes)
    wrong("lists more than the " + std::to_string(facts::kMemberLimit) + " members that a bundle may have");
  if (end.offset > file.size() || end.offset + end.size > end.place)
    wrong("is cut off or damaged: its directory does not fit into it");
  if (end.offset + end.size < end.place) wrong("has data before the archive or between its parts");
  std::vector<Entry> entries = entries_of(file.at(end.offset, end.size), end.count);
  refuse_foreign(entries);
  uint64_t total = 0;
  for (const Entry& entry : entries)
    if (entry.size_bytes > file.size() || (total += entry.size_bytes) > file.size())
      wrong("is cut off or damaged: its members do not fit into it");
  std::vector<Member> members;
  std::string directory;
  uint64_t position = 0;
  std::vector<std::pair<uint64_t, std::string>> headers;
  for (const Entry& entry : entries) {
    Member member{entry.name, entry.size_bytes, entry.crc32, 0};
    std::string header = local_header(member, position);
    member.offset = position + header.size();
    directory += central_entry(member, position);
    headers.emplace_back(position, std::move(header));
    position += headers.back().second.size() + member.size_bytes;
    members.push_back(std::move(member));
  }
  for (size_t i = 0; i < entries.size(); ++i) {
    const auto& [place, header] = headers[i];
    std::string name = repr(members[i].name);
    if (entries[i].offset != place)
      wrong("has " + name + " at another place than a bundle has it, or overlapping a neighbour");
    if (file.at(place, header.size()) != header)
      wrong("has a local header of " + name + " that disagrees with its directory");
  }
  std::string tail = directory + end_records(members.size(), directory.size(), position);
  if (position + tail.size() != file.size()) wrong("has more or fewer bytes than its directory accounts for");
  if (file.at(position, tail.size()) != tail) wrong("has a directory that edgepack did not write");
  return members;
}

}  // namespace edgepack
