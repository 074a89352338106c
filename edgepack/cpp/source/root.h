// The root of trust of this device: whose signatures on bundles count, by the rules and with the words of edgepack/trust/root.py.
// It is read here and never replaced: 'edgepack root take' does that.

#ifndef EDGEPACK_ROOT_H_
#define EDGEPACK_ROOT_H_

#include <stdint.h>

#include <string>
#include <vector>

#include "signature.h"

namespace edgepack {

struct Root {
  uint64_t version, threshold;  // of the signatures that a bundle needs
  std::string expires;          // as it is written
  int64_t expires_time;         // seconds since 1970
  std::vector<PublicKey> keys;  // that sign bundles
};

// Returns a root that is signed by enough of its own root keys. Throws Refusal.
Root read_root(const std::string& path);

// Refuses a root that is out of date at ``now``: whoever keeps newer ones away could bring revoked keys back.
void refuse_expired(const Root& root, int64_t now);

}  // namespace edgepack

#endif  // EDGEPACK_ROOT_H_
