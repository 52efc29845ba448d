//! One file's content on stable storage, as far as it differs from what the page cache shows.
//!
//! The file itself is the page cache. Before a page is changed for the first time since the last sync, what it
//! had is kept here; what was done to the file since is kept in order. So what is held is in proportion to what
//! is not synced, and a synced file costs nothing.

use std::{
    collections::{BTreeMap, btree_map::Entry as MapEntry},
    fs::{File, Metadata, Permissions},
    io,
    ops::Range,
    os::unix::fs::{FileExt, MetadataExt, PermissionsExt},
};

use rand::{Rng, RngExt};
use rustix::fs::{FallocateFlags, SeekFrom, Timespec, Timestamps};

use super::Loss;

/// What a page cache works in, and what a disk writes whole.
const PAGE: u64 = 4096;
const SECTOR: u64 = 512;

/// A page; `None` is a hole.
type Page = Option<Box<[u8]>>;

/// What was done to a file's data.
#[derive(Debug)]
pub(super) enum Change {
    Write { at: u64, bytes: Box<[u8]> },
    SetLen(u64),
    Punch(Range<u64>),
}

/// How much of a change reached the disk before the power failed.
enum Fate {
    Lost,
    Kept,
    /// All before this offset.
    Torn(u64),
    /// These pages, by a draw for each.
    Scattered(u64),
}

/// What is not, or not surely, on stable storage.
#[derive(Debug, Default)]
pub(super) struct Data {
    /// The durable content of pages that may differ from the file's.
    base: BTreeMap<u64, Page>,
    /// The durable length, where it may differ.
    base_len: Option<u64>,
    pending: Vec<Change>,
    /// A sync failed: what was pending then is clean in the page cache, and no later sync writes it.
    tainted: bool,
    /// Mode and times before they were changed.
    attributes: Option<Attributes>,
}

#[derive(Debug)]
struct Attributes {
    mode: u32,
    times: Timestamps,
}

impl Attributes {
    fn of(found: &Metadata) -> Self {
        let last_access = Timespec { tv_sec: found.atime(), tv_nsec: found.atime_nsec() };
        let last_modification = Timespec { tv_sec: found.mtime(), tv_nsec: found.mtime_nsec() };
        Self { mode: found.mode() & 0o7777, times: Timestamps { last_access, last_modification } }
    }

    fn set(&self, file: &File) -> io::Result<()> {
        file.set_permissions(Permissions::from_mode(self.mode))?;
        Ok(rustix::fs::futimens(file, &self.times)?)
    }
}

fn pages_of(range: &Range<u64>) -> Range<u64> {
    range.start / PAGE..range.end.div_ceil(PAGE)
}

/// The stretches of a range that are not holes.
pub(super) fn extents(file: &File, range: Range<u64>) -> Vec<Range<u64>> {
    let mut found = Vec::new();
    let mut at = range.start;
    while at < range.end {
        let Ok(start) = rustix::fs::seek(file, SeekFrom::Data(at)) else { break };
        if start >= range.end {
            break;
        }
        let end = rustix::fs::seek(file, SeekFrom::Hole(start)).unwrap_or(range.end).min(range.end);
        found.push(start..end);
        at = end;
    }
    found
}

fn read_page(file: &File, page: u64) -> io::Result<Box<[u8]>> {
    let mut bytes = vec![0; PAGE as usize].into_boxed_slice();
    let mut done = 0;
    while done < bytes.len() {
        match file.read_at(&mut bytes[done..], page * PAGE + done as u64)? {
            0 => break,
            n => done += n,
        }
    }
    Ok(bytes)
}

/// Bytes that writing this range would take from a disk that is nearly full.
pub(super) fn blocks_needed(file: &File, range: Range<u64>) -> u64 {
    let pages = pages_of(&range);
    let there: u64 = extents(file, pages.start * PAGE..pages.end * PAGE)
        .iter()
        .map(|extent| pages_of(extent).count() as u64 * PAGE)
        .sum();
    ((pages.end - pages.start) * PAGE).saturating_sub(there)
}

impl Data {
    /// Whether stable storage surely has what the file shows.
    pub(super) fn is_clean(&self) -> bool {
        self.base.is_empty() && self.base_len.is_none() && self.attributes.is_none()
    }

    /// To be called before a change: keeps what it will overwrite.
    pub(super) fn before(&mut self, file: &File, change: &Change) -> io::Result<()> {
        let len = file.metadata()?.len();
        self.base_len.get_or_insert(len);
        match change {
            Change::Write { at, bytes } => self.keep(file, *at..at + bytes.len() as u64, true),
            // Where there is a hole, the file reads the same before and after.
            Change::SetLen(new) => self.keep(file, (*new).min(len)..len, false),
            Change::Punch(range) => self.keep(file, range.clone(), false),
        }
    }

    fn keep(&mut self, file: &File, range: Range<u64>, holes_too: bool) -> io::Result<()> {
        let pages = pages_of(&range);
        for extent in extents(file, pages.start * PAGE..pages.end * PAGE) {
            for page in pages_of(&extent) {
                if let MapEntry::Vacant(free) = self.base.entry(page) {
                    free.insert(Some(read_page(file, page)?));
                }
            }
        }
        if holes_too {
            for page in pages {
                self.base.entry(page).or_insert(None);
            }
        }
        Ok(())
    }

