//! Calls of MPI's functions through the table of a family.
#![expect(unsafe_code, reason = "the functions of MPI are C, from a library that is opened at run time")]

use std::env;
use std::ffi::{c_char, c_int, c_void};
use std::fmt;
use std::path::Path;
use std::ptr;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;
use base::error::{failure, with_hint};
use libloading::os::unix::{Library, RTLD_GLOBAL, RTLD_NOW};

use super::find::{HOW_TO_INSTALL, LIBRARY_VARIABLE, file_name, installed_libraries, opening_impossible};
use super::{Family, first_line};

/// Room for a version and for the text of an error: the largest of all families.
const TEXT_BYTES: usize = 8192;
/// All messages have one tag: MPI keeps their order between two processes.
const TAG: c_int = 1;
const SUCCESS: c_int = 0;

/// A handle of MPI: a pointer or an integer.
trait Handle: Copy {
    fn to_bits(self) -> usize;
    fn of_bits(bits: usize) -> Self;
}

impl Handle for *mut c_void {
    fn to_bits(self) -> usize {
        self.expose_provenance()
    }

    fn of_bits(bits: usize) -> Self {
        ptr::with_exposed_provenance_mut(bits)
    }
}

impl Handle for c_int {
    fn to_bits(self) -> usize {
        self.cast_unsigned() as usize
    }

    fn of_bits(bits: usize) -> Self {
        (bits as u32).cast_signed()
    }
}

/// The constants of a family. Handles are in bits; those of Open MPI are addresses in the library.
struct Constants {
    world: usize,
    byte: usize,
    float: usize,
    double: usize,
    sum: usize,
    errors_return: usize,
    info_null: usize,
    in_place: usize,
    status_ignore: usize,
    shared: c_int,
    funneled: c_int,
}

/// As in the `mpi.h` of MPICH 4 and 5.
const MPICH: Constants = Constants {
    world: 0x4400_0000,
    byte: 0x4c00_010d,
    float: 0x4c00_040a,
    double: 0x4c00_080b,
    sum: 0x5800_0003,
    errors_return: 0x5400_0001,
    info_null: 0x1c00_0000,
    in_place: usize::MAX,
    status_ignore: 1,
    shared: 1,
    funneled: 1,
};

/// As in `mpi_abi.h`, which the MPI Forum publishes.
const STANDARD: Constants = Constants {
    world: 0x101,
    byte: 0x247,
    float: 0x210,
    double: 0x214,
    sum: 0x21,
    errors_return: 0x143,
    info_null: 0x130,
    in_place: 1,
    status_ignore: 0,
    shared: 221,
    funneled: 1024,
};

type GetText = unsafe extern "C" fn(*mut c_char, *mut c_int) -> c_int;
type Get<H> = unsafe extern "C" fn(H, *mut c_int) -> c_int;

/// The functions, for a kind of handle.
struct Functions<H> {
    init_thread: unsafe extern "C" fn(*mut c_int, *mut *mut *mut c_char, c_int, *mut c_int) -> c_int,
    comm_rank: Get<H>,
    comm_size: Get<H>,
    comm_split_type: unsafe extern "C" fn(H, c_int, c_int, H, *mut H) -> c_int,
    comm_set_errhandler: unsafe extern "C" fn(H, H) -> c_int,
    isend: unsafe extern "C" fn(*const c_void, c_int, H, c_int, c_int, H, *mut H) -> c_int,
    irecv: unsafe extern "C" fn(*mut c_void, c_int, H, c_int, c_int, H, *mut H) -> c_int,
    test: unsafe extern "C" fn(*mut H, *mut c_int, *mut c_void) -> c_int,
    allreduce: unsafe extern "C" fn(*const c_void, *mut c_void, c_int, H, H, H) -> c_int,
    error_string: unsafe extern "C" fn(c_int, *mut c_char, *mut c_int) -> c_int,
    finalize: unsafe extern "C" fn() -> c_int,
}

/// A message on its way. Its buffer is in use until a test says that it has arrived.
struct Request(usize);

