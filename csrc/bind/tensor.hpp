// Arrays as views: NumPy directly, torch through the DLPack C exchange API (which also knows the CUDA stream), anything
// else through __dlpack__(). Nothing is copied and nothing is owned: the caller passes outputs in.
#pragma once
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <string>
#include <type_traits>

#include "bind/dlpack.h"

namespace watermark {

namespace py = pybind11;

template <class T, int N>
struct View {
  T* data;
  int64_t shape[N];
  int64_t strides[N];  // in elements

  int64_t size() const {
    int64_t n = 1;
    for (int64_t s : shape) n *= s;
    return n;
  }
};

class Tensor {
 public:
  Tensor(py::handle object, const char* name) : name_(name) {
    if (py::isinstance<py::array>(object))
      from_numpy(py::reinterpret_borrow<py::array>(object));
    else if (const DLPackExchangeAPI* api = exchange_api(object))
      from_exchange(api, object);
    else if (py::hasattr(object, "__dlpack__"))
      from_capsule(object);
    else
      fail<py::type_error>("is no array: pass NumPy, torch or anything with __dlpack__");
  }
  Tensor(const Tensor&) = delete;
  Tensor& operator=(const Tensor&) = delete;

  bool on_cuda() const { return device_.device_type == kDLCUDA; }
  int device() const { return device_.device_id; }
  void* stream() const { return stream_; }  // torch's current CUDA stream, else the default stream

  template <class T>
  bool holds() const {
    return dtype_.code == code_of<T>() && dtype_.bits == 8 * sizeof(T) && dtype_.lanes == 1;
  }

  // View with checked dtype, rank, device and, for a non-const T, write access.
  template <class T, int N>
  View<T, N> view(int device_type) const {
    using Element = std::remove_const_t<T>;
    constexpr uint8_t code = code_of<Element>();
    if (!holds<Element>())
      fail<py::type_error>("has the wrong dtype: expected " + std::string(code == kDLFloat ? "float" : code == kDLInt ? "int" : "uint") +
                           std::to_string(8 * sizeof(Element)));
    if (ndim_ != N) fail<py::value_error>("has " + std::to_string(ndim_) + " dimensions instead of " + std::to_string(N));
    if (!std::is_const_v<T> && read_only_) fail<py::value_error>("is read-only");
    if (device_.device_type != device_type && !(device_type == kDLCPU && device_.device_type == kDLCUDAHost))
      fail<py::value_error>(device_type == kDLCPU ? "is not in CPU memory" : "is not on a CUDA device");
    View<T, N> v;
    v.data = static_cast<T*>(data_);
    for (int i = 0; i < N; ++i) v.shape[i] = shape_[i], v.strides[i] = strides_[i];
    if (reinterpret_cast<uintptr_t>(data_) % alignof(Element) && v.size()) fail<py::value_error>("is not aligned");
    return v;
  }

  // The same, C-contiguous.
  template <class T, int N>
  View<T, N> dense(int device_type = kDLCPU) const {
    const View<T, N> v = view<T, N>(device_type);
    int64_t expected = 1;
    for (int i = N - 1; i >= 0; --i) {
      if (v.shape[i] > 1 && v.strides[i] != expected && v.size()) fail<py::value_error>("is not C-contiguous");
      expected *= v.shape[i];
    }
    return v;
  }

  template <class Error>
  [[noreturn]] void fail(const std::string& what) const {
    throw Error((std::string(name_) + " " + what).c_str());
  }

 private:
  static constexpr int max_dimensions = 8;

  template <class T>
  static constexpr uint8_t code_of() {
    return std::is_floating_point_v<T> ? kDLFloat : std::is_signed_v<T> ? kDLInt : kDLUInt;
  }

