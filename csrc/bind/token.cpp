// Bindings of the kernels of text marks: checks arrays, hands out scratch memory, spreads rows over threads.
#include <algorithm>
#include <memory>
#include <vector>

#include "bind/bind.hpp"

namespace watermark {
namespace {

constexpr int64_t max_width = 64, most_tokens = int64_t{1} << 31;

// What is common to all: a function, its key, and how it is seeded.
struct Function {
  int prf, seeding;
  int64_t width;
  View<const uint32_t, 1> key;

  Function(int prf_, int seeding_, int64_t width_, const Tensor& key_)
      : prf(prf_), seeding(seeding_), width(width_), key(key_.dense<const uint32_t, 1>()) {
    require(prf >= 0 && prf <= 4, "there is no such function of tokens");
    require(seeding >= 0 && seeding <= 3, "there is no such seeding");
    require(width >= (seeding == 0 ? 0 : 1) && width <= max_width, "the context has too few or too many tokens");
    require(key.shape[0] == 8, "key must have 8 words");
  }
};

// Texts that lie one after the other: text i has tokens [begin, end).
struct Texts {
  View<const int64_t, 1> tokens, begin, end;

  Texts(const Tensor& tokens_, const Tensor& begin_, const Tensor& end_)
      : tokens(tokens_.dense<const int64_t, 1>()), begin(begin_.dense<const int64_t, 1>()), end(end_.dense<const int64_t, 1>()) {
    require(begin.shape[0] == end.shape[0], "begin and end must have one length");
    for (int64_t i = 0; i < count(); ++i)
      require(0 <= begin.data[i] && begin.data[i] <= end.data[i] && end.data[i] <= tokens.shape[0] &&
                  end.data[i] - begin.data[i] < most_tokens,
              "a text lies outside of the tokens");
  }
  int64_t count() const { return begin.shape[0]; }
  const int64_t* text(int64_t i) const { return tokens.data + begin.data[i]; }
  int64_t length(int64_t i) const { return end.data[i] - begin.data[i]; }
};

// One row for all, or one each.
template <class T>
const T* row_of(const View<T, 2>& v, int64_t row) {
  return v.data + (v.shape[0] == 1 ? 0 : row) * v.shape[1];
}

// Rows of logits, whose columns are contiguous, and the tokens of the columns (none: their numbers).
struct Logits {
  View<float, 2> values;
  View<const int64_t, 2> candidates;
  bool listed;

