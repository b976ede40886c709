//! Every CUDA kernel through NVRTC, which needs no GPU and no driver: it compiles for `sm_80` and `sm_90a`, uses no stack and
//! spills no registers, and has tensor-core instructions where it should.
//!
//! `CUDA_HOME` names a toolkit: an installed one, or `site-packages/nvidia/cu13` of a Python environment with
//! `nvidia-cuda-nvrtc` and `nvidia-cuda-nvdisasm`. Where there is none the test says so and passes; with
//! `SWINSEEK_KERNEL_CHECKS=all`, as in CI, that is a failure.
#![allow(unsafe_code)]

use std::collections::BTreeMap;
use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::mem::transmute;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs, ptr};

use rayon::prelude::*;

const ARCHITECTURES: [&str; 2] = ["sm_80", "sm_90a"];

/// Registers of a multiprocessor; a block that needs more does not start.
const REGISTERS: usize = 65536;

/// Threads of a block, by the beginning of a kernel's name; others may have 1024.
const THREADS: [(&str, usize); 8] = [
    ("window_attention", 128),
    ("cross_attention", 128),
    ("causal_attention", 128),
    ("mla_decode", 256),
    ("linear", 128),
    ("swiglu_i", 128),
    ("vector", 128),
    ("moe_", 128),
];

/// The instruction that a kernel's products must be made of, by the beginning of its name.
const TENSOR_CORES: [(&str, &str); 9] = [
    ("window_attention", "HMMA"),
    ("cross_attention", "HMMA"),
    ("causal_attention", "HMMA"),
    ("mla_decode", "HMMA"),
    ("linear_i8i8", "IMMA"),
    ("linear", "HMMA"),
    ("swiglu_i", "HMMA"),
    ("moe_gate_up", "HMMA"),
    ("moe_down", "HMMA"),
];

fn by_name<T: Copy>(table: &[(&str, T)], kernel: &str) -> Option<T> {
    table.iter().find(|(beginning, _)| kernel.starts_with(beginning)).map(|(_, value)| *value)
}

fn everything_is_asked_for() -> bool {
    env::var("SWINSEEK_KERNEL_CHECKS").is_ok_and(|value| value == "all")
}

type Program = *mut c_void;
type Create = unsafe extern "C" fn(
    *mut Program,
    *const c_char,
    *const c_char,
    c_int,
    *const *const c_char,
    *const *const c_char,
) -> c_int;
type Compile = unsafe extern "C" fn(Program, c_int, *const *const c_char) -> c_int;
type Size = unsafe extern "C" fn(Program, *mut usize) -> c_int;
type Fetch = unsafe extern "C" fn(Program, *mut c_char) -> c_int;
type Destroy = unsafe extern "C" fn(*mut Program) -> c_int;

/// The functions of libnvrtc that are used here.
struct Nvrtc {
    create: Create,
    compile: Compile,
    log_size: Size,
    log: Fetch,
    cubin_size: Size,
    cubin: Fetch,
    destroy: Destroy,
}

/// The library in `folder` whose name begins with `name`, opened for the rest of the process.
fn open(folder: &Path, name: &str) -> Option<*mut c_void> {
    let mut files: Vec<PathBuf> = fs::read_dir(folder).ok()?.flatten().map(|entry| entry.path()).collect();
    files.sort();
    let named =
        |path: &&PathBuf| path.file_name().is_some_and(|file| file.to_string_lossy().starts_with(name));
    let path = CString::new(files.iter().find(named)?.to_str()?).ok()?;
    // SAFETY: loading NVIDIA's library runs its initialisers, which is what it is for; `path` is a C string.
    let handle = unsafe { libc::dlopen(path.as_ptr(), libc::RTLD_NOW | libc::RTLD_GLOBAL) };
    (!handle.is_null()).then_some(handle)
}

