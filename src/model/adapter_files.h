// What the adapter readers share. Private to src/model/adapter*.
#pragma once

#include <cstddef>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "model/adapter.h"
#include "tensor/dtype.h"

namespace ink {

/// A tensor of an adapter file that belongs to one matrix of the target.
enum class AdapterPart { kA, kB, kMagnitude };

struct AdapterTensor {
  std::string name;  // in the file, for messages
  DType type = DType::kF32;
  std::vector<int64_t> shape;  // slowest first
  const std::byte* data = nullptr;
};

/// The tensors of a file, sorted by matrix, and then the adapter they make.
class AdapterAssembler {
 public:
  AdapterAssembler(std::string path, const AdapterTarget& target)
      : path_(std::move(path)), target_(target) {}

  /// Errors: kUnsupported (experts, a tied or absent matrix), kCorrupt (given twice).
  Status Add(const AdapterTarget::Matrix& matrix, AdapterPart part, AdapterTensor tensor);
  /// Decodes into `adapter->matrices`, shapes checked; B and magnitude rows stay in file order.
  /// Alphas are left for the caller. Errors: kCorrupt, kInvalidArgument, kUnsupported.
  Status Finish(Adapter* adapter) const;

 private:
  Status Shape(const AdapterTensor& tensor, std::vector<int64_t> expected,
               std::string_view what) const;
  Status Decode(const AdapterTensor& tensor, std::vector<float>* out) const;

  std::string path_;
  const AdapterTarget& target_;
  std::map<const AdapterTarget::Matrix*, std::map<AdapterPart, AdapterTensor>> found_;
};

Result<Adapter> ReadPeftAdapter(const std::string& folder, const AdapterTarget& target);
Result<Adapter> ReadGgufAdapter(const std::string& path, const AdapterTarget& target);

}  // namespace ink