  void from_numpy(const py::array& a) {
    if (a.itemsize() < 1) fail<py::type_error>("has items of no size");
    const py::dtype type = a.dtype();
    if (type.byteorder() == '>') fail<py::type_error>("is big endian");
    const char kind = type.kind();
    dtype_ = {static_cast<uint8_t>(kind == 'f' ? kDLFloat : kind == 'i' ? kDLInt : kind == 'u' ? kDLUInt : kind == 'b' ? kDLBool : 255),
              static_cast<uint8_t>(8 * a.itemsize()), 1};
    device_ = {kDLCPU, 0};
    set_rank(static_cast<int>(a.ndim()));
    for (int i = 0; i < ndim_; ++i) {
      shape_[i] = a.shape(i);
      if (a.strides(i) % a.itemsize() && a.shape(i) > 1) fail<py::value_error>("has strides that split its elements");
      strides_[i] = a.strides(i) / a.itemsize();
    }
    read_only_ = !a.writeable();
    data_ = const_cast<void*>(a.data());
  }

  static const DLPackExchangeAPI* exchange_api(py::handle object) {
    const py::object capsule = py::getattr(py::type::handle_of(object), "__dlpack_c_exchange_api__", py::none());
    if (!PyCapsule_IsValid(capsule.ptr(), "dlpack_exchange_api")) return nullptr;
    const auto* api = static_cast<const DLPackExchangeAPI*>(PyCapsule_GetPointer(capsule.ptr(), "dlpack_exchange_api"));
    return api->header.version.major == 1 ? api : nullptr;
  }

  void from_exchange(const DLPackExchangeAPI* api, py::handle object) {
    DLTensor t;
    if (api->dltensor_from_py_object_no_sync(object.ptr(), &t)) throw py::error_already_set();
    from_dlpack(t, false);
    if (on_cuda() && api->current_work_stream(kDLCUDA, device_.device_id, &stream_)) throw py::error_already_set();
  }

  void from_capsule(py::handle object) {
    const py::tuple device = object.attr("__dlpack_device__")();
    const bool cuda = device[0].cast<int>() == kDLCUDA;
    // Stream 1 is the legacy default stream: the producer makes its pending work visible to it.
    owner_ = cuda ? object.attr("__dlpack__")(py::arg("stream") = 1) : object.attr("__dlpack__")();
    if (const auto* managed = static_cast<DLManagedTensorVersioned*>(PyCapsule_GetPointer(owner_.ptr(), "dltensor_versioned")))
      return from_dlpack(managed->dl_tensor, managed->flags & DLPACK_FLAG_READ_ONLY);
    PyErr_Clear();
    const auto* managed = static_cast<DLManagedTensor*>(PyCapsule_GetPointer(owner_.ptr(), "dltensor"));
    if (!managed) throw py::error_already_set();
    from_dlpack(managed->dl_tensor, false);
  }

  void from_dlpack(const DLTensor& t, bool read_only) {
    dtype_ = t.dtype, device_ = t.device, read_only_ = read_only;
    set_rank(t.ndim);
    int64_t expected = 1;
    for (int i = ndim_ - 1; i >= 0; --i) {
      shape_[i] = t.shape[i];
      strides_[i] = t.strides ? t.strides[i] : expected;
      expected *= t.shape[i];
    }
    data_ = static_cast<char*>(t.data) + t.byte_offset;
  }

  void set_rank(int ndim) {
    if (ndim > max_dimensions) fail<py::value_error>("has too many dimensions");
    ndim_ = ndim;
  }

  const char* name_;
  void* data_ = nullptr;
  void* stream_ = nullptr;
  DLDataType dtype_{};
  DLDevice device_{};
  int ndim_ = 0;
  int64_t shape_[max_dimensions] = {}, strides_[max_dimensions] = {};
  bool read_only_ = false;
  py::object owner_;  // keeps a __dlpack__ capsule, and with it the memory, alive
};

// Throws ValueError with a message that names the array when a size does not fit.
inline void require(bool fits, const char* message) {
  if (!fits) throw py::value_error(message);
}

}  // namespace watermark
