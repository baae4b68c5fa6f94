#include "compress/quantize.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <filesystem>
#include <limits>
#include <span>
#include <system_error>
#include <utility>

#include "formats/gguf.h"
#include "formats/gguf_writer.h"
#include "quant/half.h"
#include "quant/quant_format.h"

namespace ink {
namespace {

/// Values of one task: a few hundred KiB of scratch per thread, some milliseconds of search.
constexpr int64_t kTaskValues = 32768;
/// Values converted before they are written: 16 MiB of F32, enough tasks to keep threads busy.
constexpr int64_t kWaveValues = int64_t{1} << 22;
/// general.quantization_version of the block formats (GGML_QNT_VERSION).
constexpr uint32_t kQuantizationVersion = 2;

/// A contiguous piece of a tensor: whole rows, or part of one long row.
struct Piece {
  int64_t begin = 0;  // first value
  int64_t count = 0;
};

/// What a task found out about its piece.
struct PieceResult {
  double squared_error = 0.0;
  double squared_norm = 0.0;
  int64_t bad_index = -1;  // first value that the new type cannot hold
  float bad_value = 0.0f;
};

/// One tensor's way from one type to another.
struct Job {
  const GgufTensor* tensor = nullptr;
  const QuantFormat* from = nullptr;
  const QuantFormat* to = nullptr;  // same as `from` for a copy
  const std::vector<float>* importance = nullptr;
  const RowTransform* transform = nullptr;  // null where it changes nothing
  std::string_view name;                    // in the output
};

struct Scratch {
  std::vector<float> values;
  std::vector<float> decoded;
};

/// Largest magnitude that `type` holds, as far as encoders do not saturate by themselves.
float RangeOf(DType type) {
  // Halfway from the largest float16 to the next power of two rounds to infinity; for bfloat16 the
  // same, in the leading 16 bits.
  if (type == DType::kF16) return std::nextafter(65520.0f, 0.0f);
  if (type == DType::kBF16) return std::bit_cast<float>(0x7f7f7fffu);
  return std::numeric_limits<float>::max();
}

void ConvertPiece(const Job& job, Piece piece, std::byte* out, Scratch* scratch,
                  PieceResult* result) {
  const DTypeInfo& from = Info(job.from->type);
  const int64_t row = job.tensor->dims[0];
  scratch->values.resize(static_cast<size_t>(piece.count));
  float* x = scratch->values.data();
  job.from->decode(job.tensor->data.data() + piece.begin / from.block_values * from.block_bytes, x,
                   piece.count);
  if (job.transform != nullptr) {
    for (int64_t done = 0; done < piece.count; done += row) {
      job.transform->Apply(job.name, (piece.begin + done) / row,
                           std::span(x + done, static_cast<size_t>(row)));
    }
  }
  const float range = RangeOf(job.to->type);
  for (int64_t i = 0; i < piece.count; ++i) {
    if (std::fabs(x[i]) <= range) continue;  // false for NaN
    result->bad_index = piece.begin + i;
    result->bad_value = x[i];
    return;
  }
  double norm = 0.0;
  for (int64_t i = 0; i < piece.count; ++i) norm += static_cast<double>(x[i]) * x[i];
  result->squared_norm = norm;
  if (job.to == job.from && job.transform == nullptr) {
    const std::byte* source =
        job.tensor->data.data() + piece.begin / from.block_values * from.block_bytes;
    std::copy_n(source, RowBytes(from.type, piece.count), out);
    return;
  }
  if (job.importance == nullptr) {
    job.to->encode(x, nullptr, out, piece.count);
  } else {
    // Each row starts over in the importance of its expert.
    const int64_t rows_per_expert = job.tensor->dims[1];
    const int64_t experts = static_cast<int64_t>(job.importance->size()) / row;
    int64_t done = 0;
    while (done < piece.count) {
      const int64_t at = piece.begin + done;
      const int64_t expert = at / row / rows_per_expert % experts;
      const int64_t count = std::min(row - at % row, piece.count - done);
      job.to->encode(x + done, job.importance->data() + expert * row + at % row,
                     out + RowBytes(job.to->type, done), count);
      done += count;
    }
  }
  scratch->decoded.resize(static_cast<size_t>(piece.count));
  job.to->decode(out, scratch->decoded.data(), piece.count);
  double error = 0.0;
  for (int64_t i = 0; i < piece.count; ++i) {
    const double diff = static_cast<double>(x[i]) - static_cast<double>(scratch->decoded[i]);
    error += diff * diff;
  }
  result->squared_error = error;
}

Status BadValue(const std::string& path, const Job& job, const PieceResult& result) {
  const GgufTensor& tensor = *job.tensor;
  const int64_t row = result.bad_index / tensor.dims[0];
  const std::string where = path + ": tensor " + std::string(tensor.name) + " " +
                            tensor.ShapeString() + ": value at index " +
                            std::to_string(result.bad_index) + " (row " + std::to_string(row) +
                            ", column " + std::to_string(result.bad_index % tensor.dims[0]) + ")";
  if (!std::isfinite(result.bad_value)) {
    return Corrupt(where + " should be finite, it is " +
                   (std::isnan(result.bad_value) ? "NaN" : "infinite"));
  }
  return InvalidArgument(where + " is " + std::to_string(result.bad_value) +
                         ", beyond the range of " + std::string(Info(job.to->type).name));
}

/// The importance values of a tensor, or null where there are none. `warning` says why a matrix
/// that should have them does not.
Result<const std::vector<float>*> ImportanceFor(const ImportanceMatrix* matrix,
                                                std::string_view name, const GgufTensor& tensor) {
  if (matrix == nullptr) return static_cast<const std::vector<float>*>(nullptr);
  const std::vector<float>* values = matrix->Find(name);
  if (values == nullptr) return values;
  const uint64_t per_expert = static_cast<uint64_t>(tensor.dims[0]);
  const uint64_t all = per_expert * static_cast<uint64_t>(tensor.dims[2]);
  if (values->size() == all) return values;
  // Embeddings are looked up, not multiplied; calibration of a tied model counts otherwise.
  if (name == "token_embd.weight") return static_cast<const std::vector<float>*>(nullptr);
  return InvalidArgument(matrix->path() + ": importance of " + std::string(name) + " has " +
                         std::to_string(values->size()) + " values, the tensor " +
                         tensor.ShapeString() + " needs " + std::to_string(all) +
                         "; is it of another model?");
}

Status RefuseOverwritingShards(const GgufFile& file, const std::string& out) {
  if (file.files().size() < 2) return OkStatus();
  for (const MappedFile& shard : file.files()) {
    std::error_code error;
    if (!std::filesystem::equivalent(shard.path(), out, error) || error) continue;
    return InvalidArgument(out + ": the output is a shard of the input; name another file");
  }
  return OkStatus();
}

void FillMetadata(const GgufFile& file, const QuantizeOptions& options, Metadata* metadata) {
  metadata->CopyFrom(file.metadata());
  for (const std::string_view key :
       {kGgufSplitNoKey, kGgufSplitCountKey, kGgufSplitTensorsKey, kGgufAlignmentKey}) {
    metadata->Erase(key);
  }
  if (options.recipe != nullptr) {
    metadata->SetU32("general.quantization_version", kQuantizationVersion);
    metadata->SetU32("general.file_type", static_cast<uint32_t>(options.recipe->file_type));
  }
  if (options.importance == nullptr) return;
  const ImportanceMatrix& matrix = *options.importance;
  metadata->SetString("quantize.imatrix.file", matrix.path());
  if (!matrix.dataset().empty()) {
    metadata->SetString("quantize.imatrix.dataset", matrix.dataset());
  }
  metadata->SetU32("quantize.imatrix.entries_count", static_cast<uint32_t>(matrix.size()));
  metadata->SetU32("quantize.imatrix.chunks_count", matrix.chunks());
}

/// Converts and writes tensors one after another.
class Conversion {
 public:
  Conversion(const GgufFile& file, const QuantizeOptions& options, ThreadPool& pool,
             GgufWriter* writer)
      : file_(file), options_(options), pool_(pool), writer_(writer) {
    scratch_.resize(static_cast<size_t>(pool.num_threads()));
    progress_.total_bytes = file.tensor_bytes();
    if (options.transform != nullptr && options.transform->UntiesOutput()) {
      progress_.total_bytes += file.Find("token_embd.weight")->size;
    }
    progress_.num_tensors = static_cast<int>(file.tensors().size());
  }

