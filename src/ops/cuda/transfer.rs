//! Input on its way to the GPU: through pinned memory on a stream of its own, beside what the GPU computes.
#![expect(unsafe_code, reason = "memory that the GPU reads and writes by itself")]

use std::sync::{Arc, Mutex, PoisonError};

use candle_core::cuda_backend::WrapErr as _;
use candle_core::cuda_backend::cudarc::driver::{
    CudaEvent, CudaSlice, CudaStream, DevicePtr as _, DeviceRepr, PinnedHostSlice, ValidAsZeroBits, result,
};
use candle_core::{CudaDevice, DType, Result, Shape, Tensor, bail};

use super::array::Buffer;

/// Values of this machine that the GPU can read and write by itself. They are zeros at first: memory is not cleared by
/// the driver.
pub(crate) fn pinned<T: DeviceRepr + ValidAsZeroBits + Default>(
    device: &CudaDevice,
    len: usize,
) -> Result<PinnedHostSlice<T>> {
    // SAFETY: it is filled before anything reads it. Without flags: the processor reads and writes it through its caches.
    let mut host = unsafe { device.cuda_stream().context().alloc_pinned_with_flags::<T>(len, 0) }.w()?;
    host.as_mut_slice().w()?.fill_with(T::default);
    Ok(host)
}

/// A piece of memory on both sides.
struct Slot {
    host: PinnedHostSlice<u8>,
    staged: CudaSlice<u8>,
    /// The stream of copies has written `staged`.
    copied: CudaEvent,
    /// The stream of the computation has taken what was in `staged`.
    taken: CudaEvent,
}

/// Copies input to one GPU.
struct Uploader {
    device: CudaDevice,
    copies: Arc<CudaStream>,
    free: Mutex<Vec<Slot>>,
}

/// One for each GPU that was used in this process.
static UPLOADERS: Mutex<Vec<Arc<Uploader>>> = Mutex::new(Vec::new());

/// A tensor on the GPU with these values. The caller waits for a copy within this machine alone; it may be any thread.
///
/// # Errors
/// A shape of another number of elements, no memory.
pub(crate) fn upload<T: bytemuck::Pod>(
    values: &[T],
    dtype: DType,
    shape: Shape,
    device: &CudaDevice,
) -> Result<Tensor> {
    if shape.elem_count() != values.len() || dtype.size_in_bytes() != size_of::<T>() {
        bail!("{} values cannot be a tensor {shape:?} of {dtype:?}", values.len());
    }
    let out = Buffer::new(device, dtype, values.len())?;
    let bytes: &[u8] = bytemuck::cast_slice(values);
    if !bytes.is_empty() {
        uploader(device)?.copy(bytes, out.array().address)?;
    }
    Ok(out.into_tensor(shape))
}

fn uploader(device: &CudaDevice) -> Result<Arc<Uploader>> {
    let mut uploaders = UPLOADERS.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(known) = uploaders.iter().find(|known| known.device.id() == device.id()) {
        return Ok(Arc::clone(known));
    }
    let copies = device.cuda_stream().context().new_stream().w()?;
    let uploader = Arc::new(Uploader { device: device.clone(), copies, free: Mutex::default() });
    uploaders.push(Arc::clone(&uploader));
    Ok(uploader)
}

impl Uploader {
    fn copy(&self, bytes: &[u8], to: u64) -> Result<()> {
        let mut slot = self.take(bytes.len())?;
        // The last copy out of this slot is over.
        slot.copied.synchronize().w()?;
        let host = &mut slot.host.as_mut_slice().w()?[..bytes.len()];
        host.copy_from_slice(bytes);
        self.copies.wait(&slot.taken).w()?;
        let staged = slot.staged.device_ptr(&self.copies).0;
        // SAFETY: both are live and have room for these bytes, and neither is written before `copied` has come.
        unsafe { result::memcpy_htod_async(staged, host, self.copies.cu_stream()) }.w()?;
        slot.copied.record(&self.copies).w()?;

        let compute = self.device.cuda_stream();
        compute.wait(&slot.copied).w()?;
        // SAFETY: both are live and have room for these bytes; the stream has the new tensor's memory from here on.
        unsafe { result::memcpy_dtod_async(to, staged, bytes.len(), compute.cu_stream()) }.w()?;
        slot.taken.record(&compute).w()?;
        self.free.lock().unwrap_or_else(PoisonError::into_inner).push(slot);
        Ok(())
    }

    /// The smallest free slot with so much room, or a new one.
    fn take(&self, bytes: usize) -> Result<Slot> {
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        let fitting = free.iter().enumerate().filter(|(_, slot)| slot.host.len() >= bytes);
        if let Some(index) = fitting.min_by_key(|(_, slot)| slot.host.len()).map(|(index, _)| index) {
            return Ok(free.swap_remove(index));
        }
        drop(free);
        // Batches differ little in size: room for the next larger one too.
        let room = bytes.next_power_of_two();
        let context = self.device.cuda_stream().context().clone();
        Ok(Slot {
            host: pinned(&self.device, room)?,
            // SAFETY: written before it is read.
            staged: unsafe { self.copies.alloc(room) }.w()?,
            copied: context.new_event(None).w()?,
            taken: context.new_event(None).w()?,
        })
    }
}
