// Golden vectors: a bundle's sample inputs, the fp32 model's outputs for them, and how far outputs may be from these. By
// the rules of edgepack/verify (golden.py, distance.py, tolerance.py).

#ifndef EDGEPACK_VERIFY_H_
#define EDGEPACK_VERIFY_H_

#include <memory>
#include <string>
#include <vector>

#include "bundle.h"
#include "model.h"

namespace edgepack {

// Figures that have no meaning for an output are NaN.
struct Distance {
  std::string name, way;
  int batch = 1;
  bool passed = false;
  double sqnr_db, least_sqnr_db, cosine, max_abs, mismatch;
  int64_t nonfinite = 0;
  std::string note;
};

struct Verification {
  bool passed = true;
  size_t samples = 0;
  std::string engine, engine_version, note;
  std::vector<Distance> distances;
};

// Runs the golden vectors on the engine that is preferred here, and on the others that stand in for it. Throws Refusal:
// what load_model throws, and EDGEPACK_BUNDLE_ERROR when the golden vectors are not of this model.
Verification verify_bundle(std::shared_ptr<const Bundle> bundle, const LoadOptions& options);

}  // namespace edgepack

#endif  // EDGEPACK_VERIFY_H_
