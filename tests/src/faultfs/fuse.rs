//! The calls of the kernel. It writes through (no write-back cache is asked for), so that what a process has written is
//! here when its call returns; what it reads and maps the kernel keeps in its page cache, as for any file system.

use std::ffi::OsStr;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, UNIX_EPOCH};

use fuser::{
    BsdFileFlags, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation, INodeNo,
    LockOwner, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory, ReplyEmpty,
    ReplyEntry, ReplyLseek, ReplyOpen, ReplyStatfs, ReplyWrite, Request, TimeOrNow, WriteFlags,
};

use super::contents::{BLOCK_BYTES, Contents, is_zeros};
use super::fault::{Call, How, Moment};
use super::names::Names;
use super::state::{Kind, Result, State};

/// Nobody else changes anything: what the kernel knows it may keep.
const TTL: Duration = Duration::from_secs(86_400);

/// fallocate's modes.
const KEEP_SIZE: i32 = 1;
const PUNCH_HOLE: i32 = 2;
const ZERO_RANGE: i32 = 16;

/// lseek's.
const SEEK_DATA: i32 = 3;
const SEEK_HOLE: i32 = 4;

/// Whether calls are done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Power {
    On,
    /// The power is gone, and the process does not know it yet: its calls wait.
    Held,
    /// Calls fail and do nothing.
    Off,
}

/// State and power, shared with the harness.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) inner: Mutex<Inner>,
    /// The power changed.
    pub(super) changed: Condvar,
}

#[derive(Debug)]
pub(super) struct Inner {
    pub(super) state: State,
    pub(super) power: Power,
    /// Calls wait from then on.
    pub(super) moment: Option<Moment>,
    /// Calls wait from the next one on.
    pub(super) now: bool,
}

impl Inner {
    /// No moment is waited for any more.
    pub(super) fn forget_moment(&mut self) {
        (self.moment, self.now) = (None, false);
    }
}

impl Shared {
    pub(super) fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The state, for a call on a file; what a fault makes of it.
    fn enter(&self, call: Call, node: INodeNo) -> Result<(MutexGuard<'_, Inner>, Option<How>)> {
        let inner = self.lock();
        let name = inner.state.name(node.0).to_owned();
        let mut inner = self.powered(inner, call, &name)?;
        let how = inner.state.call(call, node.0)?;
        Ok((inner, how))
    }

    /// The state, for a change of a name.
    fn enter_name(&self, call: Call, name: &OsStr) -> Result<MutexGuard<'_, Inner>> {
        let name = name.to_string_lossy();
        let mut inner = self.powered(self.lock(), call, &name)?;
        inner.state.call_name(call, &name)?;
        Ok(inner)
    }

    fn powered<'a>(
        &'a self,
        mut inner: MutexGuard<'a, Inner>,
        call: Call,
        name: &str,
    ) -> Result<MutexGuard<'a, Inner>> {
        if inner.power == Power::On {
            let mut now = std::mem::take(&mut inner.now);
            if let (false, Some(moment)) = (now, &mut inner.moment)
                && moment.comes_with(call, name)
            {
                let after = moment.after;
                inner.moment = None;
                inner.now = after;
                now = !after;
            }
            if now {
                inner.power = Power::Held;
                self.changed.notify_all();
            }
        }
        while inner.power == Power::Held {
            inner = self.changed.wait(inner).unwrap_or_else(PoisonError::into_inner);
        }
        if inner.power == Power::Off { Err(Errno::EIO) } else { Ok(inner) }
    }

    fn look(&self, node: INodeNo) -> Result<MutexGuard<'_, Inner>> {
        self.enter(Call::Look, node).map(|(inner, _)| inner)
    }

    fn attr(inner: &Inner, number: u64) -> Result<FileAttr> {
        let node = inner.state.node(number)?;
        let (kind, size, room) = match &node.kind {
            Kind::File(contents) => (FileType::RegularFile, contents.len(), contents.room()),
            Kind::Directory(_) => (FileType::Directory, BLOCK_BYTES, 1),
        };
        Ok(FileAttr {
            ino: INodeNo(number),
            size,
            blocks: room * (BLOCK_BYTES / 512),
            atime: UNIX_EPOCH,
            mtime: UNIX_EPOCH,
            ctime: UNIX_EPOCH,
            crtime: UNIX_EPOCH,
            kind,
            perm: node.mode,
            nlink: 1,
            uid: rustix::process::getuid().as_raw(),
            gid: rustix::process::getgid().as_raw(),
            rdev: 0,
            blksize: BLOCK_BYTES as u32,
            flags: 0,
        })
    }

    fn lookup(&self, parent: INodeNo, name: &OsStr) -> Result<FileAttr> {
        let mut inner = self.look(parent)?;
        let number = inner.state.lookup(parent.0, name)?;
        Self::attr(&inner, number)
    }

    fn make(&self, parent: INodeNo, name: &OsStr, mode: u32, kind: Kind, open: bool) -> Result<FileAttr> {
        let mut inner = self.enter_name(Call::Create, name)?;
        let number = inner.state.make(parent.0, name, mode, kind)?;
        if open {
            inner.state.open(number)?;
        }
        Self::attr(&inner, number)
    }

    fn set_len(&self, node: INodeNo, size: Option<u64>) -> Result<FileAttr> {
        let mut inner = match size {
            Some(_) => self.enter(Call::Allocate, node)?.0,
            None => self.look(node)?,
        };
        if let Some(size) = size {
            inner.state.file(node.0)?.set_len(size);
        }
        Self::attr(&inner, node.0)
    }

    fn fallocate(&self, node: INodeNo, offset: u64, bytes: u64, mode: i32) -> Result<()> {
        let (mut inner, _) = self.enter(Call::Allocate, node)?;
        let state = &mut inner.state;
        match mode & !KEEP_SIZE {
            0 => state.allocate(node.0, offset, bytes, mode & KEEP_SIZE == 0),
            PUNCH_HOLE => state.file(node.0).map(|file| file.zero(offset, bytes, true)),
            ZERO_RANGE => {
                state.file(node.0)?.zero(offset, bytes, false);
                state.allocate(node.0, offset, bytes, mode & KEEP_SIZE == 0)
            }
            _ => Err(Errno::EOPNOTSUPP),
        }
    }
}

