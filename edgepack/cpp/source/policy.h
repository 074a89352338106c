// Whether this device takes a bundle, and whether it runs machine code in it: by the policy, the settings, and the words
// of edgepack/trust/policy.py and edgepack/runtime/native.py.

#ifndef EDGEPACK_POLICY_H_
#define EDGEPACK_POLICY_H_

#include "bundle.h"
#include "error.h"

namespace edgepack {

// Says whether native code of the bundle may run; ``allowed`` is what the caller says: 1, -1, or 0 for nothing.
// Throws Refusal when a policy of this device does not let the bundle in at all.
bool may_run(const Bundle& bundle, int allowed);

// Refuses what another user could have written and what decides about trust, or its folder. Throws Refusal.
void refuse_writable(const std::string& path);

// What is told of a bundle whose native code may not run.
Refusal native_refusal(const Manifest& manifest);

}  // namespace edgepack

#endif  // EDGEPACK_POLICY_H_