  Status Run(const Job& job, TensorReport* report) {
    progress_.name = job.name;
    const Status status = job.from == nullptr ? CopyBytes(*job.tensor) : Convert(job, report);
    ++progress_.tensor;
    return status;
  }

 private:
  /// Integers: nothing to decode or to measure.
  Status CopyBytes(const GgufTensor& tensor) {
    constexpr uint64_t kChunk = uint64_t{16} << 20;
    for (uint64_t at = 0; at < tensor.size; at += kChunk) {
      const uint64_t size = std::min(kChunk, tensor.size - at);
      INK_RETURN_IF_ERROR(writer_->Write(tensor.data.subspan(at, size)));
      INK_RETURN_IF_ERROR(Advance(tensor, at, size));
    }
    return OkStatus();
  }

  Status Convert(const Job& job, TensorReport* report) {
    const GgufTensor& tensor = *job.tensor;
    const int64_t row = tensor.dims[0];
    // Rows stay whole where they fit a task. A longer one is cut at multiples of kTaskValues,
    // which every block divides, unless a transform wants all of it.
    const bool whole = row <= kTaskValues || job.transform != nullptr;
    const int64_t step = whole ? std::max<int64_t>(1, kTaskValues / row) * row : kTaskValues;
    const int64_t total = tensor.num_values();
    const DTypeInfo& from = Info(job.from->type);
    std::vector<Piece> pieces;
    std::vector<int64_t> offsets;  // of each piece's output
    std::vector<PieceResult> results;
    int64_t at = 0;
    while (at < total) {
      const int64_t wave_begin = at;
      int64_t wave_bytes = 0;
      pieces.clear();
      offsets.clear();
      while (at < total && (pieces.empty() || at - wave_begin + step <= kWaveValues)) {
        const int64_t row_left = whole ? total - at : row - at % row;
        const int64_t count = std::min(step, row_left);
        pieces.push_back({at, count});
        offsets.push_back(wave_bytes);
        wave_bytes += RowBytes(job.to->type, count);
        at += count;
      }
      if (buffer_.size() < static_cast<size_t>(wave_bytes)) {
        buffer_.resize(static_cast<size_t>(wave_bytes));
      }
      results.assign(pieces.size(), PieceResult());
      pool_.ParallelFor(static_cast<int64_t>(pieces.size()), [&](int64_t i, int thread) {
        const size_t k = static_cast<size_t>(i);
        ConvertPiece(job, pieces[k], buffer_.data() + offsets[k],
                     &scratch_[static_cast<size_t>(thread)], &results[k]);
      });
      // In order of the pieces, so that sums do not depend on threads.
      for (const PieceResult& result : results) {
        if (result.bad_index >= 0) return BadValue(file_.path(), job, result);
        report->squared_error += result.squared_error;
        report->squared_norm += result.squared_norm;
      }
      INK_RETURN_IF_ERROR(
          writer_->Write(std::span(buffer_.data(), static_cast<size_t>(wave_bytes))));
      const auto bytes_before = [&](int64_t values) {
        return static_cast<uint64_t>(values / from.block_values * from.block_bytes);
      };
      INK_RETURN_IF_ERROR(
          Advance(tensor, bytes_before(wave_begin), bytes_before(at) - bytes_before(wave_begin)));
    }
    return OkStatus();
  }

