//! Sums over the GPUs of several processes, by NVIDIA's NCCL. The library is opened when it is needed: a run on one GPU
//! does without.
//!
//! A sum is queued on the stream of the computation, and nothing here waits for it. Should another process die, the GPU
//! would wait for it for ever: a thread watches, and breaks off what is under way. What was summed then is not whole,
//! which [`Communicator::check`] tells.
#![expect(unsafe_code, reason = "functions of a C library")]

use std::env;
use std::ffi::{CStr, OsStr, c_char, c_int, c_void};
use std::fmt;
use std::path::PathBuf;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use base::error::one_line;
use base::threads;
use candle_core::cuda_backend::WrapErr as _;
use candle_core::cuda_backend::cudarc::driver::result;
use candle_core::{CudaDevice, DType, Device, Tensor};
use libloading::os::unix::{Library, RTLD_LOCAL, RTLD_NOW};

use super::array::{Array, Buffer};
use super::kernels::Module;
use super::launch::{Grid, arguments, launch};
use crate::types::gpu_sum::{NcclFailure, SumOrder};

/// Names the library: its file, or a folder that has it.
const LIBRARY_VARIABLE: &str = "CAPTION_TRAIN_NCCL";
/// The first is what NVIDIA's packages and Python's wheels have.
const NAMES: [&str; 2] = ["libnccl.so.2", "libnccl.so"];
/// Numbers that are summed at once, copied side by side: 64 MiB.
const BUCKET: usize = 16 << 20;
/// How often the watching thread looks.
const LOOKING: Duration = Duration::from_millis(100);

type Result<T> = std::result::Result<T, NcclFailure>;

/// `ncclResult_t`.
type Code = c_int;
const SUCCESS: Code = 0;
/// A call without an end yet, which is no error.
const IN_PROGRESS: Code = 7;
/// `ncclFloat32`.
const F32: c_int = 7;
/// `ncclSum`.
const SUM: c_int = 0;

/// `ncclComm_t`.
type Handle = *mut c_void;
type Stream = *mut c_void;

/// `ncclUniqueId`: how the processes find each other.
#[repr(C)]
#[derive(Clone, Copy)]
struct UniqueId {
    internal: [u8; ID_BYTES],
}

const ID_BYTES: usize = 128;

/// The functions of `nccl.h`.
#[derive(Clone, Copy)]
struct Functions {
    get_version: unsafe extern "C" fn(*mut c_int) -> Code,
    get_unique_id: unsafe extern "C" fn(*mut UniqueId) -> Code,
    comm_init_rank: unsafe extern "C" fn(*mut Handle, c_int, UniqueId, c_int) -> Code,
    comm_destroy: unsafe extern "C" fn(Handle) -> Code,
    comm_abort: unsafe extern "C" fn(Handle) -> Code,
    comm_get_async_error: unsafe extern "C" fn(Handle, *mut Code) -> Code,
    all_reduce: unsafe extern "C" fn(*const c_void, *mut c_void, usize, c_int, c_int, Handle, Stream) -> Code,
    send: unsafe extern "C" fn(*const c_void, usize, c_int, c_int, Handle, Stream) -> Code,
    recv: unsafe extern "C" fn(*mut c_void, usize, c_int, c_int, Handle, Stream) -> Code,
    group_start: unsafe extern "C" fn() -> Code,
    group_end: unsafe extern "C" fn() -> Code,
    get_error_string: unsafe extern "C" fn(Code) -> *const c_char,
    get_last_error: unsafe extern "C" fn(Handle) -> *const c_char,
}

impl Functions {
    fn of(library: &Library) -> std::result::Result<Self, libloading::Error> {
        macro_rules! find {
            ($($field:ident = $name:literal),* $(,)?) => {
                // SAFETY: these functions have these types in every version 2 of NCCL.
                unsafe { Self { $($field: *library.get($name)?),* } }
            };
        }
        Ok(find! {
            get_version = b"ncclGetVersion",
            get_unique_id = b"ncclGetUniqueId",
            comm_init_rank = b"ncclCommInitRank",
            comm_destroy = b"ncclCommDestroy",
            comm_abort = b"ncclCommAbort",
            comm_get_async_error = b"ncclCommGetAsyncError",
            all_reduce = b"ncclAllReduce",
            send = b"ncclSend",
            recv = b"ncclRecv",
            group_start = b"ncclGroupStart",
            group_end = b"ncclGroupEnd",
            get_error_string = b"ncclGetErrorString",
            get_last_error = b"ncclGetLastError",
        })
    }

