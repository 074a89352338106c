#include "bundle.h"

#include "error.h"
#include "facts.h"
#include "sha256.h"
#include "text.h"

namespace edgepack {

namespace {

std::string layout_hint(const std::string& problem) {
  auto says = [&](const char* words) { return problem.find(words) != problem.npos; };
  if (says("not a zip")) return "";
  if (says("cut off") || says("empty")) return "the file was not copied whole: copy it again";
  return "copy or build the bundle again; a bundle that was unpacked and zipped by another tool is not one any more";
}

[[noreturn]] void changed(const std::string& path, const std::string& name) {
  refuse(EDGEPACK_INTEGRITY_ERROR, path + ": the contents of " + repr(name) + " do not match the manifest");
}

std::string read_whole(const File& file, const Member& member, uint64_t limit) {
  if (member.size_bytes > limit)
    refuse(EDGEPACK_BUNDLE_ERROR, file.path() + ": " + member.name + " has " + std::to_string(member.size_bytes) +
                                      " bytes; at most " + std::to_string(limit) + " are read");
  std::string data = file.at(member.offset, member.size_bytes);
  if (crc32(data) != member.crc32) changed(file.path(), member.name);
  return data;
}

bool is_listed_apart(const std::string& name) { return name == facts::kManifest || name == facts::kSignature; }

void compare_listing(const Bundle& bundle) {
  std::map<std::string, uint64_t> listed;
  for (const FileEntry& entry : bundle.manifest.files) listed[entry.path] = entry.size_bytes;
  const std::string& path = bundle.path();
  for (const auto& [name, member] : bundle.members)
    if (!is_listed_apart(name) && !listed.count(name))
      refuse(EDGEPACK_INTEGRITY_ERROR, path + " holds " + repr(name) + ", which its manifest does not list");
  for (const auto& [name, size] : listed)
    if (!bundle.members.count(name))
      refuse(EDGEPACK_INTEGRITY_ERROR, path + " lacks " + repr(name) + ", which its manifest lists");
  for (const auto& [name, size] : listed)
    if (uint64_t present = bundle.members.at(name).size_bytes; present != size)
      refuse(EDGEPACK_INTEGRITY_ERROR, path + ": " + repr(name) + " has " + std::to_string(present) +
                                           " bytes, its manifest says " + std::to_string(size));
}

void check_member(const File& file, const Member& member, const std::string& wanted) {
  Sha256 digest;
  file.pieces(member.offset, member.size_bytes, [&](std::string_view piece) { digest.update(piece.data(), piece.size()); });
  if (digest.hex() != wanted) changed(file.path(), member.name);
}

const std::string& wanted_digest(const Bundle& bundle, const std::string& name) {
  if (name == facts::kManifest) return bundle.manifest_sha256;
  for (const FileEntry& entry : bundle.manifest.files)
    if (entry.path == name) return entry.sha256;
  refuse(EDGEPACK_BUNDLE_ERROR, bundle.path() + " has no " + repr(name));
}

}  // namespace

std::shared_ptr<const Bundle> open_bundle(const std::string& path) {
  auto bundle = std::make_shared<Bundle>();
  bundle->file = std::make_shared<File>(path);
  const File& file = *bundle->file;
  try {
    for (Member& member : read_layout(file)) bundle->members.emplace(member.name, member);
  } catch (const LayoutProblem& problem) {
    refuse(EDGEPACK_BUNDLE_ERROR, path + " " + problem.words, layout_hint(problem.words));
  }
  bundle->manifest_text = read_whole(file, bundle->members.at(facts::kManifest), facts::kManifestLimitBytes);
  bundle->manifest_sha256 = sha256(bundle->manifest_text);
  bundle->manifest = read_manifest(bundle->manifest_text, path);
  compare_listing(*bundle);
  for (const FileEntry& entry : bundle->manifest.files) check_member(file, bundle->members.at(entry.path), entry.sha256);
  if (auto found = bundle->members.find(facts::kSignature); found != bundle->members.end())
    bundle->signature = read_whole(file, found->second, facts::kSignatureLimitBytes);
  return bundle;
}

std::string read_member(const Bundle& bundle, const std::string& name) {
  const std::string& wanted = wanted_digest(bundle, name);
  const Member& member = bundle.members.at(name);
  std::string data = bundle.file->at(member.offset, member.size_bytes);
  if (sha256(data) != wanted) changed(bundle.path(), name);
  return data;
}

std::string whole_sha256(const Bundle& bundle) {
  Sha256 digest;
  const File& file = *bundle.file;
  file.pieces(0, file.size(), [&](std::string_view piece) { digest.update(piece.data(), piece.size()); });
  if (!file.unchanged()) refuse(EDGEPACK_INTEGRITY_ERROR, file.path() + " was changed after it was checked", "run again");
  return digest.hex();
}

}  // namespace edgepack