/// The functions with handles in bits.
trait Calls {
    unsafe fn init(&self) -> Result<c_int, c_int>;
    unsafe fn place(&self, world: usize) -> Result<(usize, usize), c_int>;
    unsafe fn split_shared(&self) -> Result<usize, c_int>;
    unsafe fn return_errors(&self) -> Result<(), c_int>;
    unsafe fn start_send(&self, bytes: *const u8, length: c_int, to: c_int) -> Result<Request, c_int>;
    unsafe fn start_receive(&self, bytes: *mut u8, length: c_int, from: c_int) -> Result<Request, c_int>;
    unsafe fn test(&self, request: &mut Request) -> Result<bool, c_int>;
    unsafe fn all_reduce(&self, values: *mut c_void, length: c_int, element: usize) -> Result<(), c_int>;
    unsafe fn text_of(&self, code: c_int, text: *mut c_char, length: *mut c_int);
    unsafe fn finalize(&self) -> Result<(), c_int>;
}

struct Table<H> {
    functions: Functions<H>,
    constants: Constants,
}

fn checked(code: c_int) -> Result<(), c_int> {
    if code == SUCCESS { Ok(()) } else { Err(code) }
}

// SAFETY of all of these: the signatures are those of the MPI standard, the handles those of the library's family. A
// caller keeps buffers alive as long as the standard asks, and calls from one thread.
impl<H: Handle> Calls for Table<H> {
    unsafe fn init(&self) -> Result<c_int, c_int> {
        let mut provided = 0;
        // SAFETY: as above; MPI takes no arguments of the command line when both pointers are null.
        let code = unsafe {
            (self.functions.init_thread)(ptr::null_mut(), ptr::null_mut(), self.constants.funneled, &raw mut provided)
        };
        checked(code).map(|()| provided)
    }

    unsafe fn place(&self, world: usize) -> Result<(usize, usize), c_int> {
        let (mut rank, mut size) = (0, 0);
        // SAFETY: as above.
        unsafe {
            checked((self.functions.comm_rank)(H::of_bits(world), &raw mut rank))?;
            checked((self.functions.comm_size)(H::of_bits(world), &raw mut size))?;
        }
        Ok((rank as usize, size as usize))
    }

    unsafe fn split_shared(&self) -> Result<usize, c_int> {
        let constants = &self.constants;
        let mut part = H::of_bits(0);
        let (world, info) = (H::of_bits(constants.world), H::of_bits(constants.info_null));
        // SAFETY: as above.
        let code = unsafe { (self.functions.comm_split_type)(world, constants.shared, 0, info, &raw mut part) };
        checked(code).map(|()| part.to_bits())
    }

    unsafe fn return_errors(&self) -> Result<(), c_int> {
        let (world, handler) = (H::of_bits(self.constants.world), H::of_bits(self.constants.errors_return));
        // SAFETY: as above.
        checked(unsafe { (self.functions.comm_set_errhandler)(world, handler) })
    }

    unsafe fn start_send(&self, bytes: *const u8, length: c_int, to: c_int) -> Result<Request, c_int> {
        let mut request = H::of_bits(0);
        let (world, byte) = (H::of_bits(self.constants.world), H::of_bits(self.constants.byte));
        // SAFETY: as above.
        let code = unsafe { (self.functions.isend)(bytes.cast(), length, byte, to, TAG, world, &raw mut request) };
        checked(code).map(|()| Request(request.to_bits()))
    }

    unsafe fn start_receive(&self, bytes: *mut u8, length: c_int, from: c_int) -> Result<Request, c_int> {
        let mut request = H::of_bits(0);
        let (world, byte) = (H::of_bits(self.constants.world), H::of_bits(self.constants.byte));
        // SAFETY: as above.
        let code = unsafe { (self.functions.irecv)(bytes.cast(), length, byte, from, TAG, world, &raw mut request) };
        checked(code).map(|()| Request(request.to_bits()))
    }

    unsafe fn test(&self, request: &mut Request) -> Result<bool, c_int> {
        let mut handle = H::of_bits(request.0);
        let mut has_arrived = 0;
        let status = ptr::without_provenance_mut(self.constants.status_ignore);
        // SAFETY: as above.
        let code = unsafe { (self.functions.test)(&raw mut handle, &raw mut has_arrived, status) };
        *request = Request(handle.to_bits());
        checked(code).map(|()| has_arrived != 0)
    }

    unsafe fn all_reduce(&self, values: *mut c_void, length: c_int, element: usize) -> Result<(), c_int> {
        let constants = &self.constants;
        let in_place = ptr::without_provenance(constants.in_place);
        let (element, sum) = (H::of_bits(element), H::of_bits(constants.sum));
        // SAFETY: as above.
        checked(unsafe {
            (self.functions.allreduce)(in_place, values, length, element, sum, H::of_bits(constants.world))
        })
    }

