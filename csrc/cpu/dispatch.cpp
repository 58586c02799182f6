#include "cpu/dispatch.hpp"

#include <cstring>

namespace watermark {

namespace generic {
extern const Kernels table;
}
#ifdef WM_HAS_avx2
namespace avx2 {
extern const Kernels table;
}
#endif

namespace {

struct Available {
  const Kernels* tables[4] = {};
  const char* names[5] = {};
  int count = 0;

  Available() {
    add(&generic::table);
#ifdef WM_HAS_avx2
    if (__builtin_cpu_supports("avx2")) add(&avx2::table);
#endif
  }
  void add(const Kernels* table) {
    tables[count] = table;
    names[count++] = table->name;
  }
};

const Available& available() {
  static const Available all;
  return all;
}

}  // namespace

const Kernels* kernels(const char* name) {
  const Available& all = available();
  if (!*name) return all.tables[all.count - 1];
  for (int i = 0; i < all.count; ++i)
    if (!std::strcmp(all.names[i], name)) return all.tables[i];
  return nullptr;
}

const char* const* instruction_sets() { return available().names; }

}  // namespace watermark