  Logits(const Tensor& logits, const Tensor& tokens)
      : values(logits.view<float, 2>(kDLCPU)), candidates(tokens.dense<const int64_t, 2>()), listed(candidates.shape[0] > 0) {
    require(values.strides[1] == 1 || values.shape[1] <= 1, "the columns of logits must be contiguous");
    require(!listed || ((candidates.shape[0] == 1 || candidates.shape[0] == rows()) && candidates.shape[1] == columns()),
            "candidates must have one row, or one per row of logits, and as many columns");
  }
  int64_t rows() const { return values.shape[0]; }
  int64_t columns() const { return values.shape[1]; }
  float* row(int64_t i) const { return values.data + i * values.strides[0]; }
  const int64_t* tokens(int64_t i) const { return listed ? row_of(candidates, i) : nullptr; }
};

// Whether all tokens are from 0 to vocabulary - 1.
bool within(const int64_t* tokens, int64_t count, int64_t vocabulary) {
  uint64_t signs = 0;
  for (int64_t i = 0; i < count; ++i) {
    const uint64_t token = static_cast<uint64_t>(tokens[i]);
    signs |= token | (static_cast<uint64_t>(vocabulary - 1) - token);
  }
  return !(signs >> 63);
}

bool tokens_within(py::handle tokens, int64_t vocabulary) {
  const Tensor tokens_(tokens, "tokens");
  const auto t = tokens_.dense<const int64_t, 1>();
  require(vocabulary >= 1, "a vocabulary has a token");
  return within(t.data, t.size(), vocabulary);
}

// Whether no row names a token twice, nor one out of the vocabulary.
bool tokens_distinct(py::handle tokens, int64_t vocabulary) {
  const Tensor tokens_(tokens, "tokens");
  const auto t = tokens_.dense<const int64_t, 2>();
  require(vocabulary >= 1, "a vocabulary has a token");
  if (!within(t.data, t.size(), vocabulary)) return false;
  std::vector<uint64_t> seen(static_cast<size_t>(vocabulary / 64 + 1));
  for (int64_t row = 0; row < t.shape[0]; ++row) {
    const int64_t *first = t.data + row * t.shape[1], *last = first + t.shape[1];
    for (const int64_t* at = first; at != last; ++at) {
      uint64_t& word = seen[static_cast<size_t>(*at / 64)];
      if (word >> (*at % 64) & 1) return false;
      word |= uint64_t{1} << (*at % 64);
    }
    for (const int64_t* at = first; at != last; ++at) seen[static_cast<size_t>(*at / 64)] = 0;
  }
  return true;
}

void token_states(py::handle tokens, py::handle begin, py::handle end, int prf, int seeding, int64_t width, py::handle salt,
                  py::handle key, py::handle out, const std::string& isa) {
  const Tensor tokens_(tokens, "tokens"), begin_(begin, "begin"), end_(end, "end"), salt_(salt, "salt"), key_(key, "key"),
      out_(out, "out");
  const Texts texts(tokens_, begin_, end_);
  const Function f(prf, seeding, width, key_);
  const auto s = salt_.dense<const int64_t, 2>();
  const auto o = out_.dense<uint32_t, 2>();
  require(s.shape[0] == 1 || s.shape[0] == texts.count(), "salt must have one row, or one per text");
  require(seeding != 3, "this seeding has a state per candidate");
  require(o.shape[0] == texts.count() && o.shape[1] == 8, "out must hold 8 words per text");
  const Kernels& kernel = pick(isa);
  py::gil_scoped_release release;
  for (int64_t i = 0; i < texts.count(); ++i)
    kernel.token_state(TokenContext{f.prf, f.seeding, f.key.data, texts.text(i), texts.length(i), f.width, row_of(s, i), s.shape[1]},
                       o.data + 8 * i);
}

void token_repeats(py::handle tokens, py::handle begin, py::handle end, int64_t width, py::handle out) {
  const Tensor tokens_(tokens, "tokens"), begin_(begin, "begin"), end_(end, "end"), out_(out, "out");
  const Texts texts(tokens_, begin_, end_);
  const auto o = out_.dense<uint8_t, 1>();
  require(o.shape[0] == texts.count(), "out must hold one flag per text");
  require(width >= 0 && width <= max_width, "the context has too few or too many tokens");
  const Kernels& kernel = pick("");
  py::gil_scoped_release release;
  for (int64_t i = 0; i < texts.count(); ++i)
    o.data[i] = static_cast<uint8_t>(kernel.token_repeats(texts.text(i), texts.length(i), width));
}

// States of one row each.
View<const uint32_t, 2> states_of(const Tensor& tensor, int64_t rows) {
  const auto states = tensor.dense<const uint32_t, 2>();
  require(states.shape[0] == rows && states.shape[1] == 8, "states must hold 8 words per row");
  return states;
}

void token_words(int prf, py::handle key, py::handle states, py::handle candidates, py::handle out, const std::string& isa) {
  const Tensor key_(key, "key"), states_(states, "states"), candidates_(candidates, "candidates"), out_(out, "out");
  const Function f(prf, 0, 0, key_);
  const auto o = out_.dense<uint32_t, 2>();
  const auto c = candidates_.dense<const int64_t, 2>();
  const auto s = states_of(states_, o.shape[0]);
  require(c.shape[0] == 0 || ((c.shape[0] == 1 || c.shape[0] == o.shape[0]) && c.shape[1] == o.shape[1]),
          "candidates must have one row, or one per row of out, and as many columns");
  const Kernels& kernel = pick(isa);
  py::gil_scoped_release release;
  parallel_for(o.shape[0], 1, [&](int64_t first, int64_t last) {
    for (int64_t i = first; i < last; ++i)
      kernel.token_words(f.prf, f.key.data, s.data + 8 * i, c.shape[0] ? row_of(c, i) : nullptr, o.shape[1],
                         o.data + i * o.shape[1]);
  });
}

void bias_colours(int prf, py::handle key, py::handle states, py::handle logits, py::handle candidates, py::handle masks,
                  uint32_t colours, float delta, const std::string& isa) {
  const Tensor key_(key, "key"), states_(states, "states"), logits_(logits, "logits"), candidates_(candidates, "candidates"),
      masks_(masks, "masks");
  const Function f(prf, 0, 0, key_);
  const Logits l(logits_, candidates_);
  const auto s = states_of(states_, l.rows());
  const auto m = masks_.dense<const uint64_t, 1>();
  require(m.shape[0] == l.rows(), "masks must hold one word per row");
  require(colours >= 1 && colours <= 64, "there are 1 to 64 colours");
  const Kernels& kernel = pick(isa);
  py::gil_scoped_release release;
  parallel_for(l.rows(), 1, [&](int64_t first, int64_t last) {
    for (int64_t i = first; i < last; ++i)
      kernel.bias_row_colours(f.prf, f.key.data, s.data + 8 * i, m.data[i], colours, delta, l.tokens(i), l.columns(), l.row(i));
  });
}

void bias_logits(py::handle tokens, py::handle begin, py::handle end, int prf, int seeding, int64_t width, py::handle key,
                 py::handle logits, py::handle candidates, uint32_t threshold, float delta, bool hard, int64_t top,
                 const std::string& isa) {
  const Tensor tokens_(tokens, "tokens"), begin_(begin, "begin"), end_(end, "end"), key_(key, "key"), logits_(logits, "logits"),
      candidates_(candidates, "candidates");
  const Texts texts(tokens_, begin_, end_);
  const Function f(prf, seeding, width, key_);
  const Logits l(logits_, candidates_);
  require(texts.count() == l.rows(), "logits must have one row per text");
  require(top >= 1, "top must be 1 or more");
  const Kernels& kernel = pick(isa);
  py::gil_scoped_release release;
  parallel_for(l.rows(), 1, [&](int64_t first, int64_t last) {
    std::vector<int64_t> scratch(seeding == 3 ? static_cast<size_t>(std::min(top, l.columns())) : 0);
    for (int64_t i = first; i < last; ++i) {
      const TokenContext context{f.prf, f.seeding, f.key.data, texts.text(i), texts.length(i), f.width, nullptr, 0};
      if (seeding == 3) {
        kernel.bias_row_self(context, threshold, delta, hard, top, l.tokens(i), l.columns(), l.row(i), scratch.data());
        continue;
      }
      uint32_t state[8];
      kernel.token_state(context, state);
      kernel.bias_row(f.prf, f.key.data, state, threshold, delta, hard, l.tokens(i), l.columns(), l.row(i));
    }
  });
}

void gumbel_columns(int prf, py::handle key, py::handle states, py::handle logits, py::handle candidates, py::handle out,
                    const std::string& isa) {
  const Tensor key_(key, "key"), states_(states, "states"), logits_(logits, "logits"), candidates_(candidates, "candidates"),
      out_(out, "out");
  const Function f(prf, 0, 0, key_);
  const Logits l(logits_, candidates_);
  const auto s = states_of(states_, l.rows());
  const auto o = out_.dense<int64_t, 1>();
  require(o.shape[0] == l.rows(), "out must hold one column per row");
  const Kernels& kernel = pick(isa);
  py::gil_scoped_release release;
  parallel_for(l.rows(), 1, [&](int64_t first, int64_t last) {
    for (int64_t i = first; i < last; ++i)
      o.data[i] = kernel.gumbel_column(f.prf, f.key.data, s.data + 8 * i, l.tokens(i), l.columns(), l.row(i));
  });
}

constexpr int64_t padded(int64_t count) { return (count + 7) / 8 * 8; }

// Calls work(row of logits, its number, scratch) on rows; `done` gets whether it returned true.
template <class Work>
void reshape_rows(const View<float, 2>& logits, const View<uint8_t, 1>& done, Work work) {
  require(logits.strides[1] == 1 || logits.shape[1] <= 1, "the columns of logits must be contiguous");
  require(done.shape[0] == logits.shape[0], "done must hold one flag per row");
  py::gil_scoped_release release;
  parallel_for(logits.shape[0], 1, [&](int64_t first, int64_t last) {
    const auto scratch = std::make_unique_for_overwrite<float[]>(static_cast<size_t>(padded(logits.shape[1])));
    for (int64_t i = first; i < last; ++i) done.data[i] = work(logits.data + i * logits.strides[0], i, scratch.get());
  });
}

void require_words(const View<const uint32_t, 3>& words, int64_t planes, const View<float, 2>& logits) {
  require(words.shape[0] == logits.shape[0] && words.shape[1] == planes && words.shape[2] >= padded(logits.shape[1]),
          "words must have as many rows as logits, and columns up to a multiple of 8");
}

void tournament(int prf, py::handle key, py::handle states, py::handle logits, py::handle candidates, int depth, py::handle done,
                const std::string& isa) {
  const Tensor key_(key, "key"), states_(states, "states"), logits_(logits, "logits"), candidates_(candidates, "candidates"),
      done_(done, "done");
  const Function f(prf, 0, 0, key_);
  const Logits l(logits_, candidates_);
  const auto s = states_of(states_, l.rows());
  require(depth >= 1 && depth <= 32, "depth must be 1 to 32");
  const Kernels& kernel = pick(isa);
  reshape_rows(l.values, done_.dense<uint8_t, 1>(), [&](float* row, int64_t i, float* scratch) {
    const int64_t count = l.columns(), stride = padded(count);
    const auto words = std::make_unique_for_overwrite<uint32_t[]>(static_cast<size_t>(stride));
    std::fill(words.get() + count, words.get() + stride, 0u);
    kernel.token_words(f.prf, f.key.data, s.data + 8 * i, l.tokens(i), count, words.get());
    return kernel.tournament_row(words.get(), stride, depth, count, row, scratch);
  });
}

void tournament_of_words(py::handle words, int depth, py::handle logits, py::handle done, const std::string& isa) {
  const Tensor words_(words, "words"), logits_(logits, "logits"), done_(done, "done");
  const auto l = logits_.view<float, 2>(kDLCPU);
  const auto w = words_.dense<const uint32_t, 3>();
  require(depth >= 1 && depth <= 64, "depth must be 1 to 64");
  require_words(w, (depth + 31) / 32, l);
  const Kernels& kernel = pick(isa);
  reshape_rows(l, done_.dense<uint8_t, 1>(), [&](float* row, int64_t i, float* scratch) {
    return kernel.tournament_row(w.data + i * w.shape[1] * w.shape[2], w.shape[2], depth, l.shape[1], row, scratch);
  });
}

void reweight(py::handle words, double alpha, py::handle logits, py::handle done, const std::string& isa) {
  const Tensor words_(words, "words"), logits_(logits, "logits"), done_(done, "done");
  const auto l = logits_.view<float, 2>(kDLCPU);
  const auto w = words_.dense<const uint32_t, 3>();
  require(alpha > 0.0 && alpha <= 0.5, "alpha must be above 0 and at most 1/2");
  require_words(w, 1, l);
  const Kernels& kernel = pick(isa);
  reshape_rows(l, done_.dense<uint8_t, 1>(), [&](float* row, int64_t i, float* scratch) {
    std::vector<double> masses(reweight_buckets);
    std::vector<int64_t> columns(static_cast<size_t>(l.shape[1]));
    return kernel.reweight_row(w.data + i * w.shape[2], alpha, l.shape[1], row, scratch, masses.data(), columns.data());
  });
}

// Reads text i: see Kernels::read_text.
void read_text(const Kernels& kernel, const Function& f, const Texts& texts, int64_t i, const View<const int64_t, 2>& salt,
               bool by_context, uint32_t* words, uint8_t* counts, uint32_t* sites) {
  const int64_t length = texts.length(i);
  int64_t size = 16;
  while (size < 2 * length) size *= 2;
  const auto states = std::make_unique_for_overwrite<uint32_t[]>(static_cast<size_t>(8 * length));
  std::vector<int32_t> slots(static_cast<size_t>(size), -1);
  kernel.read_text(TokenContext{f.prf, f.seeding, f.key.data, nullptr, 0, f.width, salt.data, salt.shape[1]}, by_context,
                   texts.text(i), length, states.get(), slots.data(), size, words, counts, sites);
}

void read_texts(py::handle tokens, py::handle begin, py::handle end, int prf, int seeding, int64_t width, py::handle salt,
                py::handle key, bool by_context, py::handle words, py::handle counts, py::handle sites, const std::string& isa) {
  const Tensor tokens_(tokens, "tokens"), begin_(begin, "begin"), end_(end, "end"), salt_(salt, "salt"), key_(key, "key"),
      words_(words, "words"), counts_(counts, "counts"), sites_(sites, "sites");
  const Texts texts(tokens_, begin_, end_);
  const Function f(prf, seeding, width, key_);
  const auto s = salt_.dense<const int64_t, 2>();
  const auto w = words_.dense<uint32_t, 1>();
  const auto c = counts_.dense<uint8_t, 1>();
  const auto places = sites_.dense<uint32_t, 1>();
  require(s.shape[0] == 1 && (seeding != 3 || s.shape[1] == 0), "salt must have one row, and none goes with this seeding");
  require(w.shape[0] == texts.tokens.shape[0] && c.shape[0] == w.shape[0], "words and counts must hold one entry per token");
  require(places.shape[0] == 0 || (places.shape[0] == w.shape[0] && seeding != 3),
          "sites must hold one entry per token or none, and a seeding by context alone");
  const Kernels& kernel = pick(isa);
  py::gil_scoped_release release;
  parallel_for(texts.count(), 1, [&](int64_t first, int64_t last) {
    for (int64_t i = first; i < last; ++i) {
      const int64_t at = texts.begin.data[i];
      read_text(kernel, f, texts, i, s, by_context, w.data + at, c.data + at, places.shape[0] ? places.data + at : nullptr);
    }
  });
}

void score_texts(py::handle tokens, py::handle begin, py::handle end, int prf, int seeding, int64_t width, py::handle key,
                 bool by_context, int value, uint32_t parameter, py::handle scores, py::handle units, py::handle totals,
                 const std::string& isa) {
  const Tensor tokens_(tokens, "tokens"), begin_(begin, "begin"), end_(end, "end"), key_(key, "key"), scores_(scores, "scores"),
      units_(units, "units"), totals_(totals, "totals");
  const Texts texts(tokens_, begin_, end_);
  const Function f(prf, seeding, width, key_);
  const auto s = scores_.dense<float, 1>();
  const auto n = units_.dense<int64_t, 1>();
  const auto sums = totals_.dense<double, 1>();
  require(value >= 0 && value <= 2, "there is no such value of words");
  require(s.shape[0] == texts.tokens.shape[0], "scores must hold one entry per token");
  require(n.shape[0] == texts.count() && sums.shape[0] == texts.count(), "units and totals must hold one entry per text");
  const View<const int64_t, 2> no_salt{nullptr, {1, 0}, {0, 1}};
  const Kernels& kernel = pick(isa);
  py::gil_scoped_release release;
  parallel_for(texts.count(), 1, [&](int64_t first, int64_t last) {
    for (int64_t i = first; i < last; ++i) {
      const int64_t length = texts.length(i);
      const auto words = std::make_unique_for_overwrite<uint32_t[]>(static_cast<size_t>(length));
      const auto counts = std::make_unique_for_overwrite<uint8_t[]>(static_cast<size_t>(length));
      read_text(kernel, f, texts, i, no_salt, by_context, words.get(), counts.get(), nullptr);
      n.data[i] = kernel.score_words(value, parameter, words.get(), counts.get(), length, s.data + texts.begin.data[i],
                                     sums.data + i);
    }
  });
}

// Texts whose contexts speak for sites and colour the vocabulary, in some ways (seedings). Sites and colours are the upper bits
// of words.
struct Colouring {
  Texts texts;
  View<const uint32_t, 1> sites;
  View<const uint32_t, 2> words;
  View<const uint8_t, 1> counts;
  int site_bits = 0, colour_bits = 0;

