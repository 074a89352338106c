#include "json.h"

#include <charconv>
#include <cmath>
#include <unordered_set>

#include "facts.h"
#include "text.h"

namespace edgepack {

namespace {

constexpr int kMostNesting = 900;  // Python's own reader gives up somewhat below 1000; the document's limit is far lower
constexpr size_t kShown = 60;

[[noreturn]] void wrong(const std::string& words) { throw JsonProblem{words}; }

class Reader {
 public:
  explicit Reader(std::string_view text) : text_(text) {}

  Value document() {
    skip_space();
    Value value = this->value(0);
    skip_space();
    if (place_ < text_.size()) fail("Extra data", place_);
    return value;
  }

 private:
  // Says where as Python does: lines and columns from 1, characters from 0, counted in characters.
  [[noreturn]] void fail(const char* what, size_t place) const {
    size_t line = 1, column = 1, character = 0;
    for (size_t i = 0; i < place && i < text_.size(); ++character) {
      bool ends = text_[i] == '\n';
      i += decode_at(text_, i).bytes;
      line += ends;
      column = ends ? 1 : column + 1;
    }
    wrong(std::string(what) + ": line " + std::to_string(line) + " column " + std::to_string(column) + " (char " +
          std::to_string(character) + ")");
  }

  char peek() const { return place_ < text_.size() ? text_[place_] : '\0'; }
  bool at(char c) const { return place_ < text_.size() && text_[place_] == c; }

  void skip_space() {
    while (at(' ') || at('\t') || at('\n') || at('\r')) ++place_;
  }

  bool take(std::string_view word) {
    if (text_.substr(place_, word.size()) != word) return false;
    place_ += word.size();
    return true;
  }

  Value value(int depth) {
    if (depth > kMostNesting) wrong(std::string("it is more than ") + std::to_string(facts::kMostDepth) + " levels deep");
    Value found;
    if (at('"')) {
      found.kind = Value::kText;
      found.text = text();
    } else if (at('{')) {
      table(&found, depth);
    } else if (at('[')) {
      list(&found, depth);
    } else if (take("true") || take("false")) {
      found.kind = Value::kBool;
      found.truth = text_[place_ - 2] == 'u';
    } else if (!take("null")) {
      number(&found);
    }
    return found;
  }

  void list(Value* found, int depth) {
    found->kind = Value::kList;
    ++place_;
    skip_space();
    if (at(']')) return void(++place_);
    for (;;) {
      found->items.push_back(value(depth + 1));
      skip_space();
      if (at(']')) return void(++place_);
      if (!at(',')) fail("Expecting ',' delimiter", place_);
      ++place_;
      skip_space();
    }
  }

  void table(Value* found, int depth) {
    found->kind = Value::kTable;
    ++place_;
    skip_space();
    if (at('}')) return void(++place_);
    for (;;) {
      if (!at('"')) fail("Expecting property name enclosed in double quotes", place_);
      found->keys.push_back(text());
      skip_space();
      if (!at(':')) fail("Expecting ':' delimiter", place_);
      ++place_;
      skip_space();
      found->items.push_back(value(depth + 1));
      skip_space();
      if (at('}')) break;
      if (!at(',')) fail("Expecting ',' delimiter", place_);
      ++place_;
      skip_space();
    }
    ++place_;
    std::unordered_set<std::string_view> seen(found->keys.begin(), found->keys.end());
    if (seen.size() != found->keys.size()) wrong("a table has the same key twice");
  }

  std::string text() {
    size_t begin = place_++;
    std::string out;
    for (;;) {
      if (place_ >= text_.size()) fail("Unterminated string starting at", begin);
      char c = text_[place_];
      if (c == '"') return ++place_, out;
      if (static_cast<uint8_t>(c) < 0x20) fail("Invalid control character at", place_);
      if (c != '\\') {
        out += c;
        ++place_;
      } else {
        escape(&out, begin);
      }
    }
  }

  void escape(std::string* out, size_t begin) {
    size_t slash = place_++;
    if (place_ >= text_.size()) fail("Unterminated string starting at", begin);
    char c = text_[place_++];
    if (c == 'u') return unicode(out, slash);
    static constexpr char kFrom[] = "\"\\/bfnrt", kTo[] = "\"\\/\b\f\n\r\t";
    for (int i = 0; kFrom[i]; ++i)
      if (c == kFrom[i]) return out->push_back(kTo[i]);
    fail("Invalid \\escape", slash);
  }

  void unicode(std::string* out, size_t slash) {
    uint32_t character = hex(slash + 1);
    if (character >= 0xD800 && character < 0xDC00 && place_ + 6 < text_.size() && text_[place_] == '\\' &&
        text_[place_ + 1] == 'u') {
      size_t back = place_;
      place_ += 2;
      uint32_t second = hex(back + 1);
      if (second >= 0xDC00 && second < 0xE000) {
        character = 0x10000 + ((character - 0xD800) << 10) + (second - 0xDC00);
      } else {
        place_ = back;
      }
    }
    append_utf8(out, character);
  }

  // Reads four digits; ``letter`` is where the u stands. A text that ends behind them has no closing quote.
  uint32_t hex(size_t letter) {
    if (place_ + 4 >= text_.size()) fail("Invalid \\uXXXX escape", letter);
    uint32_t found = 0;
    for (int i = 0; i < 4; ++i) {
      char c = text_[place_++];
      int digit = c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
      if (digit < 0) fail("Invalid \\uXXXX escape", letter);
      found = found << 4 | static_cast<uint32_t>(digit);
    }
    return found;
  }

