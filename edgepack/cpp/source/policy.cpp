#include "policy.h"

#include <errno.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <map>
#include <optional>

#include "calendar.h"
#include "certificates.h"
#include "facts.h"
#include "host.h"
#include "keyless/check.h"
#include "root.h"
#include "schema.h"
#include "signature.h"
#include "text.h"

namespace edgepack {

namespace {

constexpr char kNativeVariable[] = "EDGEPACK_ALLOW_NATIVE", kSettingsVariable[] = "EDGEPACK_SETTINGS";
constexpr char kPolicyVariable[] = "EDGEPACK_POLICY";
constexpr char kSystemSettings[] = "/etc/edgepack/device.json", kSystemPolicy[] = "/etc/edgepack/policy.json";
constexpr char kNotSigned[] = "get a signed one, or sign it with 'edgepack sign' and a key that this device trusts";
constexpr size_t kMostBytes = 1 << 20, kDigestBytes = 65, kMostBuilt = 100000;

// The user's home folder: a service may be started without $HOME, and has the policy of its user all the same.
std::string home() {
  if (getenv("HOME")) return environment("HOME");
  char buffer[16384];
  struct passwd entry, *found = nullptr;
  return getpwuid_r(getuid(), &entry, buffer, sizeof buffer, &found) == 0 && found ? found->pw_dir : "";
}

std::string user_folder(const char* variable, const char* below_home) {
  std::string base = environment(variable);
  return (base.empty() ? home() + "/" + below_home : base) + "/edgepack/";
}

std::string absolute(const std::string& path) {
  char here[4096];
  if (path.empty() || path[0] == '/' || !getcwd(here, sizeof here)) return path;
  return std::string(here) + "/" + path;
}

std::string parent_of(const std::string& path) {
  size_t slash = path.rfind('/');
  return slash == path.npos ? "." : slash == 0 ? "/" : path.substr(0, slash);
}

bool is_others(const struct stat& status, bool sticky_is_fine) {
  bool writable = (status.st_mode & 022) && !(sticky_is_fine && (status.st_mode & S_ISVTX));
  return (status.st_uid != geteuid() && status.st_uid != 0) || writable;
}

Value read_document(const Type& type, const std::string& text, const std::string& path) {
  Value found;
  try {
    found = read_json(text);
  } catch (const JsonProblem& problem) {
    refuse(EDGEPACK_CONFIG_ERROR, path + ": not valid JSON: " + problem.words, "write it again with the tool that made it");
  }
  check_type(type, found, path);
  return found;
}

// --- native code ---

bool read_settings(const std::string& path) {
  std::string text;
  errno = 0;
  if (!read_small(path, kMostBytes, &text))
    refuse(EDGEPACK_CONFIG_ERROR, "cannot read " + path + ": " + strerror(errno ? errno : EISDIR),
           std::string("correct ") + kSettingsVariable);
  struct stat status;
  if (stat(path.c_str(), &status) || is_others(status, false))
    refuse(EDGEPACK_STORAGE_ERROR, path + " is writable by other users", "chmod go-w " + path);
  const Value found = read_document(facts::kSettingsType, text, path);
  const Value* allowed = found.find("allow_native");
  return allowed && allowed->truth;
}

bool is_file(const std::string& path) {
  struct stat status;
  return stat(path.c_str(), &status) == 0 && S_ISREG(status.st_mode);
}

// What this device's settings say; nothing where there are none.
std::optional<bool> settings() {
  if (std::string named = environment(kSettingsVariable); !named.empty()) return read_settings(named);
  for (const std::string& path : {user_folder("XDG_CONFIG_HOME", ".config") + "device.json", std::string(kSystemSettings)})
    if (is_file(path)) return read_settings(path);
  return std::nullopt;
}

// Whether this user built the bundle here: edgepack keeps the digests of what it built in its cache.
bool was_built_here(const Bundle& bundle) {
  std::string cache = environment("EDGEPACK_CACHE");
  if (cache.empty()) cache = user_folder("XDG_CACHE_HOME", ".cache") + "payloads";
  struct stat status;
  std::string text;
  if (stat(cache.c_str(), &status) || is_others(status, false)) return false;
  if (!read_small(cache + "/built", kMostBuilt * kDigestBytes, &text)) return false;
  return ("\n" + text).find("\n" + whole_sha256(bundle) + "\n") != text.npos;
}

bool may_run_native(const Bundle& bundle, int allowed) {
  if (allowed) return allowed > 0;
  if (std::string text = environment(kNativeVariable); !text.empty()) {
    if (text != "0" && text != "1")
      refuse(EDGEPACK_CONFIG_ERROR, std::string(kNativeVariable) + " is " + repr(first(text, 40)),
             "write 1 to run native code, or 0");
    return text == "1";
  }
  std::optional<bool> said = settings();
  return said ? *said : was_built_here(bundle);
}

// --- policies ---

struct Policy {
  std::string path;
  Value document;

