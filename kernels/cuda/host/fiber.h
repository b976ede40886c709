// Switching between stacks: a CUDA thread is a fiber.
#pragma once
#include <cstddef>
#include <cstdint>
#include <cstdlib>

namespace host {

constexpr size_t STACK_BYTES = 256 << 10;

#if defined(__x86_64__) && defined(__linux__)

// Saves the registers that a call must keep on the old stack and takes them from the new one.
extern "C" void host_switch_stack(void** save, void* load);
__asm__(
    ".text\n"
    ".globl host_switch_stack\n"
    ".type host_switch_stack,@function\n"
    "host_switch_stack:\n"
    "  pushq %rbp\n  pushq %rbx\n  pushq %r12\n  pushq %r13\n  pushq %r14\n  pushq %r15\n"
    "  movq %rsp, (%rdi)\n"
    "  movq %rsi, %rsp\n"
    "  popq %r15\n  popq %r14\n  popq %r13\n  popq %r12\n  popq %rbx\n  popq %rbp\n"
    "  ret\n"
    ".size host_switch_stack, .-host_switch_stack\n");

struct Stack {
    void* memory = nullptr;
    void* top = nullptr;

    void start(void (*entry)()) {
        if (!memory) memory = std::malloc(STACK_BYTES);
        void** at = reinterpret_cast<void**>((reinterpret_cast<uintptr_t>(memory) + STACK_BYTES) & ~uintptr_t(15));
        *--at = nullptr;  // where a call would have left its return address: aligns the stack as the ABI wants it
        *--at = reinterpret_cast<void*>(entry);
        for (int i = 0; i < 6; i++) *--at = nullptr;
        top = at;
    }
    void release() { std::free(memory); }
    static void jump(Stack& from, Stack& to) { host_switch_stack(&from.top, to.top); }
};

#else

}  // namespace host
#include <ucontext.h>
namespace host {

struct Stack {
    void* memory = nullptr;
    ucontext_t context;

    void start(void (*entry)()) {
        if (!memory) memory = std::malloc(STACK_BYTES);
        getcontext(&context);
        context.uc_stack.ss_sp = memory;
        context.uc_stack.ss_size = STACK_BYTES;
        context.uc_link = nullptr;
        makecontext(&context, entry, 0);
    }
    void release() { std::free(memory); }
    static void jump(Stack& from, Stack& to) { swapcontext(&from.context, &to.context); }
};

#endif

}  // namespace host
