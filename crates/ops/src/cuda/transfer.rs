//! Copies between host memory and the GPU without waiting: through pinned memory, input on a stream of its own while
//! the GPU computes.
//!
//! cudarc orders nothing here, because its events are off. Each copy has an event of its own, and pinned memory is
//! neither read nor written nor freed before that event.
#![expect(unsafe_code, reason = "memory that the GPU reads and writes by itself")]

use std::sync::{Arc, Condvar, Mutex, PoisonError};

use candle_core::cuda_backend::WrapErr as _;
use candle_core::cuda_backend::cudarc::driver::{
    CudaEvent, CudaSlice, CudaStream, DevicePtr as _, DeviceRepr, PinnedHostSlice, ValidAsZeroBits, result, sys,
};
use candle_core::{CudaDevice, Result};

/// Host memory that the GPU can read and write by itself, filled with zeros.
fn pinned<T: DeviceRepr + ValidAsZeroBits + Default>(device: &CudaDevice, len: usize) -> Result<PinnedHostSlice<T>> {
    // SAFETY: it is filled before anything reads it. Without flags the processor reads and writes it through its
    // caches.
    let mut host = unsafe { device.cuda_stream().context().alloc_pinned_with_flags::<T>(len, 0) }.w()?;
    host.as_mut_slice().w()?.fill_with(T::default);
    Ok(host)
}

/// An event that has not been recorded; a thread that waits for it sleeps.
fn event(device: &CudaDevice) -> Result<CudaEvent> {
    device.cuda_stream().context().new_event(Some(sys::CUevent_flags::CU_EVENT_BLOCKING_SYNC)).w()
}

/// Values that are copied back from the GPU.
pub(crate) struct ReadBack {
    host: PinnedHostSlice<u64>,
    copied: CudaEvent,
}

impl ReadBack {
    pub(crate) fn new(device: &CudaDevice, len: usize) -> Result<Self> {
        Ok(Self { host: pinned(device, len)?, copied: event(device)? })
    }

    /// Makes the GPU copy them after all earlier launches.
    pub(crate) fn start(&mut self, device: &CudaDevice, values: &CudaSlice<u64>) -> Result<()> {
        let stream = device.cuda_stream();
        stream.memcpy_dtoh(values, &mut self.host).w()?;
        self.copied.record(&stream).w()
    }

    /// Waits for them, not for later launches.
    pub(crate) fn wait(&self) -> Result<&[u64]> {
        self.copied.synchronize().w()?;
        self.host.as_slice().w()
    }
}

impl Drop for ReadBack {
    fn drop(&mut self) {
        // The memory is freed after this. An error has nowhere to go here, and the next call reports it again.
        let _ = self.copied.synchronize();
    }
}

/// A piece of host memory and one of GPU memory.
struct Slot {
    host: PinnedHostSlice<u8>,
    staged: CudaSlice<u8>,
    /// Recorded after the stream of copies has written `staged`.
    copied: CudaEvent,
    /// Recorded after the stream of the computation has read `staged`.
    taken: CudaEvent,
}

/// One slot is filled while another is copied and a third is read.
const MAX_SLOTS: usize = 3;

#[derive(Default)]
struct Slots {
    free: Vec<Slot>,
    made: usize,
}

/// What is copied. Each kind has its own slots, so that a short list does not wait for images.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cargo {
    /// Images or their features.
    Input,
    /// Arguments of operations that are no tensors.
    Lists,
}

/// Copies one kind of cargo to one GPU.
struct Uploader {
    device: CudaDevice,
    cargo: Cargo,
    copies: Arc<CudaStream>,
    slots: Mutex<Slots>,
    returned: Condvar,
}

/// One for each GPU and cargo that this process has used.
static UPLOADERS: Mutex<Vec<Arc<Uploader>>> = Mutex::new(Vec::new());