    /// The change was made, and is not durable.
    pub(super) fn changed(&mut self, change: Change) {
        self.pending.push(change);
    }

    /// To be called before mode or times are changed.
    pub(super) fn before_attributes(&mut self, file: &File) -> io::Result<()> {
        if self.attributes.is_none() {
            self.attributes = Some(Attributes::of(&file.metadata()?));
        }
        Ok(())
    }

    /// A sync that worked.
    pub(super) fn synced(&mut self, attributes_too: bool) {
        if self.tainted {
            for change in std::mem::take(&mut self.pending) {
                self.reach(&change, &Fate::Kept);
            }
        } else {
            self.pending.clear();
            self.base.clear();
            self.base_len = None;
        }
        if attributes_too {
            self.attributes = None;
        }
    }

    /// A sync that failed. Of what was pending a part reached the disk, and the rest never will: the pages count
    /// as clean, as on Linux.
    pub(super) fn sync_failed(&mut self, rng: &mut dyn Rng) {
        for change in std::mem::take(&mut self.pending) {
            let fate = Fate::draw(&change, rng);
            self.reach(&change, &fate);
            self.tainted = true;
        }
    }

    /// A change reaches stable storage, as far as its fate says.
    fn reach(&mut self, change: &Change, fate: &Fate) {
        let len = self.base_len.get_or_insert(0);
        match (change, fate) {
            (_, Fate::Lost) => {}
            (Change::SetLen(new), _) => {
                *len = *new;
                let first = new / PAGE;
                for (page, bytes) in self.base.range_mut(first..) {
                    clear(*page, bytes, *new..u64::MAX);
                }
            }
            (Change::Punch(range), _) => {
                for (page, bytes) in self.base.range_mut(pages_of(range)) {
                    clear(*page, bytes, range.clone());
                }
            }
            (Change::Write { at, bytes }, fate) => {
                let range = *at..at + bytes.len() as u64;
                for (place, page) in pages_of(&range).enumerate() {
                    let mut part = range.start.max(page * PAGE)..range.end.min((page + 1) * PAGE);
                    match fate {
                        Fate::Torn(end) => part.end = part.end.min(*end),
                        Fate::Scattered(bits) if bits >> (place % 64) & 1 == 0 => continue,
                        _ => {}
                    }
                    if part.start >= part.end {
                        continue;
                    }
                    let target = self.base.entry(page).or_default();
                    let target = target.get_or_insert_with(|| vec![0; PAGE as usize].into_boxed_slice());
                    let from = &bytes[(part.start - at) as usize..(part.end - at) as usize];
                    let to = (part.start - page * PAGE) as usize;
                    target[to..to + from.len()].copy_from_slice(from);
                    *len = (*len).max(part.end);
                }
            }
        }
    }

    /// The power fails: makes the file what stable storage has, and touches nothing that is so already.
    pub(super) fn power_loss(mut self, file: &File, loss: Loss, rng: &mut dyn Rng) -> io::Result<()> {
        for change in std::mem::take(&mut self.pending) {
            let fate = if loss == Loss::Everything { Fate::Lost } else { Fate::draw(&change, rng) };
            self.reach(&change, &fate);
        }
        let now = file.metadata()?;
        let len = self.base_len.unwrap_or(now.len());
        if now.len() != len {
            file.set_len(len)?;
        }
        for (page, bytes) in &self.base {
            restore(file, *page, bytes.as_deref(), len)?;
        }
        match self.attributes {
            Some(before) if loss == Loss::Everything || rng.random() => before.set(file),
            _ => Ok(()),
        }
    }
}

impl Fate {
    fn draw(change: &Change, rng: &mut dyn Rng) -> Self {
        match (rng.random_range(0..6), change) {
            (0 | 1, _) => Self::Lost,
            (4, Change::Write { at, bytes }) => {
                let sectors = (bytes.len() as u64).div_ceil(SECTOR);
                let cut = at / SECTOR + rng.random_range(0..=sectors);
                Self::Torn((cut * SECTOR).max(*at))
            }
            (5, Change::Write { .. }) => Self::Scattered(rng.random()),
            _ => Self::Kept,
        }
    }
}

/// Clears the part of a page that is in a range.
fn clear(page: u64, bytes: &mut Page, range: Range<u64>) {
    let start = range.start.max(page * PAGE) - page * PAGE;
    let end = range.end.clamp(page * PAGE, (page + 1) * PAGE) - page * PAGE;
    if start >= end {
        return;
    }
    if end - start == PAGE {
        *bytes = None;
    } else if let Some(bytes) = bytes {
        bytes[start as usize..end as usize].fill(0);
    }
}

/// Makes one page of a file what it has to be.
fn restore(file: &File, page: u64, wanted: Option<&[u8]>, len: u64) -> io::Result<()> {
    let start = page * PAGE;
    let end = (start + PAGE).min(len);
    if start >= end {
        return Ok(());
    }
    let is_hole = extents(file, start..start + PAGE).is_empty();
    match wanted {
        None if is_hole => Ok(()),
        None => {
            let how = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
            Ok(rustix::fs::fallocate(file, how, start, PAGE)?)
        }
        Some(bytes) => {
            let bytes = &bytes[..(end - start) as usize];
            if is_hole || read_page(file, page)?[..bytes.len()] != *bytes {
                file.write_all_at(bytes, start)?;
            }
            Ok(())
        }
    }
}