    unsafe fn text_of(&self, code: c_int, text: *mut c_char, length: *mut c_int) {
        // SAFETY: as above.
        unsafe { (self.functions.error_string)(code, text, length) };
    }

    unsafe fn finalize(&self) -> Result<(), c_int> {
        // SAFETY: as above.
        checked(unsafe { (self.functions.finalize)() })
    }
}

/// Waiting for others: for a moment at full speed, since messages usually arrive within microseconds; then giving way to
/// other threads; then asleep, so that the processes that still compute have the cores.
#[derive(Default)]
struct Wait {
    started: Option<Instant>,
}

const SPIN: Duration = Duration::from_micros(30);
const YIELD: Duration = Duration::from_millis(2);
const SLEEP: Duration = Duration::from_micros(50);

impl Wait {
    fn pause(&mut self) {
        let elapsed = self.started.get_or_insert_with(Instant::now).elapsed();
        if elapsed < SPIN {
            std::hint::spin_loop();
        } else if elapsed < YIELD {
            thread::yield_now();
        } else {
            thread::sleep(SLEEP);
        }
    }
}

/// An opened and initialized MPI library. It is neither `Send` nor `Sync`: only the thread that initialized MPI may call
/// it.
pub(crate) struct Mpi {
    calls: Box<dyn Calls>,
    world: usize,
    float: usize,
    double: usize,
    pub(crate) library: super::Library,
}

impl fmt::Debug for Mpi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mpi").field("library", &self.library).finish_non_exhaustive()
    }
}

impl Mpi {
    /// Opens the first MPI library there is, and initializes it if `check` agrees. Call it once in a process, from the
    /// thread that trains.
    ///
    /// # Errors
    /// No library, one of an unknown kind, one without support for threads; an error of MPI or of `check`.
    pub(crate) fn open(check: &dyn Fn(&super::Library) -> Result<()>) -> Result<Self> {
        if let Some(why) = opening_impossible() {
            return Err(failure(why, "use the binary for glibc, or train in one process"));
        }
        let (library, path) = open_first()?;
        let version = version(&library, &path)?;
        let family = Family::of(&file_name(Path::new(&path)), &version)?;
        let constants = match family {
            Family::OpenMpi => open_mpi_constants(&library, &path)?,
            Family::Mpich => MPICH,
            Family::Standard => STANDARD,
        };
        let Constants { world, float, double, funneled, .. } = constants;
        let calls: Box<dyn Calls> = match family {
            Family::Mpich => Box::new(Table::<c_int> { functions: functions(&library, &path)?, constants }),
            _ => Box::new(Table::<*mut c_void> { functions: functions(&library, &path)?, constants }),
        };
        // Its functions are called as long as the process lives.
        std::mem::forget(library);
        let library = super::Library { path, version: first_line(&version).to_owned() };
        check(&library)?;
        let mpi = Self { calls, world, float, double, library };
        // SAFETY: MPI is initialized once, by this thread.
        let provided = unsafe { mpi.calls.init() };
        let provided = provided.map_err(|code| mpi.error("MPI cannot be initialized", code))?;
        if provided < funneled {
            return Err(failure(
                format!("{} does not allow a program with threads (MPI_THREAD_FUNNELED)", mpi.library.version),
                format!("set {LIBRARY_VARIABLE} to an MPI library that was built with support for threads"),
            ));
        }
        // SAFETY: MPI is initialized.
        unsafe { mpi.calls.return_errors() }.map_err(|code| mpi.error("MPI cannot be set up", code))?;
        Ok(mpi)
    }

    /// Rank and size among all processes.
    pub(crate) fn place(&self) -> Result<(usize, usize)> {
        // SAFETY: MPI is initialized.
        unsafe { self.calls.place(self.world) }
            .map_err(|code| self.error("MPI does not say which process this is", code))
    }

    /// Rank and size among the processes of this machine. It waits for all processes.
    pub(crate) fn place_here(&self) -> Result<(usize, usize)> {
        // SAFETY: MPI is initialized, and the communicator is the one that was just made.
        let place = unsafe { self.calls.split_shared().and_then(|part| self.calls.place(part)) };
        place.map_err(|code| self.error("MPI does not say which processes are on this machine", code))
    }

