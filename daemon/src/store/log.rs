//! The log of a partial's checkpoints.
//!
//! ```text
//! header   magic 8 · version 2 · chunk log2 1 · zero 1 · File ID 32 · size 8 · device 8 · inode 8 · CRC-32 4
//! record   length of payload 4 · kind 1 · payload · CRC-32 4
//! ```
//!
//! Numbers are little-endian. Device and inode are those of the data file: a log beside another file says nothing
//! about it. A record's checksum goes on from the one before it, so that nothing left over behind a record that
//! was rewritten can pass for its successor. A record that does not check ends the log.

use std::{fs::File, io};

use p2p_protocol::{ChunkSet, FileId, Geometry, limits::MAX_CHUNKS};

use super::stamp::Stamp;
use crate::disk::{Disk, read_exact, read_full, write_all};

const MAGIC: [u8; 8] = *b"p2p log\n";
const VERSION: u16 = 1;
/// Bytes of a header.
pub(super) const HEADER_LEN: usize = 72;
const CRC_LEN: usize = 4;
/// Bytes of a record in front of its payload.
const PREFIX_LEN: usize = 5;
/// Longest payload: two sets in the form that costs a bit per chunk, and what goes with them.
const MAX_PAYLOAD_LEN: usize = 2 * (MAX_CHUNKS as usize / 8 + 64 * 1024) + Stamp::LEN + 4;

/// What a log belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) file_id: FileId,
    pub(super) geometry: Geometry,
    /// Device and inode of the data file.
    pub(super) data: (u64, u64),
}

/// One entry.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Record {
    /// These chunks' data was synced.
    Durable(ChunkSet),
    /// An orderly end.
    Clean(Clean),
    /// These chunks are about to be written again, so nothing said about them holds any longer.
    Withdrawn(ChunkSet),
}

/// The state at an orderly end.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Clean {
    /// The data file after everything was written and synced.
    pub(super) stamp: Stamp,
    /// All chunks that count.
    pub(super) verified: ChunkSet,
    /// Chunks that have still to be hashed after an earlier unclean end.
    pub(super) doubtful: ChunkSet,
}

/// What was found in a log.
#[derive(Clone, Debug, Default)]
pub(super) struct Contents {
    /// `None` if it does not check; then nothing else was read.
    pub(super) header: Option<Header>,
    /// All chunks that the records name.
    pub(super) claimed: ChunkSet,
    /// The last record, if it is of an orderly end.
    pub(super) clean: Option<Clean>,
    /// Whether there is any sound record.
    pub(super) has_records: bool,
    /// Where the next record goes, and the checksum it goes on from.
    end: u64,
    crc: u32,
}

impl Header {
    fn encode(&self) -> [u8; HEADER_LEN] {
        let mut bytes = [0; HEADER_LEN];
        bytes[..8].copy_from_slice(&MAGIC);
        bytes[8..10].copy_from_slice(&VERSION.to_le_bytes());
        bytes[10] = self.geometry.chunk_log2();
        bytes[12..44].copy_from_slice(&self.file_id.0);
        bytes[44..52].copy_from_slice(&self.geometry.size().to_le_bytes());
        bytes[52..60].copy_from_slice(&self.data.0.to_le_bytes());
        bytes[60..68].copy_from_slice(&self.data.1.to_le_bytes());
        let crc = crc32fast::hash(&bytes[..HEADER_LEN - CRC_LEN]);
        bytes[HEADER_LEN - CRC_LEN..].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    fn decode(bytes: &[u8; HEADER_LEN]) -> Option<(Self, u32)> {
        let crc = crc32fast::hash(&bytes[..HEADER_LEN - CRC_LEN]);
        let number = |at: usize| {
            let mut number = [0; 8];
            number.copy_from_slice(&bytes[at..at + 8]);
            u64::from_le_bytes(number)
        };
        let sound = bytes[HEADER_LEN - CRC_LEN..] == crc.to_le_bytes()
            && bytes[..8] == MAGIC
            && bytes[8..10] == VERSION.to_le_bytes();
        if !sound {
            return None;
        }
        let mut file_id = [0; 32];
        file_id.copy_from_slice(&bytes[12..44]);
        let geometry = Geometry::new(number(44), bytes[10]).ok()?;
        Some((Self { file_id: FileId(file_id), geometry, data: (number(52), number(60)) }, crc))
    }
}

impl Record {
    fn kind(&self) -> u8 {
        match self {
            Self::Durable(_) => 1,
            Self::Clean(_) => 2,
            Self::Withdrawn(_) => 3,
        }
    }

