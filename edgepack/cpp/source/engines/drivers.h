// The engines that this library runs, one file each. TensorRT has no C interface, so it is not among them.

#ifndef EDGEPACK_ENGINES_DRIVERS_H_
#define EDGEPACK_ENGINES_DRIVERS_H_

#include "../runner.h"

namespace edgepack {

extern const Driver kOnnxRuntime, kOpenVino, kTvm;

}  // namespace edgepack

#endif  // EDGEPACK_ENGINES_DRIVERS_H_
