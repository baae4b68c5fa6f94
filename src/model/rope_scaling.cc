#include "model/rope_scaling.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace ink {
namespace {

// The dimension whose wavelength makes `rotations` turns in the original context (YaRN, eq. 17).
double CorrectionDim(const RopeScaling& s, double rotations) {
  return s.rotary_dim * std::log(s.original_context / (rotations * 2 * std::numbers::pi)) /
         (2 * std::log(static_cast<double>(s.base)));
}

Result<std::vector<float>> Factors(const WeightSource& source, std::string_view name,
                                   int rotary_dim) {
  INK_ASSIGN_OR_RETURN(std::vector<float> values, source.Vector(name));
  if (static_cast<int>(values.size()) != rotary_dim / 2) {
    return Corrupt(source.path() + ": tensor " + std::string(name) + ": expected " +
                   std::to_string(rotary_dim / 2) + " values (half of the rotary dimension), got " +
                   std::to_string(values.size()));
  }
  for (float v : values) {
    if (!(v > 0) || !std::isfinite(v)) {
      return Corrupt(source.path() + ": tensor " + std::string(name) +
                     ": expected positive factors, got " + std::to_string(v));
    }
  }
  return values;
}

}  // namespace

Result<RopeScaling> ReadRopeScaling(const WeightSource& source, const std::string& prefix,
                                    int rotary_dim, int64_t context) {
  const Metadata& m = source.metadata();
  RopeScaling s;
  s.rotary_dim = rotary_dim;
  const std::string rope = prefix + ".rope.";
  INK_ASSIGN_OR_RETURN(s.base, m.GetFloat(rope + "freq_base", 10000.0f));
  if (!(s.base > 0) || !std::isfinite(s.base)) {
    return Corrupt(source.path() + ": " + rope + "freq_base: expected a positive number, got " +
                   std::to_string(s.base));
  }
  INK_ASSIGN_OR_RETURN(uint64_t trained, m.GetU64(prefix + ".context_length", 0));
  INK_ASSIGN_OR_RETURN(uint64_t original,
                       m.GetU64(rope + "scaling.original_context_length", trained));
  s.original_context = static_cast<int64_t>(original);
  INK_ASSIGN_OR_RETURN(s.factor, m.GetFloat(rope + "scaling.factor", 0.0f));
  if (s.factor == 0) {
    INK_ASSIGN_OR_RETURN(s.factor, m.GetFloat(rope + "scale_linear", 1.0f));  // old files
    if (s.factor == 0) s.factor = 1.0f;
  }
  if (!(s.factor > 0) || !std::isfinite(s.factor)) {
    return Corrupt(source.path() + ": " + rope +
                   "scaling.factor: expected a positive number, got " + std::to_string(s.factor));
  }
  INK_ASSIGN_OR_RETURN(s.attention_factor, m.GetFloat(rope + "scaling.attn_factor", 0.0f));
  INK_ASSIGN_OR_RETURN(s.beta_fast, m.GetFloat(rope + "scaling.yarn_beta_fast", 32.0f));
  INK_ASSIGN_OR_RETURN(s.beta_slow, m.GetFloat(rope + "scaling.yarn_beta_slow", 1.0f));
  INK_ASSIGN_OR_RETURN(std::string_view kind,
                       m.GetString(rope + "scaling.type", s.factor != 1.0f ? "linear" : "none"));
  if (kind == "none") {
    s.kind = RopeScaling::Kind::kNone;
  } else if (kind == "linear") {
    s.kind = RopeScaling::Kind::kLinear;
  } else if (kind == "yarn") {
    s.kind = RopeScaling::Kind::kYarn;
  } else if (kind == "longrope") {
    s.kind = RopeScaling::Kind::kLongRope;
  } else {
    return Unsupported(source.path() + ": " + rope + "scaling.type: expected none, linear, yarn " +
                       "or longrope, got \"" + std::string(kind) + "\"");
  }
  if (source.Has("rope_freqs.weight")) {
    INK_ASSIGN_OR_RETURN(s.factors, Factors(source, "rope_freqs.weight", rotary_dim));
  } else if (source.Has("rope_factors_long.weight")) {
    s.kind = RopeScaling::Kind::kLongRope;
    int64_t used = context > 0 ? context : static_cast<int64_t>(trained);
    const char* name =
        used > s.original_context ? "rope_factors_long.weight" : "rope_factors_short.weight";
    INK_ASSIGN_OR_RETURN(s.factors, Factors(source, name, rotary_dim));
    if (s.attention_factor == 0) {
      // sqrt(1 + ln(s) / ln(L)) for s = trained / original length (Phi-3's definition).
      double stretch =
          s.original_context > 0 ? static_cast<double>(trained) / s.original_context : 1;
      s.attention_factor =
          stretch <= 1
              ? 1.0f
              : static_cast<float>(std::sqrt(1 + std::log(stretch) / std::log(s.original_context)));
    }
  }
  return s;
}

RopeFrequencies ComputeRopeFrequencies(const RopeScaling& s) {
  RopeFrequencies out;
  const int half = s.rotary_dim / 2;
  out.inv_freq.resize(half);
  out.magnitude = s.attention_factor > 0 ? s.attention_factor : 1.0f;
  double low = 0, high = 0;
  if (s.kind == RopeScaling::Kind::kYarn) {
    low = std::max(0.0, std::floor(CorrectionDim(s, s.beta_fast)));
    high = std::min(s.rotary_dim - 1.0, std::ceil(CorrectionDim(s, s.beta_slow)));
    // The attention factor of the file multiplies YaRN's own temperature.
    out.magnitude *= static_cast<float>(0.1 * std::log(s.factor) + 1.0);
  }
  for (int i = 0; i < half; ++i) {
    double freq = std::pow(static_cast<double>(s.base), -2.0 * i / s.rotary_dim);
    if (!s.factors.empty()) freq /= s.factors[i];
    switch (s.kind) {
      case RopeScaling::Kind::kNone:
      case RopeScaling::Kind::kLongRope:
        break;
      case RopeScaling::Kind::kLinear:
        freq /= s.factor;
        break;
      case RopeScaling::Kind::kYarn: {
        double ramp = std::clamp((i - low) / std::max(0.001, high - low), 0.0, 1.0);
        freq = freq / s.factor * ramp + freq * (1 - ramp);
        break;
      }
    }
    out.inv_freq[i] = static_cast<float>(freq);
  }
  return out;
}

}  // namespace ink