  std::vector<std::string> names(const char* key) const {
    std::vector<std::string> found;
    if (const Value* list = document.find(key))
      for (const Value& item : list->items) found.push_back(item.text);
    return found;
  }
  std::vector<keyless::Identity> identities() const {
    std::vector<keyless::Identity> found;
    if (const Value* list = document.find("identities"))
      for (const Value& item : list->items) found.push_back({item.find("identity")->text, item.find("issuer")->text});
    return found;
  }
  bool truth(const char* key) const {
    const Value* found = document.find(key);
    return found && found->truth;
  }
  std::string native() const {
    const Value* found = document.find("native");
    return found ? found->text : "settings";
  }
  // A whole number that is there; ``otherwise`` where it is missing or null, 0 for a negative one.
  uint64_t number(const char* key, uint64_t otherwise) const {
    const Value* found = document.find(key);
    if (!found || found->kind != Value::kInteger) return otherwise;
    return found->truth ? 0 : found->magnitude;
  }
  bool given(const char* key) const {
    const Value* found = document.find(key);
    return found && found->kind != Value::kNull;
  }
  // A file or folder that is named relative to the policy.
  std::string beside(const char* key, const char* otherwise) const {
    std::string name = given(key) ? document.find(key)->text : otherwise;
    return !name.empty() && name[0] == '/' ? name : parent_of(path) + "/" + name;
  }
};

// A lowest version without a number, which no version is lower than; "" where there is none.
std::string lowest_problem(const Policy& policy) {
  const Value* lowest = policy.document.find("lowest");
  std::map<std::string, std::string> versions;
  for (size_t i = 0; lowest && i < lowest->keys.size(); i++) versions[lowest->keys[i]] = lowest->items[i].text;
  for (const auto& [model, version] : versions)
    if (version.empty() || version[0] < '0' || version[0] > '9')
      return "lowest: " + repr(first(version, 40)) + " of " + first(model, 80) + " does not begin with a number, as 1.2 does";
  return "";
}

std::string problem_of(const Policy& policy) {
  const Value& format = *policy.document.find("format");
  if (!format.is_integer(1))
    return std::string("it has format ") + (format.truth ? "-" : "") + std::to_string(format.magnitude) + "; this edgepack reads 1";
  if (policy.number("threshold", 1) < 1) return "threshold: at least 1 key must have signed";
  if (policy.number("keep", 1) < 1) return "keep: at least 1 version is kept";
  uint64_t age = policy.number("max_age_days", 1);
  if (age < 1 || age > facts::kMostAgeDays) return "max_age_days: from 1 to " + std::to_string(facts::kMostAgeDays);
  if (std::string problem = lowest_problem(policy); !problem.empty()) return problem;
  if (policy.given("root") && policy.given("authorities")) return "root and authorities cannot be used together";
  if (policy.given("root") && policy.given("sigstore")) return "root and sigstore cannot be used together";
  if (!policy.names("signers").empty() && !policy.given("authorities")) return "signers needs authorities";
  if (policy.identities().empty() == policy.given("sigstore")) return "sigstore and identities need each other";
  if (policy.truth("require_signature")) return "";
  if (policy.given("root")) return "root needs require_signature";
  if (policy.given("authorities")) return "authorities needs require_signature";
  if (policy.given("sigstore")) return "sigstore needs require_signature";
  if (policy.number("threshold", 1) > 1) return "threshold needs require_signature";
  if (policy.given("max_age_days")) return "max_age_days needs require_signature";
  if (policy.native() == "allowed") return "native \"allowed\" needs require_signature";
  return "";
}

Policy read_policy(const std::string& path) {
  std::string text;
  errno = 0;
  if (!is_file(path) || !read_small(path, kMostBytes, &text))
    refuse(EDGEPACK_CONFIG_ERROR, "the policy " + path + " cannot be read: " + strerror(errno ? errno : EINVAL),
           "make it readable for who runs bundles");
  refuse_writable(path);
  Policy policy{path, read_document(facts::kPolicyType, text, path)};
  if (std::string problem = problem_of(policy); !problem.empty())
    refuse(EDGEPACK_CONFIG_ERROR, path + ": " + problem, "correct the policy of this device");
  return policy;
}

// Whether there is a policy; one that cannot be looked at is there, and then is not readable.
bool is_there(const std::string& path) {
  struct stat status;
  return lstat(path.c_str(), &status) == 0 || (errno != ENOENT && errno != ENOTDIR);
}

std::vector<Policy> policies() {
  std::vector<Policy> found;
  if (is_there(kSystemPolicy)) found.push_back(read_policy(kSystemPolicy));
  std::string named = environment(kPolicyVariable), user = user_folder("XDG_CONFIG_HOME", ".config") + "policy.json";
  if (!named.empty()) {
    found.push_back(read_policy(absolute(named)));
  } else if (is_there(user)) {
    found.push_back(read_policy(absolute(user)));
  }
  return found;
}

bool lists(const std::vector<std::string>& names, const std::string& name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

// Why a bundle is not one of those that the policy takes, whoever signed it; "" where it is.
std::string unwanted(const Manifest& manifest, const Policy& policy) {
  std::vector<std::string> models = policy.names("models"), targets = policy.names("targets");
  std::vector<std::string> engines = policy.names("engines");
  if (!models.empty() && !lists(models, manifest.name))
    return "the model " + manifest.name + " is not one of this device's (" + joined(models) + ")";
  if (!targets.empty() && !lists(targets, manifest.target))
    return "it is for " + manifest.target + ", and this device is " + joined(targets, " or ");
  for (const Payload& payload : manifest.payloads)
    if (!engines.empty() && !lists(engines, payload.backend))
      return "it has a payload for " + payload.backend + ", and this device runs " + joined(engines, " or ") + " only";
  bool code = std::any_of(manifest.payloads.begin(), manifest.payloads.end(), is_native);
  if (policy.native() == "refused" && code) return "it holds native code, which this device does not run";
  const Value* lowest = policy.document.find("lowest");
  const Value* least = lowest ? lowest->find(manifest.name) : nullptr;
  if (least && is_older(manifest.version, least->text))
    return "version " + manifest.version + " of " + manifest.name + " is lower than " + least->text +
           ", the lowest that is taken";
  return "";
}

// Whether the bundle stands where an installation has put it, after it was proved: what is out of date goes on running there.
bool is_installed(const Bundle& bundle) {
  char real[4096];
  if (!realpath(bundle.path().c_str(), real)) return false;
  std::string folder = parent_of(real);
  struct stat status;
  return folder.substr(folder.rfind('/') + 1) == bundle.manifest_sha256.substr(0, facts::kIdDigits) &&
         stat((folder + "/" + facts::kRecord).c_str(), &status) == 0 && status.st_size > 0;
}

// Refuses what is out of date, and where the clock is too wrong to tell.
void refuse_late(const Bundle& bundle, const Signed& says, const Policy& policy, const std::optional<Root>& root) {
  if (is_installed(bundle)) return;
  int64_t now = time(nullptr), most = static_cast<int64_t>(policy.number("max_age_days", 0));
  bool timed = root || says.expires_time || policy.given("max_age_days");
  if (timed && says.signed_time && now < *says.signed_time - static_cast<int64_t>(facts::kClocksDifferS)) {
    refuse(EDGEPACK_TRUST_ERROR,
           bundle.path() + " was signed at " + says.signed_at + ", and this machine's clock says " + as_text(now),
           "set the clock: without it nothing tells what is out of date");
  }
  if (root) refuse_expired(*root, now);
  if (says.expires_time && now >= *says.expires_time)
    refuse(EDGEPACK_TRUST_ERROR, "the signature of " + bundle.path() + " has been out of date since " + says.expires,
           "get one that was signed later");
  if (policy.given("max_age_days") && (!says.signed_time || now > *says.signed_time + most * 86400))
    refuse(EDGEPACK_TRUST_ERROR,
           bundle.path() + " was signed at " + (says.signed_at.empty() ? "a time that it does not say" : says.signed_at) +
               ", more than " + std::to_string(most) + " days ago",
           "get one that was signed later");
}

std::optional<Root> root_of(const Policy& policy) {
  if (!policy.given("root")) return std::nullopt;
  std::string path = policy.beside("root", "");
  Root found = read_root(path);
  refuse_writable(path);
  return found;
}

// A signature that counts: whose, over which statement, and when it was made where others than the signer say.
struct Vote {
  std::string name, payload;
  std::optional<int64_t> at;
};

// Adds the keys that count: those of the root or of the policy's folder, or those that one of its authorities vouches for.
void vote_by_keys(const Bundle& bundle, const Policy& policy, const Envelope& envelope, const std::vector<PublicKey>& keys,
                  std::vector<Vote>* votes) {
  if (!envelope.keys) return;
  std::vector<PublicKey> trusted = keys;
  if (policy.given("authorities")) {
    std::optional<int64_t> now;
    if (!is_installed(bundle)) now = time(nullptr);
    std::vector<std::string> authorities = read_authorities(policy.beside("authorities", ""));
    trusted = certified_keys(envelope.certificates, authorities, now, policy.names("signers"));
  }
  for (const std::string& name : signers(envelope, trusted)) votes->push_back({name, envelope.payload, std::nullopt});
}

// Adds the identities that count, each once, and of the other keyless signatures why they do not.
void vote_by_identities(const Policy& policy, const Envelope& envelope, std::vector<Vote>* votes, std::vector<std::string>* why_not) {
  if (!policy.given("sigstore")) return;
  keyless::TrustedRoot root = keyless::read_trusted_root(policy.beside("sigstore", ""));
  std::vector<keyless::Identity> named = policy.identities(), counted;
  for (const keyless::Keyless& each : envelope.keyless) {
    try {
      keyless::Checked by = check_keyless(each, pre_authentication(each.payload), root);
      if (std::find(named.begin(), named.end(), by.identity) == named.end()) {
        why_not->push_back(by.identity.shown() + " is none of its identities");
      } else if (std::find(counted.begin(), counted.end(), by.identity) == counted.end()) {
        counted.push_back(by.identity);
        votes->push_back({by.identity.identity, each.payload, keyless::seconds_of(by.at)});
      }
    } catch (const keyless::NotCounted& problem) {
      why_not->push_back(problem.words);
    }
  }
}

std::string too_few(const Bundle& bundle, const Policy& policy, const std::vector<Vote>& votes,
                    const std::vector<std::string>& why_not, uint64_t needed) {
  std::string whom = policy.given("sigstore") ? "signers" : "keys", have = "by none of the " + whom + " that this device trusts";
  std::vector<std::string> names;
  for (const Vote& vote : votes) names.push_back(vote.name);
  if (!names.empty())
    have = "by " + std::to_string(names.size()) + " of the " + whom + " that this device trusts (" + joined(names) + ")";
  std::string reasons = why_not.empty() ? "" : "; of its keyless signatures: " + first(joined(why_not, "; "), 600);
  return bundle.path() + " is signed " + have + ", and " + std::to_string(needed) + " must have signed it (" + policy.path + ")" +
         reasons;
}

void admit(const Bundle& bundle, const Policy& policy) {
  if (std::string problem = unwanted(bundle.manifest, policy); !problem.empty())
    refuse(EDGEPACK_TRUST_ERROR, bundle.path() + ": " + problem + " (" + policy.path + ")",
           "give a bundle for this device, or change its policy");
  if (!policy.truth("require_signature")) return;
  if (!bundle.signature)
    refuse(EDGEPACK_TRUST_ERROR, bundle.path() + " is not signed, and " + policy.path + " requires it",
           kNotSigned);
  Envelope envelope = read_envelope(*bundle.signature, bundle.path());
  std::optional<Root> root = root_of(policy);
  bool folder = !root && !policy.given("authorities") && (policy.given("keys") || !policy.given("sigstore"));
  std::vector<PublicKey> keys = root ? root->keys : folder ? read_keys(policy.beside("keys", "keys")) : std::vector<PublicKey>();
  uint64_t needed = root ? root->threshold : policy.number("threshold", 1);
  std::vector<Vote> votes;
  std::vector<std::string> why_not;
  vote_by_keys(bundle, policy, envelope, keys, &votes);
  vote_by_identities(policy, envelope, &votes, &why_not);
  if (votes.size() < needed) refuse(EDGEPACK_TRUST_ERROR, too_few(bundle, policy, votes, why_not, needed), kNotSigned);
  std::vector<Signed> says;
  for (const Vote& vote : votes) {
    says.push_back(check_statement(bundle, vote.payload));
    if (!vote.at) continue;
    says.back().signed_at = as_text(*vote.at);
    says.back().signed_time = vote.at;
  }
  for (const Signed& each : says) refuse_late(bundle, each, policy, root);
}

}  // namespace

void refuse_writable(const std::string& path) {
  std::string folder = parent_of(path);
  for (const std::string& place : {path, folder}) {
    struct stat status;
    if (stat(place.c_str(), &status))
      refuse(EDGEPACK_STORAGE_ERROR, place + " cannot be read: " + strerror(errno), "make it readable");
    if (is_others(status, place == folder))
      refuse(EDGEPACK_STORAGE_ERROR, place + " is writable by other users", "chmod go-w " + place);
  }
}

bool may_run(const Bundle& bundle, int allowed) {
  std::vector<Policy> found = policies();
  bool said = false, native = true;
  for (const Policy& policy : found) {
    admit(bundle, policy);
    if (policy.native() == "settings") continue;
    said = true;
    native = native && policy.native() == "allowed";
  }
  if (said) return native;
  const auto& payloads = bundle.manifest.payloads;
  return std::any_of(payloads.begin(), payloads.end(), is_native) && may_run_native(bundle, allowed);
}

Refusal native_refusal(const Manifest& manifest) {
  auto payload = std::find_if(manifest.payloads.begin(), manifest.payloads.end(), is_native);
  const facts::Engine* engine = facts::engine_of(payload->backend);
  return {EDGEPACK_CONFIG_ERROR,
          manifest.name + " holds native code for " + (engine ? engine->title : payload->backend) +
              " and was not built here, so it is not run",
          std::string("if you trust who made it, allow it in the options of edgepack_load, or set ") + kNativeVariable +
              "=1, or write {\"allow_native\": true} to " + kSystemSettings + " on this device"};
}

}  // namespace edgepack
