// TVM: machine code of the bundle, run by the two runtime libraries that the bundle brings, through the runner that goes
// with every TVM bundle (edgepack_tvm.h). The loader needs files: they are a private copy while it loads.

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>

#include "../error.h"
#include "../facts.h"
#include "../host.h"
#include "../text.h"
#include "drivers.h"
#include "edgepack_tvm.h"

namespace edgepack {

namespace {

constexpr char kTitle[] = "TVM";
constexpr const char* kNeeded[] = {"model.so", "interface.txt", "libtvm_ffi.so", "libtvm_runtime.so"};

// A folder of our own, which goes with all that we put into it.
class Scratch {
 public:
  Scratch() {
    std::string base = environment("TMPDIR");
    path_ = (base.empty() ? "/tmp" : base) + "/edgepack-XXXXXX";
    if (!mkdtemp(path_.data())) fail();
  }
  ~Scratch() {
    for (const std::string& name : names_) unlink((path_ + "/" + name).c_str());
    rmdir(path_.c_str());
  }
  Scratch(const Scratch&) = delete;

  const std::string& path() const { return path_; }

  void add(const std::string& name, const Buffer& content) {
    int handle = ::open((path_ + "/" + name).c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0500);
    if (handle < 0) fail();
    names_.push_back(name);
    size_t done = 0;
    while (done < content.size()) {
      ssize_t wrote = ::write(handle, content.data() + done, content.size() - done);
      if (wrote < 0 && errno == EINTR) continue;
      if (wrote <= 0) break;
      done += static_cast<size_t>(wrote);
    }
    if (::close(handle) || done < content.size()) fail();
  }

 private:
  [[noreturn]] void fail() const {
    refuse(EDGEPACK_STORAGE_ERROR, "cannot unpack to " + path_ + ": " + strerror(errno),
           "free some disk space, or set TMPDIR to another folder");
  }

  std::string path_;
  std::vector<std::string> names_;
};

// --- the header of a shared library (System V ABI, chapter 4), as edgepack's engines/tvm/elf.py reads it ---

uint64_t number(const Buffer& data, uint64_t place, int bytes) {
  uint64_t value = 0;
  for (int i = bytes - 1; i >= 0; --i) value = value << 8 | static_cast<uint8_t>(data.data()[place + static_cast<uint64_t>(i)]);
  return value;
}

[[noreturn]] void refuse_library(const std::string& name, const std::string& why) {
  refuse(EDGEPACK_COMPILE_ERROR, std::string(kTitle) + " refused " + name + ": " + why, "compile the model again");
}

// The loader maps a library before it looks at all of it, so that one cut short would end the process by a signal.
std::string machine_of(const std::string& name, const Buffer& file) {
  constexpr uint64_t kProgramHeader = 56;
  if (file.size() < 64 || memcmp(file.data(), "\x7f" "ELF\2\1", 6) != 0)
    refuse_library(name, "it is not a 64-bit shared library");
  uint64_t programs = number(file, 32, 8), sections = number(file, 40, 8);
  uint64_t entry = number(file, 54, 2), count = number(file, 56, 2);
  uint64_t section_entry = number(file, 58, 2), section_count = number(file, 60, 2), size = file.size();
  auto beyond = [&](uint64_t offset, uint64_t bytes) { return offset > size || bytes > size - offset; };
  bool cut = !count || beyond(programs, entry * count) || beyond(sections, section_entry * section_count);
  for (uint64_t i = 0; !cut && entry == kProgramHeader && i < count; ++i) {
    uint64_t place = programs + i * entry;
    cut = beyond(number(file, place + 8, 8), number(file, place + 32, 8));
  }
  if (cut) refuse_library(name, "it is cut short");
  switch (number(file, 18, 2)) {
    case 62: return "x86_64";
    case 183: return "aarch64";
    case 243: return "riscv64";
    default: refuse_library(name, "it is for another processor (ELF machine " + std::to_string(number(file, 18, 2)) + ")");
  }
}

// --- running ---

// What is needed to load the payload once more, for another thread: TVM's machines are a thread's own.
struct Source {
  std::map<std::string, std::shared_ptr<Buffer>> files;
  std::vector<TensorSpec> inputs, outputs;
  std::string entry;
  int threads;
};

size_t bytes_of(int dtype, const std::vector<int64_t>& shape) {
  size_t bytes = facts::kDtypes[dtype].bytes;
  for (int64_t size : shape) bytes *= static_cast<size_t>(size);
  return bytes;
}

class TvmRunner : public Runner {
 public:
  explicit TvmRunner(std::shared_ptr<const Source> source) : source_(std::move(source)) {
    Scratch folder;
    for (const auto& [name, content] : source_->files) folder.add(name, *content);
    if (!model_.load(folder.path().c_str(), source_->threads))
      refuse_library(source_->entry, engine_words(model_.error()));
    check_tensors();
  }

