//! SQLite on the simulated disk: a VFS that hands everything to SQLite's own, and tells the disk of what changes
//! files, so that it can be counted, fail, and be lost.
//!
//! A write-ahead log's shared memory is passed through, and removed when the power fails, as after a reboot.
//! SQLite is not given a way to map its files: what is written through a mapping, nobody sees.

#![allow(unsafe_code, reason = "SQLite takes a VFS as C structures and functions")]

use std::{
    ffi::{CStr, CString, OsStr, c_char, c_int, c_void},
    fs::File,
    io,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
    ptr::null_mut,
    sync::{
        Arc, Weak,
        atomic::{AtomicU64, Ordering},
    },
};

use rusqlite::ffi::{self, sqlite3_file, sqlite3_int64, sqlite3_io_methods, sqlite3_vfs};
use rustix::{fs::OFlags, io::Errno};

use super::{Shared, State, data::Change, faults::Op, names::look};

/// Files that last: a database, its rollback journal and its write-ahead log. All others are gone when
/// SQLite has closed them.
const LASTING: c_int = ffi::SQLITE_OPEN_MAIN_DB | ffi::SQLITE_OPEN_MAIN_JOURNAL | ffi::SQLITE_OPEN_WAL;

/// A VFS, known to SQLite under a name of its own.
#[derive(Debug)]
pub(super) struct Vfs {
    name: String,
    raw: *mut sqlite3_vfs,
}

// SAFETY: the pointer is used to unregister alone, which SQLite allows from any thread.
unsafe impl Send for Vfs {}
// SAFETY: as above; through a shared reference only the name is read.
unsafe impl Sync for Vfs {}

/// What `pAppData` points at.
struct App {
    shared: Weak<Shared>,
    /// SQLite's own VFS, which is never unregistered.
    real: *mut sqlite3_vfs,
}

/// An open file, as SQLite allocates it. The first field has to be what SQLite knows.
#[repr(C)]
struct SimFile {
    known: sqlite3_file,
    open: *mut Open,
}

/// An open file, as it is needed here.
struct Open {
    shared: Arc<Shared>,
    /// Where SQLite's own VFS has its part; in words, so that it is aligned.
    real: Box<[u64]>,
    /// `None` for what does not last.
    lasting: Option<Lasting>,
}

struct Lasting {
    handle: File,
    path: PathBuf,
    /// SQLite's own VFS syncs the folder of a journal that it made, at its first sync.
    sync_folder: bool,
}

static METHODS: sqlite3_io_methods = sqlite3_io_methods {
    iVersion: 2,
    xClose: Some(close),
    xRead: Some(read),
    xWrite: Some(write),
    xTruncate: Some(truncate),
    xSync: Some(sync),
    xFileSize: Some(file_size),
    xLock: Some(lock),
    xUnlock: Some(unlock),
    xCheckReservedLock: Some(check_reserved_lock),
    xFileControl: Some(file_control),
    xSectorSize: Some(sector_size),
    xDeviceCharacteristics: Some(device_characteristics),
    xShmMap: Some(shm_map),
    xShmLock: Some(shm_lock),
    xShmBarrier: Some(shm_barrier),
    xShmUnmap: Some(shm_unmap),
    xFetch: None,
    xUnfetch: None,
};