    /// The error of a call, if it failed.
    fn check(&self, function: &'static str, code: Code, comm: Handle) -> Result<()> {
        if code == SUCCESS || code == IN_PROGRESS {
            return Ok(());
        }
        Err(NcclFailure::Call { function, what: self.describe(code, comm) })
    }

    /// What NCCL says of an error, of the communicator or of none.
    fn describe(&self, code: Code, comm: Handle) -> String {
        // SAFETY: the call takes any number and returns a constant text.
        let text = unsafe { text_at((self.get_error_string)(code)) };
        // SAFETY: the communicator, if there is one, has not ended; the text stays until the next error.
        let last = unsafe { text_at((self.get_last_error)(comm)) };
        let last = last.split_whitespace().collect::<Vec<_>>().join(" ");
        if last.is_empty() { text } else { format!("{text}: {last}") }
    }
}

/// # Safety
/// The pointer is null or leads to a text that ends with a zero.
unsafe fn text_at(text: *const c_char) -> String {
    if text.is_null() {
        return String::new();
    }
    // SAFETY: the caller's promise.
    unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned()
}

/// The library, opened once for the whole process.
fn functions() -> Result<&'static Functions> {
    static OPENED: OnceLock<std::result::Result<Functions, String>> = OnceLock::new();
    OPENED
        .get_or_init(|| open(&candidates(env::var_os(LIBRARY_VARIABLE).as_deref())))
        .as_ref()
        .map_err(|reason| NcclFailure::Library(reason.clone()))
}

/// What to open, in this order.
fn candidates(named: Option<&OsStr>) -> Vec<PathBuf> {
    match named.filter(|named| !named.is_empty()).map(PathBuf::from) {
        Some(folder) if folder.is_dir() => NAMES.map(|name| folder.join(name)).to_vec(),
        Some(file) => vec![file],
        None => NAMES.map(PathBuf::from).to_vec(),
    }
}

fn open(candidates: &[PathBuf]) -> std::result::Result<Functions, String> {
    let mut first_error = None;
    for path in candidates {
        // SAFETY: NVIDIA's library, which may be opened in any process; it is never closed.
        let opened = unsafe { Library::open(Some(path), RTLD_NOW | RTLD_LOCAL) };
        match opened.and_then(|library| Functions::of(&library).inspect(|_| std::mem::forget(library))) {
            Ok(functions) => return Ok(functions),
            // The other name is there for those who compile with it; most have only the first.
            Err(error) => drop(first_error.get_or_insert(format!("{}: {}", path.display(), one_line(&error.into())))),
        }
    }
    Err(first_error.unwrap_or_else(|| "it has no name".to_owned()))
}

/// The version of the library, such as 2.29.7.
///
/// # Errors
/// No library.
pub fn version() -> Result<String> {
    let functions = functions()?;
    let mut version = 0;
    // SAFETY: it writes one number.
    let code = unsafe { (functions.get_version)(&raw mut version) };
    functions.check("ncclGetVersion", code, std::ptr::null_mut())?;
    Ok(version_text(version))
}

fn version_text(version: c_int) -> String {
    // Before 2.9 the minor version had one digit.
    let major = if version < 10_000 { 1000 } else { 10_000 };
    format!("{}.{}.{}", version / major, version % major / 100, version % 100)
}

/// What [`Communicator::new`] needs in every process, made by one of them.
///
/// # Errors
/// No library; no network interface that NCCL can use.
pub fn unique_id() -> Result<Vec<u8>> {
    let functions = functions()?;
    let mut id = UniqueId { internal: [0; ID_BYTES] };
    // SAFETY: it fills in the bytes.
    let code = unsafe { (functions.get_unique_id)(&raw mut id) };
    functions.check("ncclGetUniqueId", code, std::ptr::null_mut())?;
    Ok(id.internal.to_vec())
}

/// What tells a GPU from all others, in this machine and elsewhere.
///
/// # Errors
/// A device that is no GPU; an error of the driver.
pub fn identity(device: &Device) -> Result<String> {
    let uuid = device.as_cuda_device()?.cuda_stream().context().uuid().w()?;
    Ok(uuid.bytes.iter().map(|&byte| format!("{byte:02x}")).collect())
}

