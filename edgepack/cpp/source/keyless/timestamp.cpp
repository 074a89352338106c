#include "timestamp.h"

#include <algorithm>
#include <map>

#include "../certificates.h"
#include "../crypto.h"
#include "../text.h"
#include "certificate.h"
#include "der.h"

namespace edgepack::keyless {

namespace {

// Identifiers as DER has them: 1.2.840.113549 followed by .1.7.2, .1.9.16.1.4, .1.9.3 and .1.9.4.
constexpr std::string_view kSignedData("\x2a\x86\x48\x86\xf7\x0d\x01\x07\x02", 9);
constexpr std::string_view kTimestamp("\x2a\x86\x48\x86\xf7\x0d\x01\x09\x10\x01\x04", 11);
constexpr std::string_view kContentType("\x2a\x86\x48\x86\xf7\x0d\x01\x09\x03", 9), kDigest("\x2a\x86\x48\x86\xf7\x0d\x01\x09\x04", 9);
constexpr std::string_view kHashes("\x60\x86\x48\x01\x65\x03\x04\x02", 8);  // and 1, 2 or 3
constexpr std::string_view kStamping("\x2b\x06\x01\x05\x05\x07\x03\x08", 8);

// What an answer says: the hash of what was stamped, when, and what is signed of it.
struct Stamp {
  Hash imprint_hash, hash;
  std::string imprint, message, signature;
  Moment time;
};

// The element at a place. Python's words for fewer elements than there should be are its own.
const Element& at(const std::vector<Element>& parts, size_t place) {
  if (place >= parts.size()) counts_not("it ends too early");
  return parts[place];
}

const Element& only(const std::vector<Element>& parts) {
  if (parts.size() != 1) counts_not("it has " + std::to_string(parts.size()) + " parts in the place of 1");
  return parts[0];
}

Hash hash_of(const Element& kind) {
  std::string_view name = at(kind.children(kSequence), 0).of(kOid);
  bool known = name.size() == kHashes.size() + 1 && name.substr(0, kHashes.size()) == kHashes && name.back() >= 1 && name.back() <= 3;
  if (!known) counts_not("it has an unknown hash");
  return static_cast<Hash>(name.back() - 1);
}

Moment time_of(const Element& element) {
  std::string text(element.of(kTime));
  bool ends = !text.empty() && text.back() == 'Z';
  size_t dot = text.find('.');
  std::string whole = ends ? text.substr(0, std::min(dot, text.size() - 1)) : "";
  std::string fraction = ends && dot != text.npos ? text.substr(dot + 1, text.size() - dot - 2) : "";
  std::optional<Moment> found = dot != text.npos && fraction.empty() ? std::nullopt : moment_of(whole, fraction);
  if (!found) counts_not(repr(first(text, 30)) + " is not a time");
  return *found;
}

Stamp stamp_of(std::string_view info, const Element& signer) {
  std::vector<Element> parts = signer.children(kSequence);
  Stamp made{};
  made.hash = hash_of(at(parts, 2));
  std::map<std::string_view, std::vector<Element>> said;
  for (const Element& each : at(parts, 3).children(kExplicit0)) {
    std::vector<Element> attribute = each.children(kSequence);
    if (attribute.size() != 2) counts_not("an attribute cannot be read");
    if (!said.emplace(attribute[0].of(kOid), attribute[1].children(kSet)).second) counts_not("an attribute stands twice");
  }
  if (only(said[kContentType]).of(kOid) != kTimestamp) counts_not("its attributes are of something else");
  if (only(said[kDigest]).of(kOctets) != digest(made.hash, info)) counts_not("its attributes are of another time");
  std::vector<Element> inside = read_der(info).children(kSequence);
  std::vector<Element> imprint = at(inside, 2).children(kSequence);
  made.time = time_of(at(inside, 4));
  made.imprint_hash = hash_of(at(imprint, 0));
  made.imprint = std::string(at(imprint, 1).of(kOctets));
  if (imprint.size() != 2) counts_not("its hash cannot be read");
  // What is signed is the set of attributes under its own tag, not the one that it has here (RFC 5652, 5.4).
  made.message = std::string(1, kSet) + std::string(at(parts, 3).whole.substr(1));
  made.signature = std::string(at(parts, 5).of(kOctets));
  return made;
}

// What a TimeStampResp says whose status is granted.
Stamp read(const std::string& answer) {
  std::vector<Element> whole = read_der(answer).children(kSequence);
  if (whole.size() != 2) counts_not("it has " + std::to_string(whole.size()) + " parts in the place of 2");
  std::string_view status = at(whole[0].children(kSequence), 0).of(kInteger);
  if (status != std::string_view("\0", 1) && status != "\1") counts_not("it was not granted");
  std::vector<Element> token = whole[1].children(kSequence);
  if (token.size() != 2 || token[0].of(kOid) != kSignedData) counts_not("it is not signed");
  std::vector<Element> data = only(token[1].children(kExplicit0)).children(kSequence);
  if (data.size() < 4) counts_not("it ends too early");
  std::vector<Element> content = data[2].children(kSequence);
  if (content.size() != 2 || content[0].of(kOid) != kTimestamp) counts_not("it is not a timestamp");
  std::string_view info = only(content[1].children(kExplicit0)).of(kOctets);
  return stamp_of(info, only(data.back().children(kSet)));
}

// Whether a certificate, which nobody vouches for here, holds at a moment by its own dates.
bool holds(const std::string& certificate, Moment moment) {
  auto found = validity(certificate);
  return found && found->first * kSecond <= moment && moment <= found->second * kSecond;
}

bool is_by(const Stamp& stamp, const Authority& authority) {
  const std::vector<std::string>& held = authority.certificates;
  if (!authority.period.holds(stamp.time) || !is_for(held[0], kStamping, true)) return false;
  if (held.size() == 1) {
    if (!holds(held[0], stamp.time)) return false;
  } else {
    std::vector<std::string> between(held.begin() + 1, held.end() - 1);
    if (!issuer_key(held[0], between, held.back(), seconds_of(stamp.time))) return false;
  }
  return verifies(key_in(held[0]), stamp.signature, stamp.message, stamp.hash);
}

}  // namespace

std::optional<Moment> stamped_at(const std::string& answer, const std::string& message,
                                 const std::vector<Authority>& authorities) {
  Stamp stamp{};
  try {
    stamp = read(answer);
  } catch (const NotCounted& problem) {
    counts_not("its timestamp cannot be read: " + problem.words);
  }
  bool trusted = std::any_of(authorities.begin(), authorities.end(), [&](const Authority& each) { return is_by(stamp, each); });
  if (!trusted) return std::nullopt;
  if (digest(stamp.imprint_hash, message) != stamp.imprint) counts_not("its timestamp is of another signature");
  return stamp.time;
}

}  // namespace edgepack::keyless
