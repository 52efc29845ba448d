//! Memory for whole chunks, used again and again: fresh memory of this size costs the kernel a fault and a cleared
//! page every four kibibytes. It comes from the system in pieces of its own: an allocator that has several heaps for its
//! threads keeps what was freed in each.

use std::{
    alloc::Layout,
    ops::{Deref, DerefMut},
    sync::{Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use memmap2::MmapMut;
use p2p_protocol::limits::{CONNECTION_WINDOW, GROUP_LEN};

/// Bytes that are kept for later, as many as one transfer may have in use: with less, chunks come and go at the system's
/// allocator, which holds on to several times as much.
const KEPT: usize = CONNECTION_WINDOW as usize;

static FREE: Mutex<Free> = Mutex::new(Free { buffers: Vec::new(), bytes: 0 });

/// What nobody uses now.
struct Free {
    buffers: Vec<MmapMut>,
    bytes: usize,
}

/// Some bytes. What is in them at first is left from their last use, or zero.
#[derive(Debug)]
pub(crate) struct Buffer {
    /// None only while it is being dropped, and for no bytes.
    memory: Option<MmapMut>,
    len: usize,
}

impl Buffer {
    /// Memory for so many bytes.
    pub(crate) fn take(len: usize) -> Self {
        let mut free = lock();
        let fits = free.buffers.iter().rposition(|memory| memory.len() >= len && memory.len() / 2 <= len);
        let memory = fits.map(|at| free.buffers.swap_remove(at));
        free.bytes -= memory.as_ref().map_or(0, |memory| memory.len());
        drop(free);
        Self { memory: memory.or_else(|| map(len)), len }
    }

    /// The same bytes, to be shared. The memory is free again once the last of them is dropped.
    pub(crate) fn freeze(self) -> Bytes {
        Bytes::from_owner(self)
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let Some(memory) = self.memory.take() else { return };
        let mut free = lock();
        // What was kept longest and fits nothing makes room for what is in use.
        while free.bytes + memory.len() > KEPT && !free.buffers.is_empty() {
            free.bytes -= free.buffers.remove(0).len();
        }
        if free.bytes + memory.len() <= KEPT {
            free.bytes += memory.len();
            free.buffers.push(memory);
        }
    }
}

impl Deref for Buffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.memory.as_deref().and_then(|memory| memory.get(..self.len)).unwrap_or_default()
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        self.memory.as_deref_mut().and_then(|memory| memory.get_mut(..self.len)).unwrap_or_default()
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

/// New memory for at least so many bytes. Without any the process ends, as it does wherever else it asks for some.
fn map(len: usize) -> Option<MmapMut> {
    let len = len.next_multiple_of(GROUP_LEN as usize);
    if len == 0 {
        return None;
    }
    let Ok(memory) = MmapMut::map_anon(len) else {
        std::alloc::handle_alloc_error(Layout::new::<[u8; GROUP_LEN as usize]>())
    };
    Some(memory)
}

fn lock() -> MutexGuard<'static, Free> {
    FREE.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_comes_back_and_no_more_is_kept_than_said() {
        // Other tests use the same memory at the same time, so that only what holds for all is looked at.
        let mut buffer = Buffer::take(3_000_000);
        assert_eq!(buffer.len(), 3_000_000);
        buffer.fill(7);
        let bytes = buffer.freeze();
        let (half, same) = (bytes.slice(1_500_000..), bytes.clone());
        drop(bytes);
        assert!(half.iter().chain(&same).all(|byte| *byte == 7));
        drop((half, same));
        drop((0..40).map(|_| Buffer::take(1 << 20)).collect::<Vec<_>>());
        let free = lock();
        assert!(free.bytes <= KEPT);
        assert_eq!(free.bytes, free.buffers.iter().map(|memory| memory.len()).sum::<usize>());
    }

    #[test]
    fn a_small_need_does_not_take_a_large_buffer() {
        let (large, small) = (Buffer::take(4 << 20), Buffer::take(0));
        assert_eq!(small.len(), 0);
        drop(large);
        assert!(Buffer::take(1000).memory.as_ref().unwrap().len() <= 1 << 20);
    }
}