  void run(const std::vector<TensorView>& inputs, std::vector<TensorView>* outputs) override {
    bool whole = true;
    for (size_t i = 0; i < inputs.size(); ++i) whole = whole && fits(inputs[i], model_.input(static_cast<int>(i)));
    if (whole || model_.free_batch()) {
      run_whole(inputs, outputs);
    } else {
      run_looped(inputs, outputs);
    }
  }

  std::unique_ptr<Runner> another() override { return std::make_unique<TvmRunner>(source_); }

 private:
  void check_tensors() {
    bool same = model_.inputs() == static_cast<int>(source_->inputs.size()) &&
                model_.outputs() == static_cast<int>(source_->outputs.size());
    for (int i = 0; same && i < model_.inputs(); ++i) same = is(model_.input(i), source_->inputs[static_cast<size_t>(i)]);
    for (int i = 0; same && i < model_.outputs(); ++i) same = is(model_.output(i), source_->outputs[static_cast<size_t>(i)]);
    if (!same)
      refuse(EDGEPACK_COMPILE_ERROR, "model.so has other inputs or outputs than the bundle says",
             "the compiled files are of another model: compile it again");
  }

  static bool is(const Tensor& tensor, const TensorSpec& spec) { return spec.name == tensor.name && spec.dtype == tensor.dtype; }

  static bool fits(const TensorView& given, const Tensor& tensor) {
    return given.shape.size() == static_cast<size_t>(tensor.ndim) &&
           std::equal(given.shape.begin(), given.shape.end(), tensor.shape);
  }

  void call() {
    if (!model_.run()) throw EngineProblem{model_.error()};
  }

  void run_whole(const std::vector<TensorView>& inputs, std::vector<TensorView>* outputs) {
    for (size_t i = 0; i < inputs.size(); ++i) {
      int index = static_cast<int>(i);
      bool same = fits(inputs[i], model_.input(index)) && model_.input(index).data;
      if (!same && !model_.resize(index, inputs[i].shape.data())) throw EngineProblem{model_.error()};
      if (inputs[i].bytes) memcpy(model_.input(index).data, inputs[i].data, inputs[i].bytes);
    }
    call();
    outputs->clear();
    for (int i = 0; i < model_.outputs(); ++i) outputs->push_back(view_of(i));
  }

  TensorView view_of(int index) const {
    const Tensor& found = model_.output(index);
    TensorView view{facts::dtype_of(found.dtype), {found.shape, found.shape + found.ndim}, found.data, found.bytes};
    if (view.bytes != bytes_of(view.dtype, view.shape))
      throw EngineProblem{"the output " + repr(std::string_view(found.name)) + " has another type"};
    return view;
  }