impl Vfs {
    /// Makes a disk known to SQLite.
    pub(super) fn register(shared: &Arc<Shared>) -> Self {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let name = format!("sim-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        // A connection may outlive its disk, and keeps using these; they are small, so they are never freed.
        let known_as = CString::new(name.clone()).unwrap().into_raw();
        // SAFETY: a null name asks for the default; the answer is valid for the life of the process.
        let real = unsafe { ffi::sqlite3_vfs_find(null_mut()) };
        assert!(!real.is_null(), "SQLite has no VFS of its own");
        let app = Box::into_raw(Box::new(App { shared: Arc::downgrade(shared), real }));
        // SAFETY: not null, and SQLite's own VFS is not changed any more. What is not replaced below takes a VFS
        // argument that the system's functions do not look at, or only for its name's length.
        let mut vfs = unsafe { *real };
        vfs.szOsFile = size_of::<SimFile>() as c_int;
        vfs.pNext = null_mut();
        vfs.zName = known_as;
        vfs.pAppData = app.cast();
        vfs.xOpen = Some(open);
        vfs.xDelete = Some(delete);
        let raw = Box::into_raw(Box::new(vfs));
        // SAFETY: the structure is complete and never freed.
        let code = unsafe { ffi::sqlite3_vfs_register(raw, 0) };
        assert_eq!(code, ffi::SQLITE_OK, "SQLite does not take the VFS");
        Self { name, raw }
    }

    /// The name by which a connection finds it.
    pub(super) fn name(&self) -> &str {
        &self.name
    }
}

impl Drop for Vfs {
    fn drop(&mut self) {
        // SAFETY: it was registered, and stays allocated for connections that still have it.
        unsafe { ffi::sqlite3_vfs_unregister(self.raw) };
    }
}

/// The outcome of an operation in SQLite's terms.
fn code(outcome: io::Result<()>, failure: c_int) -> c_int {
    match outcome {
        Ok(()) => ffi::SQLITE_OK,
        Err(error) if Errno::from_io_error(&error) == Some(Errno::NOSPC) => ffi::SQLITE_FULL,
        Err(_) => failure,
    }
}

/// What SQLite's own VFS said, as something to stop with.
fn outcome(code: c_int) -> io::Result<()> {
    if code == ffi::SQLITE_OK { Ok(()) } else { Err(io::Error::other(format!("SQLite error {code}"))) }
}

/// A file's folder, opened, and its name there.
fn place(path: &Path) -> io::Result<(File, &OsStr)> {
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(Errno::INVAL.into());
    };
    Ok((File::open(folder)?, name))
}

/// # Safety
/// The VFS is one that [`Vfs::register`] made.
unsafe fn app<'a>(vfs: *mut sqlite3_vfs) -> &'a App {
    // SAFETY: `register` put it there, and it is never freed.
    unsafe { &*(*vfs).pAppData.cast::<App>() }
}

/// # Safety
/// The file was opened by [`open`] and is not closed yet.
unsafe fn opened<'a>(file: *mut sqlite3_file) -> &'a mut Open {
    // SAFETY: `open` put a box there that `close` frees, and SQLite uses a file from one thread at a time.
    unsafe { &mut *(*file.cast::<SimFile>()).open }
}

impl Open {
    /// SQLite's own file.
    fn real(&mut self) -> *mut sqlite3_file {
        self.real.as_mut_ptr().cast()
    }

    /// The functions of SQLite's own file.
    fn methods(&self) -> &sqlite3_io_methods {
        // SAFETY: the file is open, so that its first field points at its functions, which are static.
        unsafe { &*(*self.real.as_ptr().cast::<sqlite3_file>()).pMethods }
    }

    /// Counts an operation, and runs it if it does not fail. What does not last is not counted, but stops too
    /// when the program is killed.
    fn on(&self, op: Op, act: impl FnOnce(&mut State, Option<&Lasting>) -> io::Result<()>) -> io::Result<()> {
        let mut state = self.shared.lock();
        match &self.lasting {
            Some(lasting) => state.faults.enter(op, || self.shared.shown(&lasting.path))?,
            None if state.faults.is_frozen() => return Err(Errno::IO.into()),
            None => {}
        }
        act(&mut state, self.lasting.as_ref())
    }
}