    fn encode(&self) -> Vec<u8> {
        match self {
            Self::Durable(set) | Self::Withdrawn(set) => set.to_bytes(),
            Self::Clean(clean) => {
                let verified = clean.verified.to_bytes();
                let mut bytes = clean.stamp.to_bytes().to_vec();
                bytes.extend_from_slice(&(verified.len() as u32).to_le_bytes());
                bytes.extend_from_slice(&verified);
                bytes.extend_from_slice(&clean.doubtful.to_bytes());
                bytes
            }
        }
    }

    fn decode(kind: u8, payload: &[u8], chunks: u32) -> Option<Self> {
        match kind {
            1 => ChunkSet::from_bytes(payload, chunks).map(Self::Durable),
            2 => {
                let (stamp, rest) = payload.split_first_chunk()?;
                let (len, rest) = rest.split_first_chunk()?;
                let (verified, doubtful) = rest.split_at_checked(u32::from_le_bytes(*len) as usize)?;
                Some(Self::Clean(Clean {
                    stamp: Stamp::from_bytes(stamp),
                    verified: ChunkSet::from_bytes(verified, chunks)?,
                    doubtful: ChunkSet::from_bytes(doubtful, chunks)?,
                }))
            }
            3 => ChunkSet::from_bytes(payload, chunks).map(Self::Withdrawn),
            _ => None,
        }
    }
}

impl Contents {
    /// Reads a log up to its end or its first unsound record.
    pub(super) fn read(disk: &dyn Disk, file: &File) -> io::Result<Self> {
        let mut contents = Self::default();
        let mut header = [0; HEADER_LEN];
        if read_full(disk, file, &mut header, 0)? < HEADER_LEN {
            return Ok(contents);
        }
        let Some((header, crc)) = Header::decode(&header) else { return Ok(contents) };
        contents.header = Some(header);
        contents.end = HEADER_LEN as u64;
        contents.crc = crc;
        while let Some((record, len, crc)) = contents.next(disk, file, header.geometry.chunks())? {
            contents.end += len;
            contents.crc = crc;
            contents.has_records = true;
            contents.clean = None;
            match record {
                Record::Durable(set) => contents.claimed.union(&set),
                Record::Withdrawn(set) => contents.claimed.subtract(&set),
                Record::Clean(clean) => contents.clean = Some(clean),
            }
        }
        Ok(contents)
    }

    fn next(&self, disk: &dyn Disk, file: &File, chunks: u32) -> io::Result<Option<(Record, u64, u32)>> {
        let mut prefix = [0; PREFIX_LEN];
        if read_full(disk, file, &mut prefix, self.end)? < PREFIX_LEN {
            return Ok(None);
        }
        let [len @ .., kind] = prefix;
        let len = u32::from_le_bytes(len) as usize;
        if len > MAX_PAYLOAD_LEN {
            return Ok(None);
        }
        let mut body = vec![0; len + CRC_LEN];
        if read_full(disk, file, &mut body, self.end + PREFIX_LEN as u64)? < body.len() {
            return Ok(None);
        }
        let (payload, stored) = body.split_at(len);
        let crc = checksum(self.crc, &[&prefix, payload]);
        if stored != crc.to_le_bytes() {
            return Ok(None);
        }
        let total = (PREFIX_LEN + len + CRC_LEN) as u64;
        Ok(Record::decode(kind, payload, chunks).map(|record| (record, total, crc)))
    }
}

fn checksum(before: u32, parts: &[&[u8]]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&before.to_le_bytes());
    parts.iter().for_each(|part| hasher.update(part));
    hasher.finalize()
}

/// A log that is open for writing, and the lock of its partial with it.
#[derive(Debug)]
pub(super) struct Log {
    file: File,
    end: u64,
    crc: u32,
    /// What is in front of `end` and not known to be on the disk; it is written again with each record until one
    /// is synced.
    unsynced: Unsynced,
}

#[derive(Debug)]
enum Unsynced {
    Nothing,
    /// The header.
    Header([u8; HEADER_LEN]),
    /// All of it: what an earlier run could not sync can be read back as well as what it could.
    Everything,
}

/// Bytes of a log that are written again at once.
const BLOCK_LEN: u64 = 64 * 1024;

/// Why a record was not made durable.
#[derive(Debug)]
pub(super) enum AppendError {
    /// It could not be written; nothing is lost.
    Write(io::Error),
    /// It could not be synced.
    Sync(io::Error),
}

impl Log {
    /// Goes on behind the last sound record; what is behind that is cut off.
    pub(super) fn resume(disk: &dyn Disk, file: File, contents: &Contents) -> io::Result<Self> {
        if file.metadata()?.len() > contents.end {
            disk.set_len(&file, contents.end)?;
        }
        Ok(Self { file, end: contents.end, crc: contents.crc, unsynced: Unsynced::Everything })
    }

