// Readers of training data: what counts as a target, and what is wrong with a file.
#include "train/data.h"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "formats/gguf.h"
#include "support/process.h"
#include "support/shared.h"
#include "text/bpe_trainer.h"
#include "text/gguf_vocab.h"
#include "train_case.h"

namespace ink {
namespace {

using namespace testing_support;
using Json = nlohmann::ordered_json;

// What stands in the text, and whether the model is to learn it.
struct Expected {
  std::string text;
  std::string learned;  // '1' or '0' for each byte of text
  void Add(const std::string& part, bool counts) {
    text += part;
    learned += std::string(part.size(), counts ? '1' : '0');
  }
};

struct Message {
  std::string role, content;
  int weight = 1;
};

struct Style {
  friend void PrintTo(const Style& style, std::ostream* out) { *out << style.name; }
  const char* name;
  const char* chat_template;
  // The same text by string concatenation, with what the assistant says marked.
  Expected (*write)(const std::vector<Message>& messages);
};

Expected ChatMl(const std::vector<Message>& messages) {
  Expected out;
  for (const Message& m : messages) {
    const bool counts = m.role == "assistant" && m.weight != 0;
    out.Add("<|im_start|>" + m.role + "\n", false);
    out.Add(m.content + "<|im_end|>", counts);
    out.Add("\n", false);
  }
  return out;
}

Expected Llama3(const std::vector<Message>& messages) {
  Expected out;
  out.Add("<|begin|>", false);
  for (const Message& m : messages) {
    const bool counts = m.role == "assistant" && m.weight != 0;
    out.Add("<|header|>" + m.role + "<|end_header|>\n\n", false);
    out.Add(m.content + "<|im_end|>", counts);
  }
  return out;
}

Expected Inst(const std::vector<Message>& messages) {
  Expected out;
  for (const Message& m : messages) {
    const bool counts = m.role == "assistant" && m.weight != 0;
    if (m.role == "assistant") {
      out.Add(m.content + "<|im_end|>", counts);
    } else {
      out.Add("[INST] " + m.content + " [/INST]", false);
    }
  }
  return out;
}

constexpr Style kStyles[] = {
    {"ChatML",
     "{% for m in messages %}{{ '<|im_start|>' + m.role + '\\n' + m.content + '<|im_end|>\\n' }}"
     "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}",
     ChatMl},
    {"Llama3",
     "{{ bos_token }}{% for m in messages %}{{ '<|header|>' + m.role + '<|end_header|>\\n\\n' + "
     "m.content + '<|im_end|>' }}{% endfor %}"
     "{% if add_generation_prompt %}{{ '<|header|>assistant<|end_header|>\\n\\n' }}{% endif %}",
     Llama3},
    {"Inst",
     "{% for m in messages %}{% if m.role == 'assistant' %}{{ m.content + eos_token }}"
     "{% else %}{{ '[INST] ' + m.content + ' [/INST]' }}{% endif %}{% endfor %}",
     Inst},
};

std::shared_ptr<const Tokenizer> MakeTokenizer(const std::string& chat_template) {
  const std::string text =
      "the old king said that the bread was in the forest and the queen went there INST "
      "assistant user system once upon a time there was a horse of seven colours";
  bool given = false;
  BpeTrainerOptions options;
  options.vocab_size = 330;
  options.special_tokens = {"<|begin|>", "<|im_start|>", "<|im_end|>", "<|header|>",
                            "<|end_header|>"};
  options.bos = "<|begin|>";
  options.eos = "<|im_end|>";
  options.min_pair_count = 1;
  options.chat_template = chat_template;
  auto spec = TrainBpe(
      [&]() -> std::optional<std::string_view> {
        if (given) return std::nullopt;
        given = true;
        return text;
      },
      options);
  EXPECT_TRUE(spec.ok()) << spec.status().message();
  auto tokenizer = BuildTokenizer(std::move(*spec));
  EXPECT_TRUE(tokenizer.ok()) << tokenizer.status().message();
  return *tokenizer;
}

std::vector<Message> RandomConversation(Rng& rng) {
  const char* words[] = {"the king",  "bread",   " forest", "\nand then", "  ",
                         "seven 77.", "ünïcode", "said:",   "it's",       "assistant"};
  auto text = [&] {
    std::string out;
    for (uint64_t i = 0, n = 1 + rng.Below(6); i < n; ++i) out += words[rng.Below(10)];
    return out;
  };
  std::vector<Message> messages;
  if (rng.Below(2) == 0) messages.push_back({"system", text()});
  for (uint64_t i = 0, n = 1 + rng.Below(4); i < n; ++i) {
    messages.push_back({"user", text()});
    if (i + 1 < n || i == 0 || rng.Below(2) == 0) {
      messages.push_back({"assistant", text(), rng.Below(4) == 0 ? 0 : 1});
    }
  }
  return messages;
}

std::string Line(const std::vector<Message>& messages) {
  Json json;
  json["messages"] = Json::array();
  for (const Message& m : messages) {
    Json one = {{"role", m.role}, {"content", m.content}};
    if (m.weight == 0) one["weight"] = 0;
    json["messages"].push_back(one);
  }
  return json.dump() + "\n";
}

class ChatData : public ::testing::TestWithParam<Style> {};

TEST_P(ChatData, LearnsWhatTheAssistantSaysAndNothingElse) {
  TestFolder folder("chat_data");
  const auto tokenizer = MakeTokenizer(GetParam().chat_template);
  Rng rng(31);
  std::vector<std::vector<Message>> conversations;
  std::string lines;
  for (int i = 0; i < 200; ++i) {
    conversations.push_back(RandomConversation(rng));
    lines += Line(conversations.back());
  }
  WriteContent(folder / "chat.jsonl", lines);
  auto documents = ReadDocuments({folder / "chat.jsonl", DataFormat::kChat}, *tokenizer);
  ASSERT_TRUE(documents.ok()) << documents.status().message();
  ASSERT_EQ(documents->size(), conversations.size());
  int64_t learned = 0;
  for (size_t d = 0; d < documents->size(); ++d) {
    const Document& document = (*documents)[d];
    const Expected expected = GetParam().write(conversations[d]);
    ASSERT_EQ(document.counts.size(), document.tokens.size());
    std::string text, marks;
    for (size_t i = 0; i < document.tokens.size(); ++i) {
      const std::string bytes(tokenizer->TokenBytes(document.tokens[i]));
      text += bytes;
      marks += std::string(bytes.size(), document.counts[i] ? '1' : '0');
      learned += document.counts[i] ? 1 : 0;
    }
    ASSERT_EQ(text, expected.text);
    ASSERT_EQ(marks, expected.learned) << text;
  }
  EXPECT_GT(learned, 500);
  // What a batch asks for is exactly that.
  PieceOrder order({{&*documents, 1.0}}, 512, 3);
  TrainBatch batch;
  order.NextBatch(order.tokens_per_epoch(), &batch);
  EXPECT_EQ(batch.num_tokens(), order.tokens_per_epoch());
  EXPECT_EQ(batch.num_targets(), learned);
}

INSTANTIATE_TEST_SUITE_P(Styles, ChatData, ::testing::ValuesIn(kStyles),
                         [](const auto& info) { return std::string(info.param.name); });

// The loss of a masked batch is the sum of the unmasked batch's losses over the learned tokens, and
// no gradient comes from the others.
TEST(ChatData, LossIsOnTheLearnedTokensOnly) {
  auto t = MakeTraining(TinyShape("llama"), false);
  Rng rng(8);
  TrainBatch all;
  AppendSequence(all, 50, 61, rng);
  for (int32_t& target : all.targets) target = static_cast<int32_t>(rng.Below(61));
  TrainBatch masked = all;
  for (int32_t& target : masked.targets) {
    if (rng.Below(3) != 0) target = -1;
  }
  std::vector<float> each;
  t->step->Evaluate(all, &each);
  double want = 0;
  for (size_t i = 0; i < each.size(); ++i) {
    if (masked.targets[i] >= 0) want += double{each[i]};
  }
  EXPECT_NEAR(t->step->ForwardBackward(masked, 1.0f).sum, want, 1e-5 * want);
}

std::string TextOf(const Tokenizer& tokenizer, const std::vector<int32_t>& ids) {
  std::string text;
  for (int32_t id : ids) text += tokenizer.TokenBytes(id);
  return text;
}

TEST(PromptData, LearnsTheCompletionAndTheEnd) {
  TestFolder folder("prompt_data");
  const auto tokenizer = MakeTokenizer("");
  WriteContent(folder / "p.jsonl",
               "{\"prompt\": \"the old king\", \"completion\": \" said that\"}\n"
               "\n"
               "{\"prompt\": \"\", \"completion\": \"bread\", \"other\": 3}\n");
  auto documents = ReadDocuments({folder / "p.jsonl", DataFormat::kPrompt}, *tokenizer);
  ASSERT_TRUE(documents.ok()) << documents.status().message();
  ASSERT_EQ(documents->size(), 2u);
  const char* prompts[] = {"the old king", ""};
  const char* completions[] = {" said that", "bread"};
  for (size_t d = 0; d < 2; ++d) {
    const Document& document = (*documents)[d];
    std::vector<int32_t> read, learned;
    for (size_t i = 0; i < document.tokens.size(); ++i) {
      (document.counts[i] ? learned : read).push_back(document.tokens[i]);
    }
    EXPECT_EQ(TextOf(*tokenizer, read), prompts[d]);
    EXPECT_EQ(TextOf(*tokenizer, learned), completions[d] + std::string("<|im_end|>"));
  }
}

// SentencePiece puts a space before a text; the completion of a prompt is not the start of one.
TEST(PromptData, ACompletionGetsNoSpaceOfItsOwn) {
  INK_NEEDS_SHARED();
  auto file = GgufFile::Open(Shared("goldens/tokenizers/llama-spm.gguf"));
  ASSERT_TRUE(file.ok());
  auto tokenizer = TokenizerFromGguf(file->metadata());
  ASSERT_TRUE(tokenizer.ok());
  TestFolder folder("spm_data");
  WriteContent(folder / "p.jsonl",
               "{\"prompt\": \"Is it good?\", \"completion\": \" positive\"}\n"
               "{\"prompt\": \"Is it good? nega\", \"completion\": \"tive\"}\n");
  auto documents = ReadDocuments({folder / "p.jsonl", DataFormat::kPrompt}, **tokenizer);
  ASSERT_TRUE(documents.ok());
  for (const auto& [document, prompt, whole] :
       {std::tuple{(*documents)[0], "Is it good?", "Is it good? positive"},
        std::tuple{(*documents)[1], "Is it good? nega", "Is it good? negative"}}) {
    std::vector<int32_t> want = {(*tokenizer)->bos_id()};
    for (int32_t id : (*tokenizer)->Encode(prompt)) want.push_back(id);
    const size_t read = want.size();
    ASSERT_GT(document.tokens.size(), read);
    EXPECT_TRUE(std::equal(want.begin(), want.end(), document.tokens.begin()));
    std::string text = TextOf(**tokenizer, document.tokens);
    text = text.substr(text.find("Is"));
    EXPECT_EQ(text, std::string(whole) + "</s>");
  }
}

TEST(BadData, IsNamedByFileAndLine) {
  TestFolder folder("bad_data");
  const auto tokenizer = MakeTokenizer(kStyles[0].chat_template);
  struct Case {
    DataFormat format;
    std::string content;
    std::vector<std::string> says;
  };
  const std::string good = "{\"text\": \"a\"}\n";
  const std::string user = "{\"role\": \"user\", \"content\": \"a\"}";
  for (const Case& c : std::initializer_list<Case>{
           {DataFormat::kText, "", {"x", "got nothing"}},
           {DataFormat::kText, "ab\xff", {"x", "UTF-8", "offset 2"}},
           {DataFormat::kText, "a\xed\xa0\x80", {"UTF-8", "offset 1"}},
           {DataFormat::kJsonText, "", {"x", "JSON lines", "none"}},
           {DataFormat::kJsonText, "\n \n", {"x", "none"}},
           {DataFormat::kJsonText, good + good + "not json\n", {"x:3", "JSON object"}},
           {DataFormat::kJsonText, good + "{\"text\": \"a\"", {"x:2", "JSON object"}},
           {DataFormat::kJsonText, good + "[1]\n", {"x:2", "JSON object"}},
           {DataFormat::kJsonText, good + "\n{\"t\": 1}", {"x:3", "\"text\""}},
           {DataFormat::kJsonText, good + "{\"text\": 1}", {"x:2", "\"text\""}},
           {DataFormat::kJsonText, good + "{\"text\": \"\"}", {"x:2", "got nothing"}},
           {DataFormat::kJsonText,
            good + "{\"text\": \"\xc3\x28\"}",
            {"x:2", "UTF-8", "offset 10"}},
           {DataFormat::kPrompt, "{\"prompt\": \"a\"}", {"x:1", "\"completion\""}},
           {DataFormat::kPrompt, "{\"completion\": \"a\"}", {"x:1", "\"prompt\""}},
           {DataFormat::kPrompt, "{\"prompt\": \"a\", \"completion\": \"\"}", {"x:1", "nothing"}},
           {DataFormat::kLabel, "{\"text\": \"a\"}", {"x:1", "\"label\""}},
           {DataFormat::kLabel, "{\"text\": \"a\", \"label\": \"\"}", {"x:1", "nothing"}},
           {DataFormat::kChat, "{\"messages\": []}", {"x:1", "\"messages\""}},
           {DataFormat::kChat, "{\"messages\": [3]}", {"x:1", "\"role\""}},
           {DataFormat::kChat, "{\"messages\": [{\"role\": \"user\"}]}", {"x:1", "\"content\""}},
           {DataFormat::kChat, "{\"messages\": [" + user + "]}", {"x:1", "assistant"}},
           {DataFormat::kChat,
            "{\"messages\": [{\"role\": \"assistant\", \"content\": \"a\", \"weight\": null}]}",
            {"x:1", "\"weight\"", "null"}}}) {
    WriteContent(folder / "x", c.content);
    const auto documents = ReadDocuments({folder / "x", c.format}, *tokenizer);
    ASSERT_FALSE(documents.ok()) << c.content;
    EXPECT_EQ(documents.status().code(), StatusCode::kInvalidArgument);
    for (std::string want : c.says) {
      if (want[0] == 'x') want = folder / want;
      EXPECT_NE(documents.status().message().find(want), std::string::npos)
          << "expected " << want << " in: " << documents.status().message();
    }
  }
  EXPECT_EQ(ReadDocuments({folder / "gone", DataFormat::kText}, *tokenizer).status().code(),
            StatusCode::kNotFound);
  std::filesystem::create_directories(folder / "empty");
  const auto none = ReadDocuments({folder / "empty", DataFormat::kText}, *tokenizer);
  EXPECT_NE(none.status().message().find("expected files *.txt, got none"), std::string::npos);
  WriteContent(folder / "x", "{\"messages\": [" + user + "]}");
  const auto no_template = ReadDocuments({folder / "x", DataFormat::kChat}, *MakeTokenizer(""));
  EXPECT_NE(no_template.status().message().find("chat template"), std::string::npos);
}

// A template that rewrites earlier turns has no assistant's part that could be told.
TEST(BadData, ATemplateThatRewritesTheConversation) {
  TestFolder folder("rewriting");
  const auto tokenizer = MakeTokenizer(
      "{{ messages|length }}{% for m in messages %}{{ m.role + m.content }}{% endfor %}");
  WriteContent(folder / "x", Line({{"user", "a"}, {"assistant", "b"}}));
  const auto documents = ReadDocuments({folder / "x", DataFormat::kChat}, *tokenizer);
  ASSERT_FALSE(documents.ok());
  EXPECT_NE(documents.status().message().find("changes earlier text"), std::string::npos)
      << documents.status().message();
}

}  // namespace
}  // namespace ink