unsafe extern "C" fn open(
    vfs: *mut sqlite3_vfs,
    name: ffi::sqlite3_filename,
    file: *mut sqlite3_file,
    flags: c_int,
    out_flags: *mut c_int,
) -> c_int {
    // SAFETY: SQLite calls this for a VFS that was registered here.
    let app = unsafe { app(vfs) };
    let sim: *mut SimFile = file.cast();
    // SAFETY: SQLite allocated `szOsFile` bytes; without functions, it will not close a file that failed to open.
    unsafe { (*sim).known.pMethods = std::ptr::null() };
    let Some(shared) = app.shared.upgrade() else { return ffi::SQLITE_CANTOPEN };
    // SAFETY: the default VFS is valid for the life of the process.
    let (size, real_open) = unsafe { ((*app.real).szOsFile as usize, (*app.real).xOpen) };
    let Some(real_open) = real_open else { return ffi::SQLITE_CANTOPEN };
    let mut real = vec![0_u64; size.div_ceil(8)].into_boxed_slice();
    let to: *mut sqlite3_file = real.as_mut_ptr().cast();
    // SAFETY: name and flags are what SQLite gave, and the file is as large as this VFS wants it. SQLite keeps the
    // name as long as the file is open.
    let act = || outcome(unsafe { real_open(app.real, name, to, flags, out_flags) });
    let lasting = if flags & LASTING != 0 && !name.is_null() {
        // SAFETY: not null, so SQLite gave a path that ends with a zero.
        let path = unsafe { CStr::from_ptr(name) };
        let path = PathBuf::from(OsStr::from_bytes(path.to_bytes()));
        match open_lasting(&shared, path, flags, act) {
            Ok(lasting) => Some(lasting),
            Err(_) => {
                // SAFETY: zeroed or filled in by the real VFS, which may have opened the file before the model failed.
                unsafe { close_real(to) };
                return ffi::SQLITE_CANTOPEN;
            }
        }
    } else if act().is_ok() {
        None
    } else {
        return ffi::SQLITE_CANTOPEN;
    };
    let open = Box::into_raw(Box::new(Open { shared, real, lasting }));
    // SAFETY: SQLite allocated it, for this.
    unsafe {
        (*sim).open = open;
        (*sim).known.pMethods = &raw const METHODS;
    }
    ffi::SQLITE_OK
}

/// # Safety
/// Either zeroed or opened by SQLite's own VFS.
unsafe fn close_real(file: *mut sqlite3_file) -> c_int {
    // SAFETY: an open file's functions are static.
    let methods = unsafe { (*file).pMethods.as_ref() };
    match methods.and_then(|methods| methods.xClose) {
        // SAFETY: it is open.
        Some(close) => unsafe { close(file) },
        None => ffi::SQLITE_OK,
    }
}

fn open_lasting(
    shared: &Shared,
    path: PathBuf,
    flags: c_int,
    act: impl FnOnce() -> io::Result<()>,
) -> io::Result<Lasting> {
    let mut state = shared.lock();
    let (folder, name) = place(&path)?;
    let makes = flags & ffi::SQLITE_OPEN_CREATE != 0 && look(&folder, name)?.is_none();
    state.faults.enter(if makes { Op::DbCreate } else { Op::DbOpen }, || shared.shown(&path))?;
    if makes {
        state.model.rename(&[(&folder, name)], act)?;
    } else {
        act()?;
    }
    if flags & ffi::SQLITE_OPEN_MAIN_DB != 0 {
        let mut memory = path.clone().into_os_string();
        memory.push("-shm");
        let memory = PathBuf::from(memory);
        if !state.volatile.contains(&memory) {
            state.volatile.push(memory);
        }
    }
    let how = OFlags::RDWR | OFlags::CLOEXEC;
    let handle = rustix::fs::openat(&folder, name, how, rustix::fs::Mode::empty())?.into();
    let sync_folder = makes && flags & ffi::SQLITE_OPEN_MAIN_DB == 0;
    Ok(Lasting { handle, path, sync_folder })
}