/// A connection with the GPUs of the other processes.
pub struct Communicator {
    device: CudaDevice,
    rank: usize,
    size: usize,
    shared: Arc<Shared>,
    /// Ends the watching thread when it is dropped.
    watch: Option<(Sender<()>, JoinHandle<()>)>,
}

/// What the computing and the watching thread share.
struct Shared {
    functions: &'static Functions,
    /// Nothing after its end. NCCL allows one thread at a time.
    comm: Mutex<Option<Comm>>,
    /// Why it was broken off.
    broken: OnceLock<String>,
}

struct Comm(Handle);

// SAFETY: NCCL takes calls from any thread, one at a time: it is behind a mutex.
unsafe impl Send for Comm {}

impl fmt::Debug for Communicator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Communicator").field("rank", &self.rank).field("size", &self.size).finish_non_exhaustive()
    }
}

impl Communicator {
    /// Connects this process, number `rank` of `size`, which computes on `device`. All processes call it with the same
    /// `id`, and it waits for all of them. `is_lost` says whether one of them is gone.
    ///
    /// # Errors
    /// No library; two processes on one GPU; a network that NCCL cannot use.
    pub fn new(
        device: &Device,
        id: &[u8],
        (rank, size): (usize, usize),
        is_lost: impl Fn() -> bool + Send + 'static,
    ) -> Result<Self> {
        let functions = functions()?;
        let device = device.as_cuda_device()?.clone();
        let internal = id
            .try_into()
            .map_err(|_| candle_core::Error::Msg(format!("an id has {ID_BYTES} bytes, not {}", id.len())))?;
        device.cuda_stream().context().bind_to_thread().w()?;
        let mut comm: Handle = std::ptr::null_mut();
        // SAFETY: it writes one pointer; the GPU of this thread is the one to use.
        let code =
            unsafe { (functions.comm_init_rank)(&raw mut comm, size as c_int, UniqueId { internal }, rank as c_int) };
        functions.check("ncclCommInitRank", code, std::ptr::null_mut())?;
        let shared = Arc::new(Shared { functions, comm: Mutex::new(Some(Comm(comm))), broken: OnceLock::new() });
        let (end, ended) = mpsc::channel();
        let watched = (Arc::clone(&shared), device.clone());
        let thread = threads::spawn("nccl", move || watch(&watched.0, &watched.1, &is_lost, &ended))
            .map_err(|error| NcclFailure::BrokenOff(one_line(&error)))?;
        Ok(Self { device, rank, size, shared, watch: Some((end, thread)) })
    }

    /// Replaces each tensor of f32 by its sum over all processes, which pass as many tensors of the same sizes. Queued
    /// behind what is computed; the sums are views of common memory.
    ///
    /// # Errors
    /// Tensors elsewhere, or of another type; no memory; an error of NCCL.
    pub fn sum(&self, tensors: &mut [&mut Tensor], order: SumOrder) -> Result<()> {
        let mut rest = tensors;
        while !rest.is_empty() {
            let mut numbers = 0;
            let fits = |tensor: &&&mut Tensor| {
                numbers += tensor.elem_count();
                numbers <= BUCKET
            };
            let count = rest.iter().take_while(fits).count().max(1);
            let (bucket, others) = std::mem::take(&mut rest).split_at_mut(count);
            self.sum_bucket(bucket, order)?;
            rest = others;
        }
        Ok(())
    }

    fn sum_bucket(&self, tensors: &mut [&mut Tensor], order: SumOrder) -> Result<()> {
        self.device.cuda_stream().context().bind_to_thread().w()?;
        let numbers = tensors.iter().map(|tensor| tensor.elem_count()).sum();
        let buffer = Buffer::new(&self.device, DType::F32, numbers)?;
        let (all, mut first) = (buffer.array(), 0);
        for tensor in tensors.iter() {
            let tensor = tensor.contiguous()?;
            let values = Array::of_f32(&tensor)?;
            self.copy(values, part(all, first, values.len))?;
            first += values.len;
        }
        match order {
            SumOrder::Any => self.group(&|calls| calls.all_reduce(all))?,
            SumOrder::Tree => self.sum_in_tree(all)?,
        }
        let flat = buffer.into_tensor(numbers.max(1));
        let mut first = 0;
        for tensor in tensors.iter_mut() {
            let count = tensor.elem_count();
            **tensor = flat.narrow(0, first, count)?.reshape(tensor.shape())?;
            first += count;
        }
        Ok(())
    }