  Colouring(const Tensor& tokens_, const Tensor& begin_, const Tensor& end_, const Tensor& sites_, const Tensor& words_,
            const Tensor& counts_, int64_t site_count, int64_t colours)
      : texts(tokens_, begin_, end_), sites(sites_.dense<const uint32_t, 1>()), words(words_.dense<const uint32_t, 2>()),
        counts(counts_.dense<const uint8_t, 1>()) {
    const int64_t length = texts.tokens.shape[0];
    require(sites.shape[0] == length && words.shape[1] == length && counts.shape[0] == length,
            "sites, words and counts must hold one entry per token");
    site_bits = bits(site_count), colour_bits = bits(colours);
    require(site_bits >= 0 && site_bits <= 16 && colour_bits >= 0 && colour_bits <= 6,
            "sites must be a power of two up to 65536, and colours up to 64");
  }
  static int bits(int64_t count) { return count > 0 && !(count & (count - 1)) ? __builtin_ctzll(static_cast<uint64_t>(count)) : -1; }
  int64_t seedings() const { return words.shape[0]; }
  int64_t site(int64_t token) const { return upper(sites.data[token], site_bits); }
  int64_t colour(int64_t seeding, int64_t token) const { return upper(words.data[seeding * words.shape[1] + token], colour_bits); }