unsafe extern "C" fn delete(vfs: *mut sqlite3_vfs, name: *const c_char, sync_dir: c_int) -> c_int {
    // SAFETY: SQLite calls this for a VFS that was registered here.
    let app = unsafe { app(vfs) };
    let Some(shared) = app.shared.upgrade() else { return ffi::SQLITE_IOERR_DELETE };
    // SAFETY: SQLite gives a path that ends with a zero.
    let path = unsafe { CStr::from_ptr(name) };
    let path = Path::new(OsStr::from_bytes(path.to_bytes()));
    let mut said = ffi::SQLITE_OK;
    let mut delete = || {
        let mut state = shared.lock();
        let (folder, file) = place(path)?;
        state.faults.enter(Op::DbDelete, || shared.shown(path))?;
        state.model.rename(&[(&folder, file)], || {
            // SAFETY: the default VFS is valid for the life of the process, and the path is SQLite's.
            said = match unsafe { (*app.real).xDelete } {
                // SAFETY: as above.
                Some(delete) => unsafe { delete(app.real, name, sync_dir) },
                None => ffi::SQLITE_ERROR,
            };
            outcome(said)
        })?;
        if sync_dir != 0 && !state.faults.lies { state.model.folder_synced(&folder) } else { Ok(()) }
    };
    match delete() {
        Err(_) if said != ffi::SQLITE_OK => said,
        done => code(done, ffi::SQLITE_IOERR_DELETE),
    }
}

unsafe extern "C" fn close(file: *mut sqlite3_file) -> c_int {
    // SAFETY: SQLite closes what `open` opened, once.
    let mut open = unsafe { Box::from_raw((*file.cast::<SimFile>()).open) };
    // SAFETY: it is open, and not used afterwards.
    unsafe { close_real(open.real()) }
}

unsafe extern "C" fn read(file: *mut sqlite3_file, to: *mut c_void, len: c_int, at: sqlite3_int64) -> c_int {
    // SAFETY: SQLite reads from a file that is open.
    let open = unsafe { opened(file) };
    let allowed = open.on(Op::DbRead, |_, _| Ok(()));
    match (allowed, open.methods().xRead) {
        // SAFETY: the arguments are SQLite's.
        (Ok(()), Some(read)) => unsafe { read(open.real(), to, len, at) },
        _ => ffi::SQLITE_IOERR_READ,
    }
}

unsafe extern "C" fn write(
    file: *mut sqlite3_file,
    from: *const c_void,
    len: c_int,
    at: sqlite3_int64,
) -> c_int {
    // SAFETY: SQLite writes to a file that is open.
    let open = unsafe { opened(file) };
    let (real, xwrite) = (open.real(), open.methods().xWrite);
    let Some(xwrite) = xwrite else { return ffi::SQLITE_IOERR_WRITE };
    // SAFETY: SQLite gives this many bytes.
    let bytes = unsafe { std::slice::from_raw_parts(from.cast::<u8>(), len as usize) };
    // SAFETY: the arguments are SQLite's.
    let act = || outcome(unsafe { xwrite(real, from, len, at) }).map(|()| bytes.len());
    let done = open.on(Op::DbWrite, |state, lasting| match lasting {
        Some(lasting) => state.write(&lasting.handle, bytes, at as u64, act).map(|_| ()),
        None => act().map(|_| ()),
    });
    code(done, ffi::SQLITE_IOERR_WRITE)
}

unsafe extern "C" fn truncate(file: *mut sqlite3_file, len: sqlite3_int64) -> c_int {
    // SAFETY: SQLite cuts a file that is open.
    let open = unsafe { opened(file) };
    let (real, xtruncate) = (open.real(), open.methods().xTruncate);
    let Some(xtruncate) = xtruncate else { return ffi::SQLITE_IOERR_TRUNCATE };
    // SAFETY: the arguments are SQLite's.
    let act = || outcome(unsafe { xtruncate(real, len) });
    let done = open.on(Op::DbTruncate, |state, lasting| match lasting {
        Some(lasting) => {
            let change = Change::SetLen(len as u64);
            state.model.change(&lasting.handle, &change, || {
                act()?;
                Ok(((), Some(Change::SetLen(len as u64))))
            })
        }
        None => act(),
    });
    code(done, ffi::SQLITE_IOERR_TRUNCATE)
}

