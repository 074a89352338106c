// SHA-256 (FIPS 180-4) and the CRC-32 of zip archives (PKWARE APPNOTE 4.4.7), piece by piece.

#ifndef EDGEPACK_SHA256_H_
#define EDGEPACK_SHA256_H_

#include <stddef.h>
#include <stdint.h>

#include <string>
#include <string_view>

namespace edgepack {

class Sha256 {
 public:
  void update(const void* data, size_t size);
  std::string hex();  // ends it

 private:
  void block(const uint8_t* data);

  uint32_t state_[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
  uint8_t waiting_[64] = {};
  uint64_t bytes_ = 0;
};

std::string sha256(std::string_view data);
uint32_t crc32(std::string_view data, uint32_t before = 0);

}  // namespace edgepack

#endif  // EDGEPACK_SHA256_H_