  bool digit_at(size_t place) const { return place < text_.size() && text_[place] >= '0' && text_[place] <= '9'; }

  void number(Value* found) {
    for (std::string_view word : {"NaN", "Infinity", "-Infinity"})
      if (take(word)) wrong(std::string(word) + " is not a number that a document may hold");
    size_t begin = place_, end = begin + at('-');
    if (!digit_at(end)) fail("Expecting value", begin);
    if (text_[end] == '0') {
      ++end;
    } else {
      while (digit_at(end)) ++end;
    }
    size_t whole = end;
    if (end < text_.size() && text_[end] == '.' && digit_at(end + 1))
      for (++end; digit_at(end);) ++end;
    if (end < text_.size() && (text_[end] == 'e' || text_[end] == 'E')) {
      size_t next = end + 1;
      if (next < text_.size() && (text_[next] == '+' || text_[next] == '-')) ++next;
      if (digit_at(next))
        for (end = next; digit_at(end);) ++end;
    }
    place_ = end;
    std::string_view spelled = text_.substr(begin, end - begin);
    if (end == whole) {
      integer(found, spelled);
    } else {
      fraction(found, spelled);
    }
  }

  static void integer(Value* found, std::string_view spelled) {
    found->kind = Value::kInteger;
    found->truth = spelled[0] == '-';
    const char* end = spelled.data() + spelled.size();
    auto result = std::from_chars(spelled.data() + found->truth, end, found->magnitude);
    bool fits = result.ec == std::errc() && (!found->truth || found->magnitude <= uint64_t{1} << 63);
    if (!fits) wrong("a whole number has more than 64 bits");
    if (!found->magnitude) found->truth = false;
  }

  static void fraction(Value* found, std::string_view spelled) {
    found->kind = Value::kFloat;
    auto result = std::from_chars(spelled.data(), spelled.data() + spelled.size(), found->number);
    if (result.ec == std::errc::result_out_of_range) {  // too large, or so small that it is zero
      size_t mark = spelled.find_first_of("eE");
      bool small = mark != spelled.npos && spelled[mark + 1] == '-';
      if (!small) wrong(first(spelled, 40) + " is not a number that a document may hold");
      found->number = spelled[0] == '-' ? -0.0 : 0.0;
    }
  }

  std::string_view text_;
  size_t place_ = 0;
};

void check_limits(const Value& document) {
  std::vector<const Value*> level;
  auto holds = [](const Value& value) { return value.kind == Value::kList || value.kind == Value::kTable; };
  if (holds(document)) level.push_back(&document);
  uint64_t entries = 0;
  for (uint64_t depth = 0; depth < facts::kMostDepth; ++depth) {
    if (level.empty()) return;
    std::vector<const Value*> next;
    for (const Value* value : level) {
      entries += value->items.size();
      for (const Value& inner : value->items)
        if (holds(inner)) next.push_back(&inner);
    }
    if (entries > facts::kMostEntries)
      wrong("it has more than " + std::to_string(facts::kMostEntries) + " entries");
    level = std::move(next);
  }
  wrong("it is more than " + std::to_string(facts::kMostDepth) + " levels deep");
}

// Writes as Python's repr() does, until there is more than is shown.
void write(std::string* out, const Value& value) {
  if (out->size() > 4 * kShown) return;
  switch (value.kind) {
    case Value::kNull: *out += "None"; break;
    case Value::kBool: *out += value.truth ? "True" : "False"; break;
    case Value::kInteger: *out += (value.truth ? "-" : "") + std::to_string(value.magnitude); break;
    case Value::kFloat: *out += repr(value.number); break;
    case Value::kText: *out += repr(value.text); break;
    default:
      *out += value.kind == Value::kList ? "[" : "{";
      for (size_t i = 0; i < value.items.size() && out->size() <= 4 * kShown; ++i) {
        if (i) *out += ", ";
        if (value.kind == Value::kTable) *out += repr(value.keys[i]) + ": ";
        write(out, value.items[i]);
      }
      *out += value.kind == Value::kList ? "]" : "}";
  }
}

}  // namespace

const Value* Value::find(std::string_view key) const {
  for (size_t i = 0; i < keys.size(); ++i)
    if (keys[i] == key) return &items[i];
  return nullptr;
}

double Value::as_double() const {
  if (kind == kFloat) return number;
  double size = static_cast<double>(magnitude);
  return truth ? -size : size;
}

Value read_json(std::string_view bytes) {
  if (bytes.size() > facts::kJsonLimitBytes)
    wrong("it has " + std::to_string(bytes.size()) + " bytes; at most " + std::to_string(facts::kJsonLimitBytes) +
          " are read");
  if (std::string problem = utf8_problem(bytes); !problem.empty()) wrong(problem);
  if (bytes.substr(0, 3) == "\xEF\xBB\xBF") wrong("it begins with a byte order mark");
  Value found = Reader(bytes).document();
  check_limits(found);
  return found;
}

std::string show(const Value& value) {
  std::string text;
  write(&text, value);
  return length(text) <= kShown ? text : first(text, kShown - 3) + "...";
}

}  // namespace edgepack
