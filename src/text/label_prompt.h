// Classification by label scoring: how a labelled text is put before the model. Training and
// evaluation share it, so that both see the same tokens.
#pragma once

#include <string>
#include <string_view>

namespace ink {

/// "{text}" stands for the text to classify; the label follows after a space.
inline constexpr std::string_view kDefaultLabelTemplate = "{text}\nThis is";

/// The template with every "{text}" replaced by `text`.
std::string LabelPrompt(std::string_view label_template, std::string_view text);

}  // namespace ink