  Status Advance(const GgufTensor& tensor, uint64_t begin, uint64_t size) {
    file_.DropPages(tensor, begin, size);
    progress_.done_bytes += size;
    if (options_.progress && !options_.progress(progress_)) {
      return Cancelled("quantization was cancelled; no file was written");
    }
    return OkStatus();
  }

  const GgufFile& file_;
  const QuantizeOptions& options_;
  ThreadPool& pool_;
  GgufWriter* writer_;
  QuantizeProgress progress_;
  std::vector<std::byte> buffer_;
  std::vector<Scratch> scratch_;
};

/// A tensor of the output and where its values come from.
struct Target {
  std::string_view name;
  const GgufTensor* tensor;
};

std::vector<Target> Targets(const GgufFile& file, const RowTransform* transform) {
  std::vector<Target> targets;
  for (const GgufTensor& tensor : file.tensors()) targets.push_back({tensor.name, &tensor});
  const GgufTensor* embedding = file.Find("token_embd.weight");
  if (transform != nullptr && transform->UntiesOutput() && embedding != nullptr) {
    targets.push_back({"output.weight", embedding});
  }
  return targets;
}

std::vector<RecipeTensor> Describe(const std::vector<Target>& targets) {
  std::vector<RecipeTensor> tensors;
  for (const Target& target : targets) {
    tensors.push_back(
        {target.name, target.tensor->type, target.tensor->num_dims, target.tensor->dims});
  }
  return tensors;
}

/// Warnings about what the input or the importance matrix lacks.
void AddWarnings(const std::vector<Job>& jobs, const QuantizeOptions& options,
                 std::vector<std::string>* warnings) {
  int requantized = 0;
  int uncovered = 0;
  const Job* first_requantized = nullptr;
  const Job* first_uncovered = nullptr;
  for (const Job& job : jobs) {
    if (job.from == job.to || !Info(job.to->type).quantized) continue;
    if (Info(job.from->type).quantized && requantized++ == 0) first_requantized = &job;
    const bool embedding = job.tensor->name == "token_embd.weight";
    if (options.importance != nullptr && job.importance == nullptr && !embedding &&
        uncovered++ == 0) {
      first_uncovered = &job;
    }
  }
  if (requantized > 0) {
    warnings->push_back(std::to_string(requantized) +
                        " tensors were quantized before (the first, " +
                        std::string(first_requantized->tensor->name) + ", is " +
                        std::string(Info(first_requantized->from->type).name) +
                        "): the errors of both steps add up; start from f16 or f32 if you can");
  }
  if (uncovered > 0) {
    warnings->push_back(options.importance->path() + ": no importance for " +
                        std::to_string(uncovered) + " tensors (the first is " +
                        std::string(first_uncovered->tensor->name) +
                        "); they are quantized without");
  }
}

}  // namespace

double TensorReport::bits_per_weight() const {
  return static_cast<double>(to_bytes) * 8.0 / static_cast<double>(num_values());
}

double TensorReport::relative_error() const {
  return squared_norm > 0.0 ? std::sqrt(squared_error / squared_norm) : 0.0;
}

Result<QuantizeReport> QuantizeGguf(const std::string& in, const std::string& out,
                                    const QuantizeOptions& options, ThreadPool& pool) {
  INK_ASSIGN_OR_RETURN(const GgufFile file, GgufFile::Open(in));
  return QuantizeGguf(file, out, options, pool);
}

Result<QuantizeReport> QuantizeGguf(const GgufFile& file, const std::string& out,
                                    const QuantizeOptions& options, ThreadPool& pool) {
  INK_CHECK(options.recipe != nullptr || options.transform != nullptr);
  if (file.tensors().empty()) {
    return InvalidArgument(file.path() + ": expected a model, the file holds no tensors");
  }
  INK_RETURN_IF_ERROR(RefuseOverwritingShards(file, out));
  const std::vector<Target> targets = Targets(file, options.transform);
  TypeChoice choice;
  if (options.recipe != nullptr) {
    INK_ASSIGN_OR_RETURN(const ModelTraits traits, ModelTraits::FromMetadata(file.metadata()));
    const RecipeOptions recipe_options{options.pure, options.importance != nullptr,
                                       options.overrides};
    INK_ASSIGN_OR_RETURN(choice,
                         ChooseTypes(*options.recipe, traits, Describe(targets), recipe_options));
  } else {
    for (const Target& target : targets) choice.types.push_back(target.tensor->type);
  }

  QuantizeReport report;
  report.warnings = std::move(choice.warnings);
  GgufWriter writer(out);
  FillMetadata(file, options, &writer.metadata());
  std::vector<Job> jobs;
  for (size_t i = 0; i < targets.size(); ++i) {
    const GgufTensor& tensor = *targets[i].tensor;
    const DType type = choice.types[i];
    INK_RETURN_IF_ERROR(writer.AddTensor(
        targets[i].name, type,
        std::span(tensor.dims.data(), static_cast<size_t>(std::max(tensor.num_dims, 1)))));
    Job job{.tensor = &tensor,
            .from = FindQuantFormat(tensor.type),
            .to = FindQuantFormat(type),
            .name = targets[i].name};
    if (options.transform != nullptr && job.from != nullptr &&
        options.transform->Changes(job.name)) {
      job.transform = options.transform;
    }
    if (Info(type).quantized && (type != tensor.type || job.transform != nullptr)) {
      INK_ASSIGN_OR_RETURN(job.importance, ImportanceFor(options.importance, job.name, tensor));
    }
    jobs.push_back(job);
  }
  AddWarnings(jobs, options, &report.warnings);

  INK_RETURN_IF_ERROR(writer.Begin());
  Conversion conversion(file, options, pool, &writer);
  double squared_error = 0.0;
  double squared_norm = 0.0;
  for (size_t i = 0; i < jobs.size(); ++i) {
    const GgufTensor& tensor = *jobs[i].tensor;
    TensorReport entry;
    entry.name = jobs[i].name;
    entry.num_dims = tensor.num_dims;
    entry.dims = tensor.dims;
    entry.from = tensor.type;
    entry.to = choice.types[i];
    entry.from_bytes = tensor.size;
    entry.to_bytes = static_cast<uint64_t>(RowBytes(entry.to, tensor.dims[0])) *
                     static_cast<uint64_t>(tensor.num_rows());
    entry.weighted = jobs[i].importance != nullptr;
    INK_RETURN_IF_ERROR(conversion.Run(jobs[i], &entry));
    squared_error += entry.squared_error;
    squared_norm += entry.squared_norm;
    report.from_bytes += entry.from_bytes;
    report.to_bytes += entry.to_bytes;
    report.num_values += entry.num_values();
    report.tensors.push_back(std::move(entry));
  }
  INK_RETURN_IF_ERROR(writer.Finish());
  report.bits_per_weight =
      static_cast<double>(report.to_bytes) * 8.0 / static_cast<double>(report.num_values);
  report.relative_error = squared_norm > 0.0 ? std::sqrt(squared_error / squared_norm) : 0.0;
  std::error_code error;
  const std::uintmax_t size = std::filesystem::file_size(out, error);
  report.file_bytes = error ? 0 : size;
  return report;
}

}  // namespace ink