 private:
  static int64_t upper(uint32_t word, int bits) { return bits ? static_cast<int64_t>(word >> (32 - bits)) : 0; }
};

void require_below(const View<const int64_t, 2>& seeding, int64_t seedings) {
  for (int64_t i = 0; i < seeding.size(); ++i)
    require(seeding.data[i] >= 0 && seeding.data[i] < seedings, "seeding must be one of those that there are");
}

void colour_table(py::handle tokens, py::handle begin, py::handle end, py::handle sites, py::handle words, py::handle counts,
                  py::handle table) {
  const Tensor tokens_(tokens, "tokens"), begin_(begin, "begin"), end_(end, "end"), sites_(sites, "sites"),
      words_(words, "words"), counts_(counts, "counts"), table_(table, "table");
  const auto out = table_.dense<int64_t, 4>();
  const int64_t places = out.shape[1], seedings = out.shape[2], colours = out.shape[3], size = places * seedings * colours;
  const Colouring c(tokens_, begin_, end_, sites_, words_, counts_, places, colours);
  require(out.shape[0] == c.texts.count() && seedings == c.seedings(), "table must hold all texts and seedings");
  py::gil_scoped_release release;
  std::fill_n(out.data, out.size(), int64_t{0});
  for (int64_t i = 0; i < c.texts.count(); ++i)
    for (int64_t t = c.texts.begin.data[i]; t < c.texts.end.data[i]; ++t)
      if (c.counts.data[t])
        for (int64_t s = 0; s < seedings; ++s)
          ++out.data[i * size + (c.site(t) * seedings + s) * colours + c.colour(s, t)];
}

// Whether each token is green, NaN where it does not count.
void score_colours(py::handle tokens, py::handle begin, py::handle end, py::handle sites, py::handle words, py::handle counts,
                   py::handle seeding, py::handle green, py::handle scores) {
  const Tensor tokens_(tokens, "tokens"), begin_(begin, "begin"), end_(end, "end"), sites_(sites, "sites"),
      words_(words, "words"), counts_(counts, "counts"), seeding_(seeding, "seeding"), green_(green, "green"),
      scores_(scores, "scores");
  const auto g = green_.dense<const uint8_t, 3>();
  const auto s = seeding_.dense<const int64_t, 2>();
  const auto o = scores_.dense<float, 1>();
  const int64_t rows = g.shape[0], places = g.shape[1], colours = g.shape[2];
  const Colouring c(tokens_, begin_, end_, sites_, words_, counts_, places, colours);
  require(rows == c.texts.count() && s.shape[0] == rows && s.shape[1] == places, "seeding and green must hold all texts and sites");
  require(o.shape[0] == c.texts.tokens.shape[0], "scores must hold one entry per token");
  require_below(s, c.seedings());
  py::gil_scoped_release release;
  for (int64_t i = 0; i < rows; ++i)
    for (int64_t t = c.texts.begin.data[i]; t < c.texts.end.data[i]; ++t) {
      const int64_t place = i * places + c.site(t);
      o.data[t] = c.counts.data[t] ? g.data[place * colours + c.colour(s.data[place], t)] != 0 : __builtin_nanf("");
    }
}

// How many units of a table are green, and how many are at sites of so many green colours.
void tally_colours(py::handle table, py::handle seeding, py::handle green, py::handle hits, py::handle units) {
  const Tensor table_(table, "table"), seeding_(seeding, "seeding"), green_(green, "green"), hits_(hits, "hits"),
      units_(units, "units");
  const auto cells = table_.dense<const int64_t, 4>();
  const auto g = green_.dense<const uint8_t, 3>();
  const auto s = seeding_.dense<const int64_t, 2>();
  const auto h = hits_.dense<int64_t, 1>();
  const auto n = units_.dense<int64_t, 2>();
  const int64_t rows = g.shape[0], places = g.shape[1], colours = g.shape[2], seedings = cells.shape[2];
  require(cells.shape[1] == places && cells.shape[3] == colours && (cells.shape[0] == 1 || cells.shape[0] == rows),
          "table must hold all sites and colours, and one text or one per row");
  require(s.shape[0] == rows && s.shape[1] == places && h.shape[0] == rows && n.shape[0] == rows && n.shape[1] == colours + 1,
          "seeding, hits and units must have a row each, seeding all sites, and units one number more than colours");
  require_below(s, seedings);
  py::gil_scoped_release release;
  std::fill_n(n.data, n.size(), int64_t{0});
  for (int64_t i = 0; i < rows; ++i) {
    int64_t found = 0;
    for (int64_t site = 0; site < places; ++site) {
      const int64_t at = ((cells.shape[0] == 1 ? 0 : i) * places + site) * seedings + s.data[i * places + site];
      int64_t size = 0, all = 0;
      for (int64_t colour = 0; colour < colours; ++colour) {
        const int64_t is_green = g.data[(i * places + site) * colours + colour] != 0, count = cells.data[at * colours + colour];
        size += is_green;
        found += is_green * count;
        all += count;
      }
      n.data[i * (colours + 1) + size] += all;
    }
    h.data[i] = found;
  }
}

}  // namespace

void bind_tokens(py::module_& m) {
  const auto isa = py::arg("isa") = "";
  const auto tokens = py::arg("tokens"), begin = py::arg("begin"), end = py::arg("end"), prf = py::arg("prf"),
             key = py::arg("key"), states = py::arg("states"), logits = py::arg("logits"), candidates = py::arg("candidates");
  m.def("tokens_within", &tokens_within, tokens, py::arg("vocabulary"));
  m.def("tokens_distinct", &tokens_distinct, tokens, py::arg("vocabulary"));
  m.def("token_states", &token_states, tokens, begin, end, prf, py::arg("seeding"), py::arg("width"), py::arg("salt"), key,
        py::arg("out"), isa);
  m.def("token_repeats", &token_repeats, tokens, begin, end, py::arg("width"), py::arg("out"));
  m.def("token_words", &token_words, prf, key, states, candidates, py::arg("out"), isa);
  m.def("bias_logits", &bias_logits, tokens, begin, end, prf, py::arg("seeding"), py::arg("width"), key, logits, candidates,
        py::arg("threshold"), py::arg("delta"), py::arg("hard"), py::arg("top"), isa);
  m.def("bias_colours", &bias_colours, prf, key, states, logits, candidates, py::arg("masks"), py::arg("colours"),
        py::arg("delta"), isa);
  m.def("gumbel_columns", &gumbel_columns, prf, key, states, logits, candidates, py::arg("out"), isa);
  m.def("tournament", &tournament, prf, key, states, logits, candidates, py::arg("depth"), py::arg("done"), isa);
  m.def("tournament_of_words", &tournament_of_words, py::arg("words"), py::arg("depth"), logits, py::arg("done"), isa);
  m.def("reweight", &reweight, py::arg("words"), py::arg("alpha"), logits, py::arg("done"), isa);
  const auto sites = py::arg("sites"), words = py::arg("words"), counts = py::arg("counts");
  m.def("read_texts", &read_texts, tokens, begin, end, prf, py::arg("seeding"), py::arg("width"), py::arg("salt"), key,
        py::arg("by_context"), words, counts, sites, isa);
  m.def("colour_table", &colour_table, tokens, begin, end, sites, words, counts, py::arg("table"));
  const auto seeding = py::arg("seeding"), green = py::arg("green");
  m.def("score_colours", &score_colours, tokens, begin, end, sites, words, counts, seeding, green, py::arg("scores"));
  m.def("tally_colours", &tally_colours, py::arg("table"), seeding, green, py::arg("hits"), py::arg("units"));
  m.def("score_texts", &score_texts, tokens, begin, end, prf, py::arg("seeding"), py::arg("width"), key, py::arg("by_context"),
        py::arg("value"), py::arg("parameter"), py::arg("scores"), py::arg("units"), py::arg("totals"), isa);
}

}  // namespace watermark