    /// Each process adds up a slice of the values, which it gets from all others, and sends them its sum: as many bytes
    /// as a ring of processes moves, in an order of our own.
    fn sum_in_tree(&self, all: Array) -> Result<()> {
        let (rank, size) = (self.rank, self.size);
        let slice = |rank: usize| {
            let bound = |rank: usize| rank * all.len / size;
            part(all, bound(rank), bound(rank + 1) - bound(rank))
        };
        let own = slice(rank);
        let received = Buffer::new(&self.device, DType::F32, own.len * (size - 1))?;
        let of_others = received.array();
        let mut terms: Vec<Array> = (0..size)
            .map(|term| match term {
                _ if term == rank => own,
                _ => part(of_others, own.len * (term - usize::from(term > rank)), own.len),
            })
            .collect();
        let others = || (0..size).filter(|&other| other != rank);
        self.group(&|calls| {
            others()
                .try_for_each(|other| calls.send(slice(other), other).and_then(|()| calls.receive(terms[other], other)))
        })?;
        while terms.len() > 1 {
            for pair in terms.chunks(2) {
                if let [left, right] = *pair {
                    let grid = Grid::over_elements(left.len);
                    launch(&self.device, Module::Rows, "add_assign_f32", grid, arguments![left, right, left.len])?;
                }
            }
            terms = terms.chunks(2).map(|pair| pair[0]).collect();
        }
        if rank > 0 {
            self.copy(terms[0], own)?;
        }
        self.group(&|calls| {
            others().try_for_each(|other| calls.send(own, other).and_then(|()| calls.receive(slice(other), other)))
        })
    }

    fn copy(&self, from: Array, to: Array) -> Result<()> {
        let bytes = from.len * from.dtype.size_in_bytes();
        if bytes > 0 {
            let stream = self.device.cuda_stream();
            // SAFETY: both are live and have room for these bytes, and the stream orders this copy before later uses.
            unsafe { result::memcpy_dtod_async(to.address, from.address, bytes, stream.cu_stream()) }.w()?;
        }
        Ok(())
    }

    /// Makes calls that belong together.
    fn group(&self, calls: &dyn Fn(&Calls<'_>) -> Result<()>) -> Result<()> {
        let comm = self.shared.comm();
        self.check()?;
        let Some(Comm(handle)) = *comm else { return Err(NcclFailure::BrokenOff("it has ended".to_owned())) };
        let functions = self.shared.functions;
        // SAFETY: the call has no conditions.
        functions.check("ncclGroupStart", unsafe { (functions.group_start)() }, handle)?;
        let called = calls(&Calls { functions, comm: handle, stream: self.device.cuda_stream().cu_stream().cast() });
        // SAFETY: the end of the group of above; calls that failed are not in it.
        let ended = functions.check("ncclGroupEnd", unsafe { (functions.group_end)() }, handle);
        called.and(ended)
    }

    /// Whether all sums so far are whole. To be asked after waiting for the GPU, and before what it computed is used.
    ///
    /// # Errors
    /// A process was gone, or NCCL found an error, while they were made.
    pub fn check(&self) -> Result<()> {
        self.shared.broken.get().map_or(Ok(()), |why| Err(NcclFailure::BrokenOff(why.clone())))
    }

    /// Ends the connection when no process uses it any more.
    ///
    /// # Errors
    /// An error of NCCL.
    pub fn finish(mut self) -> Result<()> {
        self.stop_watching();
        self.device.cuda_stream().context().bind_to_thread().w()?;
        let functions = self.shared.functions;
        match self.shared.comm().take() {
            // SAFETY: it exists, and nobody uses it after this.
            Some(Comm(comm)) => {
                functions.check("ncclCommDestroy", unsafe { (functions.comm_destroy)(comm) }, std::ptr::null_mut())
            }
            None => Ok(()),
        }
    }

    fn stop_watching(&mut self) {
        if let Some((end, thread)) = self.watch.take() {
            drop(end);
            let _ = thread.join();
        }
    }
}

/// A process that ends with an error does not wait for the others.
impl Drop for Communicator {
    fn drop(&mut self) {
        self.stop_watching();
        self.shared.break_off(&self.device, "it has ended");
    }
}

impl Shared {
    fn comm(&self) -> MutexGuard<'_, Option<Comm>> {
        self.comm.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends the connection and what is under way on the GPU. A thread within a call of NCCL is waited for.
    fn break_off(&self, device: &CudaDevice, why: &str) {
        // First: whoever sees the end of a sum that was broken off finds this.
        let _ = self.broken.set(why.to_owned());
        if let Some(Comm(comm)) = self.comm().take() {
            // Without a context there is no GPU to free anything on.
            let _ = device.cuda_stream().context().bind_to_thread();
            // SAFETY: it exists, and nobody uses it after this.
            let _ = unsafe { (self.functions.comm_abort)(comm) };
        }
    }