    /// Starts over. Whatever it said before is gone, durably, before anything else is written.
    pub(super) fn reset(disk: &dyn Disk, file: File, header: &Header) -> io::Result<Self> {
        if file.metadata()?.len() > 0 {
            disk.set_len(&file, 0)?;
            disk.sync_all(&file)?;
        }
        let header = header.encode();
        let crc = crc32fast::hash(&header[..HEADER_LEN - CRC_LEN]);
        Ok(Self { file, end: HEADER_LEN as u64, crc, unsynced: Unsynced::Header(header) })
    }

    /// Appends a record and makes it durable. After a failure the next one is written in its place.
    pub(super) fn append(&mut self, disk: &dyn Disk, record: &Record) -> Result<(), AppendError> {
        let payload = record.encode();
        let mut bytes = Vec::with_capacity(HEADER_LEN + PREFIX_LEN + payload.len() + CRC_LEN);
        match &self.unsynced {
            Unsynced::Nothing => {}
            Unsynced::Header(header) => bytes.extend_from_slice(header),
            Unsynced::Everything => self.write_again(disk).map_err(AppendError::Write)?,
        }
        let start = bytes.len();
        bytes.extend_from_slice(&(payload.len() as u32).to_le_bytes());
        bytes.push(record.kind());
        bytes.extend_from_slice(&payload);
        let crc = checksum(self.crc, &[&bytes[start..]]);
        bytes.extend_from_slice(&crc.to_le_bytes());
        write_all(disk, &self.file, &bytes, self.end - start as u64).map_err(AppendError::Write)?;
        disk.sync_data(&self.file).map_err(AppendError::Sync)?;
        self.end += (bytes.len() - start) as u64;
        self.crc = crc;
        self.unsynced = Unsynced::Nothing;
        Ok(())
    }

    fn write_again(&self, disk: &dyn Disk) -> io::Result<()> {
        for start in (0..self.end).step_by(BLOCK_LEN as usize) {
            let mut block = vec![0; BLOCK_LEN.min(self.end - start) as usize];
            read_exact(disk, &self.file, &mut block, start)?;
            write_all(disk, &self.file, &block, start)?;
        }
        Ok(())
    }
}

impl AppendError {
    /// The operating system's word.
    pub(super) fn into_io(self) -> io::Error {
        match self {
            Self::Write(error) | Self::Sync(error) => error,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt;

    use super::*;
    use crate::disk::System;

    fn header(of: u8) -> Header {
        let geometry = Geometry::new(5 << 18, 18).unwrap();
        Header { file_id: FileId([of; 32]), geometry, data: (1, of.into()) }
    }

    /// A log with two records.
    fn written() -> File {
        let file = tempfile::tempfile().unwrap();
        let mut log = Log::reset(&System, file.try_clone().unwrap(), &header(1)).unwrap();
        for chunk in [0, 3] {
            log.append(&System, &Record::Durable([chunk].into_iter().collect())).unwrap();
        }
        file
    }

    fn len(file: &File) -> u64 {
        file.metadata().unwrap().len()
    }

    #[test]
    fn the_longest_record_is_read_and_nothing_that_is_much_longer() {
        // No form of a set is longer than one bit for each chunk and what says so.
        let every_other: ChunkSet = (0..MAX_CHUNKS as u32).step_by(2).collect();
        let clean = Clean {
            stamp: Stamp { dev: 1, ino: 2, size: 3, mtime_ns: 4, ctime_ns: 5 },
            verified: every_other.clone(),
            doubtful: every_other,
        };
        let longest = Record::Clean(clean).encode().len();
        assert!(longest <= MAX_PAYLOAD_LEN && longest > MAX_PAYLOAD_LEN / 10 * 9, "{longest}");
    }

    #[test]
    fn what_is_behind_the_last_sound_record_is_cut_off() {
        let file = written();
        let end = len(&file);
        file.write_all_at(&[7; 100], end).unwrap();
        let contents = Contents::read(&System, &file).unwrap();
        assert_eq!(contents.end, end);
        Log::resume(&System, file.try_clone().unwrap(), &contents).unwrap();
        assert_eq!(len(&file), end);
    }

    #[test]
    fn a_log_that_starts_over_says_nothing_at_once() {
        let file = written();
        let log = Log::reset(&System, file.try_clone().unwrap(), &header(2)).unwrap();
        assert_eq!((len(&file), log.end), (0, HEADER_LEN as u64));
    }
}