/// Copies bytes to an address on the GPU; later launches find them there.
pub(crate) fn copy(device: &CudaDevice, cargo: Cargo, bytes: &[u8], to: u64) -> Result<()> {
    if bytes.is_empty() {
        return Ok(());
    }
    uploader(device, cargo)?.copy(bytes, to)
}

fn uploader(device: &CudaDevice, cargo: Cargo) -> Result<Arc<Uploader>> {
    let mut uploaders = UPLOADERS.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(known) = uploaders.iter().find(|known| known.device.id() == device.id() && known.cargo == cargo) {
        return Ok(Arc::clone(known));
    }
    let copies = device.cuda_stream().context().new_stream().w()?;
    let uploader =
        Arc::new(Uploader { device: device.clone(), cargo, copies, slots: Mutex::default(), returned: Condvar::new() });
    uploaders.push(Arc::clone(&uploader));
    Ok(uploader)
}

impl Uploader {
    fn copy(&self, bytes: &[u8], to: u64) -> Result<()> {
        let mut slot = self.take(bytes.len())?;
        let copied = self.copy_through(&mut slot, bytes, to);
        // Even if it failed: other threads wait for the slot.
        self.slots.lock().unwrap_or_else(PoisonError::into_inner).free.push(slot);
        self.returned.notify_one();
        copied
    }

    fn copy_through(&self, slot: &mut Slot, bytes: &[u8], to: u64) -> Result<()> {
        // Waits until the last copy out of this memory is done.
        slot.copied.synchronize().w()?;
        let host = &mut slot.host.as_mut_slice().w()?[..bytes.len()];
        host.copy_from_slice(bytes);
        self.copies.wait(&slot.taken).w()?;
        let staged = slot.staged.device_ptr(&self.copies).0;
        // SAFETY: both are live and have room for these bytes, and neither is written before `copied` is recorded.
        unsafe { result::memcpy_htod_async(staged, host, self.copies.cu_stream()) }.w()?;
        slot.copied.record(&self.copies).w()?;

        let compute = self.device.cuda_stream();
        compute.wait(&slot.copied).w()?;
        // SAFETY: both are live and have room for these bytes, and the stream orders this copy before later uses.
        unsafe { result::memcpy_dtod_async(to, staged, bytes.len(), compute.cu_stream()) }.w()?;
        slot.taken.record(&compute).w()
    }

    /// The smallest free slot with room for `bytes`; waits while other threads use all slots.
    fn take(&self, bytes: usize) -> Result<Slot> {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            let fitting = slots.free.iter().enumerate().filter(|(_, slot)| slot.host.len() >= bytes);
            if let Some(index) = fitting.min_by_key(|(_, slot)| slot.host.len()).map(|(index, _)| index) {
                return Ok(slots.free.swap_remove(index));
            }
            if slots.made < MAX_SLOTS {
                slots.made += 1;
                break;
            }
            // All free slots are too small.
            if let Some(small) = slots.free.pop() {
                drop(slots);
                self.free(small)?;
                break;
            }
            slots = self.returned.wait(slots).unwrap_or_else(PoisonError::into_inner);
        }
        self.make(bytes).inspect_err(|_| {
            self.slots.lock().unwrap_or_else(PoisonError::into_inner).made -= 1;
            self.returned.notify_one();
        })
    }

    fn make(&self, bytes: usize) -> Result<Slot> {
        // Batches differ little in size: leave room for a slightly larger one.
        let room = bytes + bytes / 4;
        Ok(Slot {
            host: pinned(&self.device, room)?,
            // SAFETY: written before it is read.
            staged: unsafe { self.copies.alloc(room) }.w()?,
            copied: event(&self.device)?,
            taken: event(&self.device)?,
        })
    }

    /// Frees a slot after its copies are done.
    fn free(&self, slot: Slot) -> Result<()> {
        slot.copied.synchronize().w()?;
        slot.taken.synchronize().w()
    }
}
