#include "root.h"

#include <errno.h>
#include <string.h>

#include <algorithm>
#include <map>
#include <optional>
#include <set>

#include "error.h"
#include "facts.h"
#include "schema.h"
#include "text.h"

namespace edgepack {

namespace {

constexpr char kDamaged[] = "get the root of trust again";

std::string canonical_text(const std::string& text) {
  std::string out = "\"";
  for (char c : text) {
    if (c == '"' || c == '\\') out += '\\';
    out += c;
  }
  return out + "\"";
}

// A value in the canonical form that TUF signs (OLPC): sorted keys, no spaces, no floats.
std::string canonical(const Value& value) {
  switch (value.kind) {
    case Value::kNull: return "null";
    case Value::kBool: return value.truth ? "true" : "false";
    case Value::kInteger: return (value.truth ? "-" : "") + std::to_string(value.magnitude);
    case Value::kText: return canonical_text(value.text);
    case Value::kList: {
      std::vector<std::string> parts;
      for (const Value& item : value.items) parts.push_back(canonical(item));
      return "[" + joined(parts, ",") + "]";
    }
    case Value::kTable: {
      std::map<std::string, const Value*> sorted;
      for (size_t i = 0; i < value.keys.size(); ++i) sorted[value.keys[i]] = &value.items[i];
      std::vector<std::string> parts;
      for (const auto& [key, item] : sorted) parts.push_back(canonical_text(key) + ":" + canonical(*item));
      return "{" + joined(parts, ",") + "}";
    }
    case Value::kFloat: break;
  }
  return "";  // the type of the document has no floats
}

// The signed part with what Python's dataclass fills in where it is left out.
std::string message_of(const Value& root) {
  if (root.find("consistent_snapshot")) return canonical(root);
  Value whole = root, yes;
  yes.kind = Value::kBool;
  yes.truth = true;
  whole.keys.push_back("consistent_snapshot");
  whole.items.push_back(yes);
  return canonical(whole);
}

// Bytes of hexadecimal digits as Python's bytes.fromhex takes them: in either case, with space between bytes.
std::optional<std::string> from_any_hex(const std::string& text) {
  std::string out;
  auto digit = [](char c) { return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1; };
  for (size_t i = 0; i < text.size();) {
    if (text[i] && strchr(" \t\n\v\f\r", text[i])) {
      ++i;
      continue;
    }
    if (i + 1 >= text.size() || digit(text[i]) < 0 || digit(text[i + 1]) < 0) return std::nullopt;
    out += static_cast<char>(digit(text[i]) << 4 | digit(text[i + 1]));
    i += 2;
  }
  return out;
}

uint64_t at_least_zero(const Value& value) { return value.truth ? 0 : value.magnitude; }

std::vector<std::string> ids_of(const Value& role) {
  std::vector<std::string> found;
  for (const Value& item : role.find("keyids")->items) found.push_back(item.text);
  return found;
}

// What is wrong with a role; "" for nothing.
std::string problem_of_role(const Value& root, const char* name) {
  const Value* role = root.find("roles")->find(name);
  if (!role) return std::string("it has no role ") + name;
  std::vector<std::string> ids = ids_of(*role);
  std::set<std::string> different(ids.begin(), ids.end());
  const Value& threshold = *role->find("threshold");
  if (at_least_zero(threshold) < 1 || different.size() < threshold.magnitude)
    return std::string("its role ") + name + " needs " + (threshold.truth ? "-" : "") + std::to_string(threshold.magnitude) +
           " of " + std::to_string(different.size()) + " keys";
  for (const std::string& id : different)
    if (!root.find("keys")->find(id)) return std::string("its role ") + name + " names a key that is not there";
  return "";
}

std::string problem_of(const Value& document) {
  const Value &root = *document.find("signed"), &signatures = *document.find("signatures");
  if (root.find("_type")->text != facts::kRootRole || root.find("spec_version")->text.compare(0, 2, "1.") != 0)
    return "it is another document";
  if (at_least_zero(*root.find("version")) < 1) return "its version is below 1";
  const Value& keys = *root.find("keys");
  if (keys.items.size() > facts::kMostRootKeys || signatures.items.size() > facts::kMostRootKeys)
    return "it has more than " + std::to_string(facts::kMostRootKeys) + " keys or signatures";
  seconds_of(root.find("expires")->text, "root: expires");
  for (const Value& key : keys.items) {
    const std::string &kind = key.find("keytype")->text, &scheme = key.find("scheme")->text;
    if (kind != facts::kRootKeyType || scheme != facts::kRootScheme)
      return "a key is " + first(kind, 40) + " " + first(scheme, 40) + "; edgepack has " + facts::kRootKeyType + " " +
             facts::kRootScheme;
  }
  for (const char* role : {facts::kRootRole, facts::kBundlesRole})
    if (std::string problem = problem_of_role(root, role); !problem.empty()) return problem;
  for (const Value& signature : signatures.items)
    if (!from_any_hex(signature.find("sig")->text)) return "a signature is not hexadecimal";
  return "";
}

// Returns a role's keys, each once whatever it is called.
std::vector<PublicKey> keys_of(const Value& root, const char* role) {
  std::vector<PublicKey> found;
  for (const std::string& id : ids_of(*root.find("roles")->find(role))) {
    PublicKey key;
    try {
      key = key_of_pem(first(id, 16), root.find("keys")->find(id)->find("keyval")->find("public")->text, "root: a key");
    } catch (const Refusal& refusal) {
      refuse(EDGEPACK_TRUST_ERROR, refusal.message, kDamaged);
    }
    bool known = std::any_of(found.begin(), found.end(), [&](const PublicKey& k) { return k.id == key.id; });
    if (!known) found.push_back(std::move(key));
  }
  return found;
}

Value read_document(const std::string& text, const std::string& path) {
  Value found;
  try {
    found = read_json(text);
    check_type(facts::kRootType, found, path);
  } catch (const JsonProblem& problem) {
    refuse(EDGEPACK_TRUST_ERROR, first(path + ": not valid JSON: " + problem.words, 400), kDamaged);
  } catch (const Refusal& refusal) {
    refuse(EDGEPACK_TRUST_ERROR, first(refusal.message, 400), kDamaged);
  }
  if (std::string problem = problem_of(found); !problem.empty())
    refuse(EDGEPACK_TRUST_ERROR, path + " is not a root of trust: " + problem, kDamaged);
  return found;
}

}  // namespace

Root read_root(const std::string& path) {
  std::string text;
  errno = 0;
  if (!read_small(path, facts::kRootLimitBytes, &text))
    refuse(EDGEPACK_CONFIG_ERROR, "the root of trust " + path + " cannot be read: " + strerror(errno ? errno : EINVAL),
           "put the first one there by hand; later ones are taken with 'edgepack root take'");
  const Value document = read_document(text, path);
  const Value& root = *document.find("signed");
  std::string message = message_of(root);
  uint64_t have = 0, needed = root.find("roles")->find(facts::kRootRole)->find("threshold")->magnitude;
  for (const PublicKey& key : keys_of(root, facts::kRootRole)) {
    const std::vector<Value>& signatures = document.find("signatures")->items;
    have += std::any_of(signatures.begin(), signatures.end(), [&](const Value& each) {
      return is_signed_by(key, *from_any_hex(each.find("sig")->text), message);
    });
  }
  if (have < needed)
    refuse(EDGEPACK_TRUST_ERROR,
           path + " is signed by " + std::to_string(have) + " of its own root keys, and " + std::to_string(needed) + " are needed",
           "get it from whoever signs your bundles");
  const std::string& expires = root.find("expires")->text;
  return {root.find("version")->magnitude, root.find("roles")->find(facts::kBundlesRole)->find("threshold")->magnitude, expires,
          seconds_of(expires, "root: expires"), keys_of(root, facts::kBundlesRole)};
}

void refuse_expired(const Root& root, int64_t now) {
  if (now < root.expires_time) return;
  refuse(EDGEPACK_TRUST_ERROR,
         "the root of trust of this device, version " + std::to_string(root.version) + ", has been out of date since " + root.expires,
         "get a newer one and take it with 'edgepack root take', or set this machine's clock");
}

}  // namespace edgepack