impl Nvrtc {
    fn load(home: &Path) -> Option<Self> {
        ["lib", "lib64"].iter().find_map(|lib| {
            let folder = home.join(lib);
            // NVRTC opens this one by its bare name, which finds what is already open.
            open(&folder, "libnvrtc-builtins.so")?;
            let library = open(&folder, "libnvrtc.so")?;
            // SAFETY: the types are those of nvrtc.h.
            unsafe {
                let function = |name: &CStr| {
                    let address = libc::dlsym(library, name.as_ptr());
                    assert!(!address.is_null(), "{name:?} is not in libnvrtc");
                    address
                };
                Some(Self {
                    create: transmute::<*mut c_void, Create>(function(c"nvrtcCreateProgram")),
                    compile: transmute::<*mut c_void, Compile>(function(c"nvrtcCompileProgram")),
                    log_size: transmute::<*mut c_void, Size>(function(c"nvrtcGetProgramLogSize")),
                    log: transmute::<*mut c_void, Fetch>(function(c"nvrtcGetProgramLog")),
                    cubin_size: transmute::<*mut c_void, Size>(function(c"nvrtcGetCUBINSize")),
                    cubin: transmute::<*mut c_void, Fetch>(function(c"nvrtcGetCUBIN")),
                    destroy: transmute::<*mut c_void, Destroy>(function(c"nvrtcDestroyProgram")),
                })
            }
        })
    }

    /// The machine code of `source` and the compiler's log, or the log alone.
    fn compile(
        &self,
        source: &str,
        headers: &[(CString, CString)],
        arch: &str,
    ) -> Result<(Vec<u8>, String), String> {
        let source = CString::new(source).unwrap();
        let (names, texts): (Vec<_>, Vec<_>) =
            headers.iter().map(|(name, text)| (name.as_ptr(), text.as_ptr())).unzip();
        let options =
            [format!("--gpu-architecture={arch}"), "--std=c++17".to_owned(), "--ptxas-options=-v".to_owned()];
        let options = options.map(|option| CString::new(option).unwrap());
        let options: Vec<_> = options.iter().map(|option| option.as_ptr()).collect();
        let mut program = ptr::null_mut();
        // SAFETY: all strings and arrays live until the program is destroyed, and buffers have the sizes that NVRTC says.
        unsafe {
            let count = headers.len() as c_int;
            let created = (self.create)(
                &raw mut program,
                source.as_ptr(),
                c"kernel.cu".as_ptr(),
                count,
                texts.as_ptr(),
                names.as_ptr(),
            );
            assert_eq!(created, 0, "nvrtcCreateProgram");
            let compiled = (self.compile)(program, options.len() as c_int, options.as_ptr());
            let mut size = 0;
            (self.log_size)(program, &raw mut size);
            let mut log = vec![0u8; size];
            (self.log)(program, log.as_mut_ptr().cast());
            let log = String::from_utf8_lossy(&log).trim_end_matches('\0').to_owned();
            let mut cubin = Vec::new();
            if compiled == 0 {
                (self.cubin_size)(program, &raw mut size);
                cubin.resize(size, 0u8);
                (self.cubin)(program, cubin.as_mut_ptr().cast());
            }
            (self.destroy)(&raw mut program);
            if compiled == 0 { Ok((cubin, log)) } else { Err(log) }
        }
    }
}

/// What ptxas says of a kernel.
struct Usage {
    registers: usize,
    stack: usize,
    spilt: usize,
}

/// The number before `what` in `line`.
fn number(line: &str, what: &str) -> usize {
    let before = line.split(what).next().unwrap_or_default().trim_end();
    before.rsplit(' ').next().and_then(|word| word.parse().ok()).unwrap_or(usize::MAX)
}

fn usage(log: &str) -> BTreeMap<String, Usage> {
    let mut all = BTreeMap::new();
    let mut kernel = String::new();
    for line in log.lines() {
        if line.contains("Compiling entry function") {
            line.split('\'').nth(1).unwrap_or_default().clone_into(&mut kernel);
            all.insert(kernel.clone(), Usage { registers: usize::MAX, stack: usize::MAX, spilt: usize::MAX });
        }
        let Some(usage) = all.get_mut(&kernel) else { continue };
        if line.contains("bytes stack frame") {
            usage.stack = number(line, "bytes stack frame");
            usage.spilt = number(line, "bytes spill stores") + number(line, "bytes spill loads");
        }
        if line.contains(" registers") {
            usage.registers = number(line, " registers");
        }
    }
    all
}