    /// Sends bytes to one process and receives from another; an empty slice is no message. Runs `meanwhile` once both
    /// are on their way, then waits for them; asks `check` again and again.
    ///
    /// # Errors
    /// Those of `check` and of MPI. No other function may be called then.
    pub(crate) fn swap(
        &self,
        send: (usize, &[u8]),
        receive: (usize, &mut [u8]),
        meanwhile: &mut dyn FnMut(),
        check: &dyn Fn() -> Result<()>,
    ) -> Result<()> {
        let (to, send) = send;
        let (from, receive) = receive;
        // SAFETY: both buffers are borrowed until this function returns. It returns after both messages have arrived, or
        // with an error, after which MPI is not called again and so does not touch the buffers.
        let (mut receiving, mut sending) = unsafe {
            let receiving = (!receive.is_empty())
                .then(|| self.calls.start_receive(receive.as_mut_ptr(), count(receive.len()), count(from)))
                .transpose()
                .map_err(|code| self.error(format!("receiving from process {from} failed"), code))?;
            let sending = (!send.is_empty())
                .then(|| self.calls.start_send(send.as_ptr(), count(send.len()), count(to)))
                .transpose()
                .map_err(|code| self.error(format!("sending to process {to} failed"), code))?;
            (receiving, sending)
        };
        meanwhile();
        let mut wait = Wait::default();
        loop {
            self.test(&mut receiving, from)?;
            self.test(&mut sending, to)?;
            if receiving.is_none() && sending.is_none() {
                return Ok(());
            }
            check()?;
            wait.pause();
        }
    }

    /// Forgets the request if its message has arrived.
    fn test(&self, request: &mut Option<Request>, partner: usize) -> Result<()> {
        if let Some(started) = request {
            // SAFETY: the request was started and has not arrived.
            let has_arrived = unsafe { self.calls.test(started) };
            if has_arrived.map_err(|code| self.error(format!("the exchange with process {partner} failed"), code))? {
                *request = None;
            }
        }
        Ok(())
    }

    /// Sums in whatever order MPI likes.
    pub(crate) fn all_reduce_f32(&self, values: &mut [f32]) -> Result<()> {
        // SAFETY: so many numbers of this type can be read and written.
        let done = unsafe { self.calls.all_reduce(values.as_mut_ptr().cast(), count(values.len()), self.float) };
        done.map_err(|code| self.error("the sum over all processes failed", code))
    }

    /// Sums in whatever order MPI likes.
    pub(crate) fn all_reduce_f64(&self, values: &mut [f64]) -> Result<()> {
        // SAFETY: so many numbers of this type can be read and written.
        let done = unsafe { self.calls.all_reduce(values.as_mut_ptr().cast(), count(values.len()), self.double) };
        done.map_err(|code| self.error("the sum over all processes failed", code))
    }

    /// Ends MPI. No other function may be called afterwards.
    pub(crate) fn finalize(&self) -> Result<()> {
        // SAFETY: MPI is initialized, and the one owner of this value calls it last.
        unsafe { self.calls.finalize() }.map_err(|code| self.error("MPI cannot be ended", code))
    }

    fn error(&self, what: impl fmt::Display, code: c_int) -> anyhow::Error {
        let mut text = [0_u8; TEXT_BYTES + 1];
        let mut length = 0;
        // SAFETY: there is room for the longest text of any family.
        unsafe { self.calls.text_of(code, text.as_mut_ptr().cast(), &raw mut length) };
        let text = text_of(&text, length);
        let cause = anyhow::anyhow!("{} says: {}", self.library.version, text.trim());
        with_hint(cause.context(what.to_string()), "run `mpirun -n 2 hostname` to see whether MPI itself works")
    }
}