unsafe extern "C" fn sync(file: *mut sqlite3_file, flags: c_int) -> c_int {
    // SAFETY: SQLite syncs a file that is open.
    let open = unsafe { opened(file) };
    let (real, xsync) = (open.real(), open.methods().xSync);
    let Some(xsync) = xsync else { return ffi::SQLITE_IOERR_FSYNC };
    let done = open.on(Op::DbSync, |state, lasting| {
        // SAFETY: the arguments are SQLite's.
        outcome(unsafe { xsync(real, flags) })?;
        let Some(lasting) = lasting.filter(|_| !state.faults.lies) else { return Ok(()) };
        state.model.synced(&lasting.handle, false)?;
        if lasting.sync_folder { state.model.folder_synced(place(&lasting.path)?.0) } else { Ok(()) }
    });
    if let Some(lasting) = &mut open.lasting {
        if done.is_ok() {
            lasting.sync_folder = false;
        } else {
            let state = &mut *open.shared.lock();
            // What cannot even be told to the model was not durable before, and is not now.
            if !state.faults.is_frozen() {
                let _ = state.model.sync_failed(&lasting.handle, &mut state.rng);
            }
        }
    }
    code(done, ffi::SQLITE_IOERR_FSYNC)
}

/// Functions that are SQLite's own, for a file of its own.
macro_rules! passed_on {
    ($($name:ident => $method:ident($($argument:ident: $type:ty),*) or $default:expr;)*) => {$(
        unsafe extern "C" fn $name(file: *mut sqlite3_file $(, $argument: $type)*) -> c_int {
            // SAFETY: SQLite calls this for a file that is open.
            let open = unsafe { opened(file) };
            match open.methods().$method {
                // SAFETY: the arguments are SQLite's.
                Some(method) => unsafe { method(open.real() $(, $argument)*) },
                None => $default,
            }
        }
    )*};
}

passed_on! {
    file_size => xFileSize(to: *mut sqlite3_int64) or ffi::SQLITE_IOERR_FSTAT;
    lock => xLock(level: c_int) or ffi::SQLITE_OK;
    unlock => xUnlock(level: c_int) or ffi::SQLITE_OK;
    check_reserved_lock => xCheckReservedLock(to: *mut c_int) or ffi::SQLITE_IOERR_CHECKRESERVEDLOCK;
    file_control => xFileControl(what: c_int, argument: *mut c_void) or ffi::SQLITE_NOTFOUND;
    sector_size => xSectorSize() or 0;
    device_characteristics => xDeviceCharacteristics() or 0;
    shm_map => xShmMap(page: c_int, size: c_int, extend: c_int, to: *mut *mut c_void) or ffi::SQLITE_IOERR_SHMMAP;
    shm_lock => xShmLock(offset: c_int, count: c_int, flags: c_int) or ffi::SQLITE_IOERR_SHMLOCK;
}

unsafe extern "C" fn shm_barrier(file: *mut sqlite3_file) {
    // SAFETY: SQLite calls this for a file that is open.
    let open = unsafe { opened(file) };
    if let Some(barrier) = open.methods().xShmBarrier {
        // SAFETY: it is open.
        unsafe { barrier(open.real()) }
    }
}

unsafe extern "C" fn shm_unmap(file: *mut sqlite3_file, delete: c_int) -> c_int {
    // SAFETY: SQLite calls this for a file that is open.
    let open = unsafe { opened(file) };
    // A program that was killed removes nothing.
    let delete = if open.shared.lock().faults.is_frozen() { 0 } else { delete };
    match open.methods().xShmUnmap {
        // SAFETY: the arguments are SQLite's, but for the removal.
        Some(unmap) => unsafe { unmap(open.real(), delete) },
        None => ffi::SQLITE_OK,
    }
}
