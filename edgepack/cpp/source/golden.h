// The golden vectors of a bundle as they stand in golden.npz, checked by the rules of edgepack/verify/golden.py.

#ifndef EDGEPACK_GOLDEN_H_
#define EDGEPACK_GOLDEN_H_

#include <map>
#include <set>
#include <string>
#include <vector>

#include "bundle.h"
#include "inputs.h"
#include "npz.h"

namespace edgepack {

// What is allowed for one output: the least SQNR, the largest difference where the fp32 output is all zero, the largest
// share of differing elements of an output that is a decision, and how near to zero values count as zero.
struct Tolerance {
  double sqnr_db, max_abs, mismatch, zero_within;
};

using Arrays = std::map<std::string, Array>;

// Samples that are run at once, by their numbers, and the fp32 model's outputs for them.
struct GoldenBatch {
  std::vector<size_t> samples;
  Arrays outputs;
};

struct Golden {
  std::vector<Arrays> inputs, outputs;  // one a sample
  std::map<std::string, Tolerance> tolerance;
  std::vector<GoldenBatch> batches;
};

// Throws Refusal (EDGEPACK_BUNDLE_ERROR) for vectors that are damaged, of another model, that say nothing, or that allow
// more than the policy for the precision.
Golden read_golden(const Bundle& bundle);

// The inputs that take several samples: those whose first extent is free and no other axis.
std::set<std::string> batched_inputs(const std::vector<TensorSpec>& inputs);

// Samples as one feed; an input that is not batched is the first one's.
Arrays joined(const Golden& golden, const std::vector<size_t>& samples, const std::set<std::string>& batched);

std::vector<NamedTensor> feeds_of(const Arrays& arrays);

// Values as doubles; decisions are compared by their bytes.
std::vector<double> doubles(const TensorView& array);

}  // namespace edgepack

#endif  // EDGEPACK_GOLDEN_H_
