// A bundle whose every byte was checked when it was opened, by the rules of edgepack/bundle/archive.py.

#ifndef EDGEPACK_BUNDLE_H_
#define EDGEPACK_BUNDLE_H_

#include <map>
#include <memory>
#include <optional>
#include <string>

#include "file.h"
#include "layout.h"
#include "manifest.h"

namespace edgepack {

struct Bundle {
  std::shared_ptr<File> file;
  Manifest manifest;
  std::string manifest_text;
  std::string manifest_sha256;  // identifies the contents, as the manifest holds the digest of every other member
  std::map<std::string, Member> members;
  std::optional<std::string> signature;  // nothing in it has been believed

  const std::string& path() const { return file->path(); }
};

// Throws Refusal: EDGEPACK_BUNDLE_ERROR for what is no bundle of a format that is read here, EDGEPACK_INTEGRITY_ERROR
// naming the member when contents do not match the manifest.
std::shared_ptr<const Bundle> open_bundle(const std::string& path);

// Returns a member's bytes, compared once more with the manifest. Throws Refusal.
std::string read_member(const Bundle& bundle, const std::string& name);

// Returns the sha256 of the whole file. Throws Refusal when it is not the file any more that was checked.
std::string whole_sha256(const Bundle& bundle);

}  // namespace edgepack

#endif  // EDGEPACK_BUNDLE_H_
