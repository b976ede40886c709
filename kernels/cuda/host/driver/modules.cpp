#include "modules.h"

#include <dlfcn.h>

#include <cstring>

#include "memory.h"

namespace simulated {
namespace {

// By module. A function, for the stand-ins register themselves before main().
std::map<std::string, std::vector<Kernel>>& stand_ins() {
    static auto* all = new std::map<std::string, std::vector<Kernel>>;
    return *all;
}

const Launch* current = nullptr;

// `kernels/<module>.so` beside this library.
const Kernel* compiled_kernels(const std::string& module) {
    Dl_info here;
    if (!dladdr(reinterpret_cast<void*>(&compiled_kernels), &here)) return nullptr;
    std::string path = here.dli_fname;
    path = path.substr(0, path.rfind('/') + 1) + "kernels/" + module + ".so";
    void* library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
    return library ? static_cast<const Kernel*>(dlsym(library, "simulated_kernels")) : nullptr;
}

}  // namespace

void add_stand_in(const std::string& module, const std::string& kernel, void (*run)(const Launch&), const bool* is_pointer,
                  int parameters) {
    stand_ins()[module].push_back({strdup(kernel.c_str()), 1024, run, is_pointer, parameters});
}

const Launch& launched() { return *current; }
void set_launched(const Launch* launch) { current = launch; }

Module* load_module(const char* ptx) {
    // What the simulated nvcc writes.
    static const char MARK[] = "// simulated module ";
    if (std::strncmp(ptx, MARK, sizeof MARK - 1) != 0) return nullptr;
    std::string name(ptx + sizeof MARK - 1);
    name = name.substr(0, name.find('\n'));
    auto module = new Module{name, {}};
    auto add = [&](const Kernel& kernel) { module->functions[kernel.name] = Function{name, kernel}; };
    auto found = stand_ins().find(name);
    if (found != stand_ins().end()) {
        for (const Kernel& kernel : found->second) add(kernel);
    } else if (const Kernel* kernel = compiled_kernels(name)) {
        for (; kernel->name; kernel++) add(*kernel);
    }
    return module;
}

}  // namespace simulated