fn open_first() -> Result<(Library, String)> {
    let candidates = installed_libraries(&|name| env::var_os(name));
    let mut refusals = Vec::new();
    for path in &candidates {
        // SAFETY: opening an MPI library runs its initializers, which any process may run; its plug-ins need its symbols
        // to be global.
        match unsafe { Library::open(Some(path), RTLD_NOW | RTLD_GLOBAL) } {
            Ok(library) => return Ok((library, path.display().to_string())),
            Err(error) => refusals.push(error.to_string()),
        }
    }
    if env::var_os(LIBRARY_VARIABLE).is_some_and(|named| !named.is_empty()) {
        return Err(failure(
            format!("the MPI library that {LIBRARY_VARIABLE} names cannot be opened: {}", refusals.join("; ")),
            format!("set {LIBRARY_VARIABLE} to a file such as /usr/lib/x86_64-linux-gnu/libmpi.so.40, or unset it"),
        ));
    }
    // A library that is there and cannot be opened says more than all that are absent.
    let broken = refusals.iter().find(|refusal| !refusal.contains("No such file"));
    let found = broken.cloned().unwrap_or_else(|| {
        let names: Vec<String> = candidates.iter().map(|path| path.display().to_string()).collect();
        format!("none of {} is there", names.join(", "))
    });
    Err(failure(
        format!("no MPI library can be opened: {found}"),
        format!("{}; or set {LIBRARY_VARIABLE} to the library", HOW_TO_INSTALL),
    ))
}

/// What the library says of itself. It may be asked before MPI is initialized, and in every family the same way.
fn version(library: &Library, path: &str) -> Result<String> {
    let get: GetText = function(library, path, "MPI_Get_library_version")?;
    let mut text = [0_u8; TEXT_BYTES + 1];
    let mut length = 0;
    // SAFETY: there is room for the longest version of any family.
    unsafe { get(text.as_mut_ptr().cast(), &raw mut length) };
    Ok(text_of(&text, length))
}

fn text_of(bytes: &[u8], length: c_int) -> String {
    let length = usize::try_from(length).unwrap_or_default().min(bytes.len());
    let text = &bytes[..length];
    let end = text.iter().position(|&byte| byte == 0).unwrap_or(length);
    String::from_utf8_lossy(&text[..end]).into_owned()
}

fn functions<H>(library: &Library, path: &str) -> Result<Functions<H>> {
    Ok(Functions {
        init_thread: function(library, path, "MPI_Init_thread")?,
        comm_rank: function(library, path, "MPI_Comm_rank")?,
        comm_size: function(library, path, "MPI_Comm_size")?,
        comm_split_type: function(library, path, "MPI_Comm_split_type")?,
        comm_set_errhandler: function(library, path, "MPI_Comm_set_errhandler")?,
        isend: function(library, path, "MPI_Isend")?,
        irecv: function(library, path, "MPI_Irecv")?,
        test: function(library, path, "MPI_Test")?,
        allreduce: function(library, path, "MPI_Allreduce")?,
        error_string: function(library, path, "MPI_Error_string")?,
        finalize: function(library, path, "MPI_Finalize")?,
    })
}

/// A function of the library. `F` is its type in C.
fn function<F: Copy>(library: &Library, path: &str, name: &str) -> Result<F> {
    // SAFETY: callers name a function of the MPI standard and its type.
    let found = unsafe { library.get::<F>(name) };
    found.map(|symbol| *symbol).map_err(|_| lacks(path, name))
}

/// The addresses of Open MPI's predefined objects are its handles.
fn open_mpi_constants(library: &Library, path: &str) -> Result<Constants> {
    let address = |name: &str| {
        // SAFETY: only the address of the variable is taken.
        let found = unsafe { library.get::<*mut c_void>(name) };
        found.map(|symbol| symbol.as_raw_ptr().expose_provenance()).map_err(|_| lacks(path, name))
    };
    Ok(Constants {
        world: address("ompi_mpi_comm_world")?,
        byte: address("ompi_mpi_byte")?,
        float: address("ompi_mpi_float")?,
        double: address("ompi_mpi_double")?,
        sum: address("ompi_mpi_op_sum")?,
        errors_return: address("ompi_mpi_errors_return")?,
        info_null: address("ompi_mpi_info_null")?,
        in_place: 1,
        status_ignore: 0,
        shared: 0,
        funneled: 1,
    })
}

fn lacks(path: &str, name: &str) -> anyhow::Error {
    failure(
        format!("the MPI library {path} lacks {name}"),
        format!("set {LIBRARY_VARIABLE} to the library of Open MPI 4 or later, or of MPICH 3 or later"),
    )
}

/// A number as MPI takes it. Messages have bounded lengths.
fn count(number: usize) -> c_int {
    c_int::try_from(number).expect("lengths and ranks fit a C integer")
}