    /// An error that NCCL found between calls.
    fn error(&self) -> Option<String> {
        // A thread that is within a call gets its error there.
        let comm = self.comm.try_lock().ok()?;
        let Comm(handle) = *comm.as_ref()?;
        let mut code = SUCCESS;
        // SAFETY: it exists; one number is written.
        let asked = unsafe { (self.functions.comm_get_async_error)(handle, &raw mut code) };
        let found = if asked == SUCCESS { code } else { asked };
        (![SUCCESS, IN_PROGRESS].contains(&found)).then(|| self.functions.describe(found, handle))
    }
}

/// Breaks off when a process is gone or NCCL has an error, until it is told to end.
fn watch(shared: &Shared, device: &CudaDevice, is_lost: &dyn Fn() -> bool, end: &Receiver<()>) {
    while end.recv_timeout(LOOKING) == Err(RecvTimeoutError::Timeout) {
        let why = if is_lost() { Some("another process is gone".to_owned()) } else { shared.error() };
        if let Some(why) = why {
            return shared.break_off(device, &why);
        }
    }
}

/// The calls of a group.
struct Calls<'a> {
    functions: &'a Functions,
    comm: Handle,
    stream: Stream,
}

impl Calls<'_> {
    /// Replaces the values by their sums.
    fn all_reduce(&self, values: Array) -> Result<()> {
        let (from, to) = (values.address as *const c_void, values.address as *mut c_void);
        // SAFETY: memory on the GPU that the caller keeps until the stream is past this; the stream is the GPU's.
        let code = unsafe { (self.functions.all_reduce)(from, to, values.len, F32, SUM, self.comm, self.stream) };
        self.functions.check("ncclAllReduce", code, self.comm)
    }

    fn send(&self, values: Array, to: usize) -> Result<()> {
        if values.len == 0 {
            return Ok(());
        }
        let from = values.address as *const c_void;
        // SAFETY: as above.
        let code = unsafe { (self.functions.send)(from, values.len, F32, to as c_int, self.comm, self.stream) };
        self.functions.check("ncclSend", code, self.comm)
    }

    fn receive(&self, values: Array, from: usize) -> Result<()> {
        if values.len == 0 {
            return Ok(());
        }
        let to = values.address as *mut c_void;
        // SAFETY: as above.
        let code = unsafe { (self.functions.recv)(to, values.len, F32, from as c_int, self.comm, self.stream) };
        self.functions.check("ncclRecv", code, self.comm)
    }
}

/// Some of the elements.
fn part(all: Array, first: usize, len: usize) -> Array {
    Array { address: all.address + (first * all.dtype.size_in_bytes()) as u64, len, ..all }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_as_they_are_numbered() {
        assert_eq!(version_text(22_907), "2.29.7");
        assert_eq!(version_text(21_801), "2.18.1");
        assert_eq!(version_text(2_708), "2.7.8");
    }

    #[test]
    fn a_library_that_the_user_names_is_the_only_one() {
        assert_eq!(candidates(None), NAMES.map(PathBuf::from));
        assert_eq!(candidates(Some(OsStr::new(""))), NAMES.map(PathBuf::from));
        assert_eq!(candidates(Some(OsStr::new("/opt/libnccl.so.2"))), [PathBuf::from("/opt/libnccl.so.2")]);
        let folder = env::temp_dir();
        assert_eq!(candidates(Some(folder.as_os_str())), NAMES.map(|name| folder.join(name)));
    }

    #[test]
    fn a_library_that_is_missing_or_another_one_is_named() {
        let missing = open(&[PathBuf::from("/nowhere/libnccl.so.2")]).err().unwrap();
        assert!(missing.contains("/nowhere/libnccl.so.2"), "{missing}");
        let other = open(&[PathBuf::from("libc.so.6")]).err().unwrap();
        assert!(other.contains("ncclGetVersion"), "{other}");
    }
}