/// The file system as the kernel sees it.
#[derive(Debug)]
pub(super) struct Fuse(pub(super) Arc<Shared>);

/// Answers with a result.
macro_rules! answer {
    ($reply:ident, $result:expr, $value:pat => $good:expr) => {
        match $result {
            Ok($value) => $good,
            Err(error) => $reply.error(error),
        }
    };
}

impl Filesystem for Fuse {
    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        answer!(reply, self.0.lookup(parent, name), attr => reply.entry(&TTL, &attr, Generation(0)));
    }

    fn getattr(&self, _: &Request, node: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        let attr = self.0.look(node).and_then(|inner| Shared::attr(&inner, node.0));
        answer!(reply, attr, attr => reply.attr(&TTL, &attr));
    }

    fn setattr(
        &self,
        _: &Request,
        node: INodeNo,
        _mode: Option<u32>,
        _uid: Option<u32>,
        _gid: Option<u32>,
        size: Option<u64>,
        _atime: Option<TimeOrNow>,
        _mtime: Option<TimeOrNow>,
        _ctime: Option<std::time::SystemTime>,
        _: Option<FileHandle>,
        _crtime: Option<std::time::SystemTime>,
        _chgtime: Option<std::time::SystemTime>,
        _bkuptime: Option<std::time::SystemTime>,
        _flags: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        answer!(reply, self.0.set_len(node, size), attr => reply.attr(&TTL, &attr));
    }

    fn mkdir(&self, _: &Request, parent: INodeNo, name: &OsStr, mode: u32, _umask: u32, reply: ReplyEntry) {
        let made = self.0.make(parent, name, mode, Kind::Directory(Names::default()), false);
        answer!(reply, made, attr => reply.entry(&TTL, &attr, Generation(0)));
    }

    fn create(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        _umask: u32,
        _flags: i32,
        reply: ReplyCreate,
    ) {
        let made = self.0.make(parent, name, mode, Kind::File(Contents::default()), true);
        answer!(reply, made, attr => {
            reply.created(&TTL, &attr, Generation(0), FileHandle(0), FopenFlags::FOPEN_KEEP_CACHE);
        });
    }

    fn open(&self, _: &Request, node: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        let opened = self.0.look(node).and_then(|mut inner| inner.state.open(node.0));
        answer!(reply, opened, () => reply.opened(FileHandle(0), FopenFlags::FOPEN_KEEP_CACHE));
    }

    fn release(
        &self,
        _: &Request,
        node: INodeNo,
        _: FileHandle,
        _: OpenFlags,
        _: Option<LockOwner>,
        _flush: bool,
        reply: ReplyEmpty,
    ) {
        self.0.lock().state.release(node.0);
        reply.ok();
    }

    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        reply.ok();
    }

    fn read(
        &self,
        _: &Request,
        node: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        match self.0.enter(Call::Read, node) {
            Ok((mut inner, _)) => answer!(reply, inner.state.file(node.0), file => {
                reply.data(file.read(offset, size as usize));
            }),
            Err(error) => reply.error(error),
        }
    }

    fn write(
        &self,
        _: &Request,
        node: INodeNo,
        _: FileHandle,
        offset: u64,
        data: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let written = self
            .0
            .enter(if is_zeros(data) { Call::Fill } else { Call::Write }, node)
            .and_then(|(mut inner, how)| inner.state.write(node.0, offset, data, how));
        answer!(reply, written, bytes => reply.written(bytes as u32));
    }

    fn fsync(&self, _: &Request, node: INodeNo, _: FileHandle, _datasync: bool, reply: ReplyEmpty) {
        let call = self.0.lock().state.sync_call(node.0);
        let synced = self.0.enter(call, node).and_then(|(mut inner, how)| inner.state.sync_file(node.0, how));
        answer!(reply, synced, () => reply.ok());
    }

    fn fsyncdir(&self, _: &Request, node: INodeNo, _: FileHandle, _datasync: bool, reply: ReplyEmpty) {
        let synced =
            self.0.enter(Call::SyncDir, node).and_then(|(mut inner, _)| inner.state.sync_directory(node.0));
        answer!(reply, synced, () => reply.ok());
    }

    fn fallocate(
        &self,
        _: &Request,
        node: INodeNo,
        _: FileHandle,
        offset: u64,
        length: u64,
        mode: i32,
        reply: ReplyEmpty,
    ) {
        answer!(reply, self.0.fallocate(node, offset, length, mode), () => reply.ok());
    }

    fn lseek(&self, _: &Request, node: INodeNo, _: FileHandle, offset: i64, whence: i32, reply: ReplyLseek) {
        let found = self.0.look(node).and_then(|mut inner| {
            let file = inner.state.file(node.0)?;
            match whence {
                SEEK_DATA | SEEK_HOLE => file.seek(offset as u64, whence == SEEK_DATA).ok_or(Errno::ENXIO),
                _ => Err(Errno::EINVAL),
            }
        });
        answer!(reply, found, at => reply.offset(at as i64));
    }

    fn unlink(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let removed =
            self.0.enter_name(Call::Remove, name).and_then(|mut inner| inner.state.remove(parent.0, name));
        answer!(reply, removed, () => reply.ok());
    }

    fn rmdir(&self, request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        self.unlink(request, parent, name, reply);
    }

    fn rename(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        new_parent: INodeNo,
        new_name: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        // From one directory into another is two changes on the medium, and nobody here needs it.
        let renamed = match (parent == new_parent, flags.is_empty()) {
            (true, true) => self
                .0
                .enter_name(Call::Rename, new_name)
                .and_then(|mut inner| inner.state.rename(parent.0, name, new_name)),
            (false, _) => Err(Errno::EXDEV),
            (_, false) => Err(Errno::EINVAL),
        };
        answer!(reply, renamed, () => reply.ok());
    }

    fn readdir(&self, _: &Request, node: INodeNo, _: FileHandle, offset: u64, mut reply: ReplyDirectory) {
        let listed = self.0.look(node).and_then(|mut inner| inner.state.list(node.0));
        let entries = match listed {
            Ok(entries) => entries,
            Err(error) => return reply.error(error),
        };
        let dots = [(".".into(), node.0, true), ("..".into(), node.0, true)];
        let all = dots.into_iter().chain(entries).enumerate().skip(offset as usize);
        for (place, (name, number, directory)) in all {
            let kind = if directory { FileType::Directory } else { FileType::RegularFile };
            if reply.add(INodeNo(number), place as u64 + 1, kind, name) {
                break;
            }
        }
        reply.ok();
    }

    fn statfs(&self, _: &Request, _: INodeNo, reply: ReplyStatfs) {
        let inner = self.0.lock();
        let (all, left) = (inner.state.capacity, inner.state.room_left());
        reply.statfs(all, left, left, 1 << 20, 1 << 20, BLOCK_BYTES as u32, 255, BLOCK_BYTES as u32);
    }
}
