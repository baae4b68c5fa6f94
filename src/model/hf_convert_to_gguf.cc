#include <map>

#include "formats/gguf_writer.h"
#include "formats/quote.h"
#include "model/hf_convert.h"
#include "model/hf_convert_values.h"

namespace ink {
namespace {

// general.file_type (llama_ftype) of plain types.
uint32_t FileType(DType type) { return type == DType::kF16 ? 1 : type == DType::kBF16 ? 32 : 0; }

// Norms, biases and routers are f32 in every GGUF file; f64 has no weight form.
DType OutType(const HfModel::Tensor& tensor) {
  if (tensor.form.keep_f32 || tensor.shape.size() == 1 || tensor.type == DType::kF64) {
    return DType::kF32;
  }
  return tensor.type;
}

class ToGguf {
 public:
  ToGguf(const HfModel& in, GgufWriter& writer, const ConvertOptions& options)
      : in_(in), writer_(writer), options_(options) {}

  Status Declare();
  Status Write();

 private:
  Status DeclareFactors(std::string_view name, const std::vector<float>& values);
  Status Emit(std::span<const std::byte> bytes);
  Status WritePlusOne(const HfModel::Tensor& tensor);
  Status WritePart(const HfModel::Tensor& tensor, const SafetensorsTensor& part);

  const HfModel& in_;
  GgufWriter& writer_;
  const ConvertOptions& options_;
};

Status ToGguf::DeclareFactors(std::string_view name, const std::vector<float>& values) {
  if (values.empty()) return OkStatus();
  const int64_t dims[] = {static_cast<int64_t>(values.size())};
  return writer_.AddTensor(name, DType::kF32, dims);
}

Status ToGguf::Declare() {
  std::map<DType, int64_t> values;
  INK_RETURN_IF_ERROR(DeclareFactors("rope_freqs.weight", in_.config().rope_freqs));
  INK_RETURN_IF_ERROR(DeclareFactors("rope_factors_long.weight", in_.config().rope_long));
  INK_RETURN_IF_ERROR(DeclareFactors("rope_factors_short.weight", in_.config().rope_short));
  for (const HfModel::Tensor& tensor : in_.tensors()) {
    std::vector<int64_t> dims(tensor.shape.rbegin(), tensor.shape.rend());
    if (tensor.form.experts > 0) dims.push_back(int64_t{tensor.form.experts});
    INK_RETURN_IF_ERROR(writer_.AddTensor(tensor.form.gguf, OutType(tensor), dims));
    int64_t count = 1;
    for (int64_t dim : dims) count *= dim;
    values[OutType(tensor)] += count;
  }
  DType most = DType::kF32;
  for (const auto& [type, count] : values) {
    if (count > values[most]) most = type;
  }
  writer_.metadata().SetU32("general.file_type", FileType(most));
  return OkStatus();
}

Status ToGguf::Emit(std::span<const std::byte> bytes) {
  INK_RETURN_IF_ERROR(writer_.Write(bytes));
  if (options_.progress && !options_.progress(writer_.written_bytes(), writer_.total_bytes())) {
    return Cancelled(in_.folder() + ": stopped; nothing was written");
  }
  return OkStatus();
}

Status ToGguf::WritePlusOne(const HfModel::Tensor& tensor) {
  const SafetensorsTensor& part = *tensor.parts[0];
  std::vector<float> factors(static_cast<size_t>(part.num_values()));
  DecodePlusOne(tensor.type, part.data.data(), factors.data(), part.num_values());
  return Emit(std::as_bytes(std::span(factors)));
}

Status ToGguf::WritePart(const HfModel::Tensor& tensor, const SafetensorsTensor& part) {
  const DType out = OutType(tensor);
  const bool column = tensor.shape.size() == 1;
  const int64_t rows_total = tensor.shape[0];
  const int64_t values = column ? 1 : tensor.shape[1];
  const int64_t in_row = RowBytes(tensor.type, values);
  const int64_t head_rows =
      tensor.form.permute_heads > 0 ? rows_total / int64_t{tensor.form.permute_heads} : 0;
  const int64_t chunk = head_rows > 0 ? head_rows
                                      : std::min(ConvertChunkRows(tensor.type, values),
                                                 ConvertChunkRows(out, values));
  std::vector<std::byte> converted, ordered;
  for (int64_t row = 0; row < rows_total; row += chunk) {
    const int64_t rows = std::min(chunk, rows_total - row);
    ConvertRows(tensor.type, part.data.data() + row * in_row, out, values, rows, &converted);
    if (head_rows > 0) {
      ordered.resize(converted.size());
      PermuteHead(converted.data(), ordered.data(), head_rows,
                  static_cast<size_t>(RowBytes(out, values)), /*to_gguf=*/true);
    }
    INK_RETURN_IF_ERROR(Emit(head_rows > 0 ? ordered : converted));
    in_.file().DropPages(part, static_cast<uint64_t>(row * in_row),
                         static_cast<uint64_t>(rows * in_row));
  }
  return OkStatus();
}

Status ToGguf::Write() {
  for (const std::vector<float>* factors :
       {&in_.config().rope_freqs, &in_.config().rope_long, &in_.config().rope_short}) {
    INK_RETURN_IF_ERROR(Emit(std::as_bytes(std::span(*factors))));
  }
  for (const HfModel::Tensor& tensor : in_.tensors()) {
    if (tensor.form.minus_one) {
      INK_RETURN_IF_ERROR(WritePlusOne(tensor));
      continue;
    }
    for (const SafetensorsTensor* part : tensor.parts) {
      INK_RETURN_IF_ERROR(WritePart(tensor, *part));
    }
  }
  return OkStatus();
}

}  // namespace

Status ConvertHfToGguf(const HfModel& in, const Metadata& vocabulary, const std::string& path,
                       const ConvertOptions& options) {
  GgufWriter writer(path, {.max_shard_bytes = options.max_shard_bytes});
  writer.metadata().CopyFrom(in.config().metadata);
  ToGguf conversion(in, writer, options);
  INK_RETURN_IF_ERROR(conversion.Declare());
  writer.metadata().CopyFrom(vocabulary);
  INK_RETURN_IF_ERROR(writer.Begin());
  INK_RETURN_IF_ERROR(conversion.Write());
  return writer.Finish();
}

}  // namespace ink