/// The instructions of each kernel of a cubin; `None` without nvdisasm.
fn disassemble(home: &Path, cubin: &Path) -> Option<BTreeMap<String, String>> {
    let output = Command::new(home.join("bin/nvdisasm")).arg("-c").arg(cubin).output().ok()?;
    assert!(output.status.success(), "nvdisasm: {}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8_lossy(&output.stdout);
    let sections = text.split("\t.section\t.text.").skip(1);
    Some(sections.map(|s| (s.split(',').next().unwrap_or_default().to_owned(), s.to_owned())).collect())
}

/// What is wrong with the kernels of `path` on `arch` and a line of figures for each.
fn check(
    nvrtc: &Nvrtc,
    home: &Path,
    path: &Path,
    headers: &[(CString, CString)],
    arch: &str,
) -> (Vec<String>, Vec<String>) {
    let name = path.file_stem().unwrap_or_default().to_string_lossy();
    let (cubin, log) = match nvrtc.compile(&fs::read_to_string(path).unwrap(), headers, arch) {
        Ok(compiled) => compiled,
        Err(log) => return (vec![format!("{name} for {arch} does not compile:\n{log}")], Vec::new()),
    };
    let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}.{arch}.cubin"));
    fs::write(&file, cubin).unwrap();
    let code = disassemble(home, &file);
    let kernels = usage(&log);
    let (mut wrong, mut table) = (Vec::new(), Vec::new());
    if kernels.is_empty() {
        wrong.push(format!("{name} for {arch}: no kernels in\n{log}"));
    }
    if code.is_none() && everything_is_asked_for() {
        wrong.push("nvdisasm did not run".to_owned());
    }
    for (kernel, Usage { registers, stack, spilt }) in kernels {
        table.push(format!("{arch:7} {kernel:36} {registers:4} registers {stack} stack {spilt} spilt"));
        if stack > 0 || spilt > 0 {
            wrong.push(format!("{kernel} for {arch}: {stack} bytes of stack, {spilt} bytes spilt"));
        }
        let threads = by_name(&THREADS, &kernel).unwrap_or(1024);
        if registers.saturating_mul(threads) > REGISTERS {
            wrong.push(format!("{kernel} for {arch}: {registers} registers for {threads} threads"));
        }
        if let (Some(instruction), Some(code)) = (by_name(&TENSOR_CORES, &kernel), &code)
            && !code.get(&kernel).is_some_and(|code| code.contains(instruction))
        {
            wrong.push(format!("{kernel} for {arch}: no {instruction}"));
        }
    }
    (wrong, table)
}

#[test]
fn kernels_compile_without_spills() {
    let home = PathBuf::from(env::var_os("CUDA_HOME").unwrap_or_else(|| "/usr/local/cuda".into()));
    let Some(nvrtc) = Nvrtc::load(&home) else {
        assert!(!everything_is_asked_for(), "no libnvrtc in {}", home.display());
        println!("no libnvrtc in {}: the CUDA kernels were not compiled", home.display());
        return;
    };
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("cuda");
    let files: Vec<PathBuf> = fs::read_dir(&folder).unwrap().flatten().map(|entry| entry.path()).collect();
    let having = |extension: &str| {
        let wanted = |path: &&PathBuf| path.extension().is_some_and(|found| found == extension);
        files.iter().filter(wanted).cloned().collect::<Vec<_>>()
    };
    let header = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        (CString::new(name).unwrap(), CString::new(fs::read(path).unwrap()).unwrap())
    };
    let headers: Vec<_> = having("cuh").iter().map(header).collect();
    let sources = having("cu");
    let jobs: Vec<_> = sources.iter().flat_map(|path| ARCHITECTURES.map(|arch| (path, arch))).collect();
    let results: Vec<_> =
        jobs.par_iter().map(|(path, arch)| check(&nvrtc, &home, path, &headers, arch)).collect();
    let (wrong, table): (Vec<_>, Vec<_>) = results.into_iter().unzip();
    table.concat().iter().for_each(|line| println!("{line}"));
    let wrong = wrong.concat();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn usage_is_read_from_the_log_of_ptxas() {
    let log = "ptxas info    : Compiling entry function 'k' for 'sm_90a'\n\
               ptxas info    : Function properties for k\n\
               ptxas         .     16 bytes stack frame, 8 bytes spill stores, 12 bytes spill loads\n\
               ptxas info    : Used 133 registers, used 1 barriers\n";
    let all = usage(log);
    let Usage { registers, stack, spilt } = &all["k"];
    assert_eq!((*registers, *stack, *spilt), (133, 16, 20));
}