  // Infers a batch sample by sample: the model was compiled for one.
  void run_looped(const std::vector<TensorView>& inputs, std::vector<TensorView>* outputs) {
    if (strcmp(model_.batch(), "looped") != 0) throw EngineProblem{"it was compiled for other shapes"};
    int64_t count = -1;
    for (size_t i = 0; i < inputs.size(); ++i) {
      if (!batched(source_->inputs[i])) continue;
      if (count >= 0 && inputs[i].shape[0] != count) throw EngineProblem{"the inputs have batches of different sizes"};
      count = inputs[i].shape[0];
    }
    joined_.assign(static_cast<size_t>(model_.outputs()), {});
    std::vector<std::vector<int64_t>> shapes(joined_.size());
    for (size_t i = 0; i < shapes.size(); ++i) shapes[i] = empty_shape(source_->outputs[i]);
    for (int64_t sample = 0; sample < count; ++sample) {
      for (size_t i = 0; i < inputs.size(); ++i) copy_sample(inputs[i], sample, static_cast<int>(i));
      call();
      for (size_t i = 0; i < joined_.size(); ++i) append(view_of(static_cast<int>(i)), sample == 0, &joined_[i], &shapes[i]);
    }
    outputs->clear();
    for (size_t i = 0; i < joined_.size(); ++i)
      outputs->push_back({facts::dtype_of(source_->outputs[i].dtype), shapes[i], joined_[i].data(), joined_[i].size()});
  }

  static bool batched(const TensorSpec& spec) { return !spec.shape.empty() && spec.shape[0].batch(); }

  static std::vector<int64_t> empty_shape(const TensorSpec& spec) {
    std::vector<int64_t> shape{0};
    for (size_t i = 1; i < spec.shape.size(); ++i) shape.push_back(spec.shape[i].free() ? 0 : spec.shape[i].size);
    return shape;
  }

  void copy_sample(const TensorView& given, int64_t sample, int index) {
    Tensor& tensor = model_.input(index);
    size_t offset = batched(source_->inputs[static_cast<size_t>(index)]) ? static_cast<size_t>(sample) * tensor.bytes : 0;
    if (offset + tensor.bytes > given.bytes) throw EngineProblem{"it was compiled for other shapes"};
    memcpy(tensor.data, static_cast<const char*>(given.data) + offset, tensor.bytes);
  }

  static void append(const TensorView& found, bool is_first, std::string* bytes, std::vector<int64_t>* shape) {
    if (found.shape.empty()) throw EngineProblem{"an output has no batch to be joined along"};
    if (is_first) *shape = found.shape, (*shape)[0] = 0;
    if (!std::equal(found.shape.begin() + 1, found.shape.end(), shape->begin() + 1, shape->end()))
      throw EngineProblem{"the samples of a batch give outputs of different shapes"};
    (*shape)[0] += found.shape[0];
    bytes->append(static_cast<const char*>(found.data), found.bytes);
  }

  std::shared_ptr<const Source> source_;
  Model model_;
  std::vector<std::string> joined_;
};

std::unique_ptr<Runner> load(const Compiled& compiled, const EngineOptions& options) {
  if (compiled.device != "CPU")
    refuse(EDGEPACK_TOOLCHAIN_ERROR, "this TVM has no " + compiled.device + "; it has CPU", "give a bundle for the CPU");
  auto source = std::make_shared<Source>();
  std::string folder = compiled.folder();
  for (const char* name : kNeeded) {
    std::string file = folder + name;
    const auto& files = compiled.payload.files;
    if (std::find(files.begin(), files.end(), file) == files.end())
      refuse(EDGEPACK_COMPILE_ERROR, file + " is missing", "build the bundle again");
    source->files[name] = compiled.read(file);
    bool library = strstr(name, ".so") != nullptr;
    std::string machine = library ? machine_of(name, *source->files[name]) : this_host().arch;
    if (machine != this_host().arch)
      refuse(EDGEPACK_TOOLCHAIN_ERROR,
             std::string(name) + " is machine code for " + machine + "; this machine is " + this_host().arch,
             "run it on " + machine + ", or build a bundle for this machine");
  }
  source->inputs = compiled.manifest.inputs;
  source->outputs = compiled.manifest.outputs;
  source->entry = "model.so";
  source->threads = options.threads;
  return std::make_unique<TvmRunner>(source);
}

std::string version() { return ""; }  // the bundle brings it

}  // namespace

const Driver kTvm{"tvm", version, load};

}  // namespace edgepack
