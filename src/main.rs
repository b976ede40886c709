//! The `swinseek` binary: parses the command line and dispatches.

use std::process::ExitCode;

#[global_allocator]
static HEAP: swinseek_kernels::heap::Heap = swinseek_kernels::heap::Heap;

fn main() -> ExitCode {
    swinseek_kernels::heap::keep_freed_memory();
    swinseek_kernels::threads::keep_element_operations_on_their_thread();
    let cli = swinseek::cli::Cli::from_process();
    swinseek_kernels::threads::in_pool(|| match swinseek::cli::run(cli) {
        Ok(code) => code,
        Err(error) if swinseek::cli::is_closed_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            // One line: tensor errors carry a backtrace behind it when RUST_BACKTRACE is set.
            eprintln!("swinseek: {}", swinseek::cli::one_line(&error));
            ExitCode::FAILURE
        }
    })
}
