#include "trusted_root.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "../base64.h"
#include "../calendar.h"
#include "../certificates.h"
#include "../error.h"
#include "../facts.h"
#include "../file.h"
#include "../json.h"
#include "../policy.h"
#include "../text.h"

namespace edgepack::keyless {

namespace {

constexpr char kAgain[] = "get it again: it is what 'sigstore trusted-root' or 'cosign trusted-root create' writes";
constexpr char kKind[] = "application/vnd.dev.sigstore.trustedroot";

struct NoRoot {
  std::string words;
};

const Value& member(const Value& table, const char* key, Value::Kind kind) {
  const Value* found = table.kind == Value::kTable ? table.find(key) : nullptr;
  if (!found) throw NoRoot{repr(std::string_view(key)) + " is missing"};
  if (found->kind != kind) throw NoRoot{repr(std::string_view(key)) + " is of another type"};
  return *found;
}

std::string bytes_of(const Value& table, const char* key) {
  std::optional<std::string> found = from_base64(member(table, key, Value::kText).text);
  if (!found) throw NoRoot{"it is not base64 in its one form"};
  return *found;
}

Moment time_of(const std::string& text) {
  size_t dot = text.find('.');
  bool whole = !text.empty() && text.back() == 'Z' && (dot == text.npos || (text.size() - dot > 2 && text.size() - dot <= 11));
  std::string digits = whole ? digits_of(std::string_view(text).substr(0, dot == text.npos ? text.size() - 1 : dot)) : "";
  std::string fraction = whole && dot != text.npos ? text.substr(dot + 1, text.size() - dot - 2) : "";
  std::optional<Moment> found = moment_of(digits, fraction);
  if (!found) throw NoRoot{repr(first(text, 40)) + " is not a time such as 2026-12-01T00:00:00Z"};
  return *found;
}

Period period_of(const Value& table) {
  const Value& said = member(table, "validFor", Value::kTable);
  const Value* end = said.find("end");
  Period made{time_of(member(said, "start", Value::kText).text), std::nullopt};
  if (end && end->kind != Value::kNull) made.end = time_of(member(said, "end", Value::kText).text);
  return made;
}

LogKey log_of(const Value& data) {
  const Value* hash = data.kind == Value::kTable ? data.find("hashAlgorithm") : nullptr;
  if (hash && (hash->kind != Value::kText || hash->text != "SHA2_256"))
    throw NoRoot{"a log has the hash " + repr(first(hash->text, 40))};
  const Value& key = member(data, "publicKey", Value::kTable);
  return {bytes_of(member(data, "logId", Value::kTable), "keyId"), bytes_of(key, "rawBytes"), period_of(key)};
}

Authority authority_of(const Value& data) {
  Authority made;
  for (const Value& each : member(member(data, "certChain", Value::kTable), "certificates", Value::kList).items)
    made.certificates.push_back(bytes_of(each, "rawBytes"));
  for (const std::string& der : made.certificates)
    if (!is_certificate(der)) throw NoRoot{"a certificate of an authority cannot be read"};
  made.period = period_of(data);
  return made;
}

template <typename Made>
std::vector<Made> all_of(const Value& data, const char* key, Made (*make)(const Value&)) {
  std::vector<Made> found;
  if (!data.find(key)) return found;
  for (const Value& each : member(data, key, Value::kList).items) found.push_back(make(each));
  return found;
}

TrustedRoot parse(const std::string& text) {
  Value data = read_json(text);
  if (member(data, "mediaType", Value::kText).text.compare(0, strlen(kKind), kKind) != 0) throw NoRoot{"it is another document"};
  TrustedRoot made{all_of(data, "tlogs", log_of), all_of(data, "certificateAuthorities", authority_of),
                   all_of(data, "ctlogs", log_of), all_of(data, "timestampAuthorities", authority_of)};
  if (made.logs.empty()) throw NoRoot{"it names no log"};
  if (made.authorities.empty()) throw NoRoot{"it names no certificate authority"};
  for (const auto* authorities : {&made.authorities, &made.timestamp_authorities})
    for (const Authority& each : *authorities)
      if (each.certificates.empty()) throw NoRoot{"an authority has no certificate"};
  return made;
}

}  // namespace

std::optional<Moment> moment_of(std::string_view digits, std::string_view fraction) {
  std::optional<int64_t> seconds = seconds_at(digits);
  if (!seconds || fraction.find_first_not_of("0123456789") != fraction.npos) return std::nullopt;
  Moment part = 0;
  for (size_t i = 0; i < 6; ++i) part = 10 * part + (i < fraction.size() ? fraction[i] - '0' : 0);
  return *seconds * kSecond + part;
}

TrustedRoot read_trusted_root(const std::string& path) {
  constexpr char kUnread[] = "put Sigstore's trusted_root.json there";
  struct stat status;
  std::string text;
  errno = 0;
  if (stat(path.c_str(), &status) || !S_ISREG(status.st_mode) || !read_small(path, facts::kTrustedRootLimitBytes + 1, &text))
    refuse(EDGEPACK_CONFIG_ERROR, "the trusted root " + path + " cannot be read: " + strerror(errno ? errno : EINVAL), kUnread);
  if (text.size() > facts::kTrustedRootLimitBytes)
    refuse(EDGEPACK_CONFIG_ERROR,
           "the trusted root " + path + " cannot be read: it is larger than " + std::to_string(facts::kTrustedRootLimitBytes) +
               " bytes",
           kUnread);
  refuse_writable(path);
  try {
    return parse(text);
  } catch (const JsonProblem& problem) {
    refuse(EDGEPACK_CONFIG_ERROR, path + " is not a trusted root: " + first(problem.words, 200), kAgain);
  } catch (const NoRoot& problem) {
    refuse(EDGEPACK_CONFIG_ERROR, path + " is not a trusted root: " + first(problem.words, 200), kAgain);
  }
}

}  // namespace edgepack::keyless
